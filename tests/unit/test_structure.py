"""Rules about the tree itself, because a rule without a checker drifts."""

from __future__ import annotations

import ast
import doctest
import importlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PLUGINS = ROOT / "plugins"
LIBRARY = PLUGINS / "ponte"
MODULES = sorted(LIBRARY.rglob("*.py"))
MAXIMUM_LINES = 350
UNPICKLERS = {"load", "loads", "Unpickler", "read_pickle"}
PICKLES = {"pickle", "_pickle", "cPickle", "joblib", "cloudpickle", "dill", "pandas", "shelve", "marshal"}


def shown(path: Path) -> str:
    return path.relative_to(LIBRARY).as_posix()


def imported(tree: ast.AST) -> Iterator[str]:
    """Yield the absolute name of every imported module."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""


def unpickles(tree: ast.AST) -> bool:
    """Tell whether the module names anything that turns bytes into objects, under whatever alias."""
    aliases: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            aliases |= {(a.asname or a.name).split(".")[0]: a.name.split(".")[0] for a in node.names}
        elif (
            isinstance(node, ast.ImportFrom)
            and (node.module or "").split(".")[0] in PICKLES
            and (UNPICKLERS | {"*"}) & {alias.name for alias in node.names}
        ):
            return True
    return any(
        isinstance(node, ast.Attribute)
        and node.attr in UNPICKLERS
        and isinstance(node.value, ast.Name)
        and aliases.get(node.value.id) in PICKLES
        for node in ast.walk(tree)
    )


@cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def test_the_tree_is_where_these_rules_look() -> None:
    assert {"versions.py", "spec.py", "operators/base.py"} <= {shown(p) for p in MODULES}


@pytest.mark.parametrize("path", MODULES, ids=shown)
def test_module_has_no_more_than_350_lines(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= MAXIMUM_LINES


@pytest.mark.parametrize("path", MODULES, ids=shown)
def test_module_is_named_after_what_is_in_it(path: Path) -> None:
    assert not re.fullmatch(r"_*(utils?|helpers?|common|misc|shared|core|base2)", path.stem)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("import joblib\njoblib.load(f)", True),
        ("import pickle as p\np.loads(b)", True),
        ("from pickle import loads as read", True),
        ("from cloudpickle import *", True),
        ("import pandas as pd\npd.read_pickle(f)", True),
        ("import pickle\nread = pickle.Unpickler", True),
        ("import joblib\njoblib.dump(m, f)", False),
        ("import json\njson.loads(t)", False),
    ],
)
def test_unpickling_is_recognised_under_any_name(text: str, expected: bool) -> None:
    assert unpickles(ast.parse(text)) is expected


def test_exactly_one_module_unpickles() -> None:
    """`versions.py` does so after it has verified the bytes; a second place would be a way around it."""
    outside = [*(ROOT / "dags").rglob("*.py"), *(ROOT / "include").rglob("*.py")]
    assert [p for p in [*MODULES, *outside] if unpickles(parsed(p))] == [LIBRARY / "versions.py"]


def test_only_operators_import_airflow() -> None:
    importers = {p for p in MODULES if any(name.split(".")[0] == "airflow" for name in imported(parsed(p)))}
    assert importers
    assert {p.parent for p in importers} == {LIBRARY / "operators"}


def test_imports_are_absolute() -> None:
    relative = [
        shown(path)
        for path in MODULES
        for node in ast.walk(parsed(path))
        if isinstance(node, ast.ImportFrom) and node.level
    ]
    assert relative == []


def test_airflow_executes_one_file_as_plugin_and_not_the_library() -> None:
    """Airflow executes every Python file below plugins/ that this file does not cover, under its bare name."""
    patterns = (PLUGINS / ".airflowignore").read_text(encoding="utf-8").split()
    assert patterns == ["ponte/"]
    found = [p for p in PLUGINS.iterdir() if p.suffix == ".py" or (p.is_dir() and p != LIBRARY)]
    assert [p for p in found if p.name != "__pycache__"] == [PLUGINS / "ponte_plugin.py"]


@pytest.mark.usefixtures("airflow")
def test_the_plugin_loads_nothing_before_somebody_looks_into_it(tmp_path: Path) -> None:
    """Every task executes it. A process of its own, because this one has loaded the library already."""
    program = (
        "import json, runpy, sys\n"
        "import airflow.sdk.plugins_manager\n"
        "before = set(sys.modules)\n"
        f"plugin = runpy.run_path({str(PLUGINS / 'ponte_plugin.py')!r})['PontePlugin']\n"
        "plugin.validate(), len(plugin.fastapi_apps), plugin.operator_extra_links\n"
        "print(json.dumps([sorted(set(sys.modules) - before), sorted({m.split('.')[0] for m in sys.modules})]))\n"
    )
    environment = {**os.environ, "AIRFLOW_HOME": str(tmp_path), "PYTHONPATH": str(PLUGINS)}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    loaded, everything = json.loads(done.stdout.splitlines()[-1])
    assert set(loaded) <= {"runpy", "pkgutil", "importlib.util"}
    assert not {"ponte", "fastapi", "sklearn", "pandas", "numpy", "matplotlib"} & set(everything)


@pytest.mark.parametrize("path", [p for p in MODULES if ">>>" in p.read_text(encoding="utf-8")], ids=shown)
def test_examples_in_docstrings_are_true(path: Path) -> None:
    name = ".".join(path.relative_to(PLUGINS).with_suffix("").parts)
    found = doctest.testmod(importlib.import_module(name))
    assert found.attempted > 0
    assert found.failed == 0
