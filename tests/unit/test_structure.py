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
PICKLES = {"pickle", "_pickle", "cPickle", "joblib", "cloudpickle", "dill", "pandas", "shelve", "marshal", "skops"}
#: What takes SQL, as a name or as an attribute: `sa.text`, `connection.exec_driver_sql`.
TAKES_SQL = {"text", "exec_driver_sql"}
#: No part of the library: the demo, the pages of the web server, migrations that run once.
SQL_IN_PLACE = ("demo/", "web/", "schema/migrations/")
FUNCTION = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)


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


def static_text(node: ast.AST, local: dict[str, list[ast.expr]]) -> str | None:
    """Return a text that is the same at every call, constants of the module as `?` in it; None for any other."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.FormattedValue):
        node = node.value
    if isinstance(node, ast.Name) and node.id in local:
        found = [static_text(value, {}) for value in local[node.id]]
        return next(filter(None, found), None)
    if isinstance(node, ast.Name) and node.id.isupper():
        return "?"
    parts = node.values if isinstance(node, ast.JoinedStr) else []
    if isinstance(node, ast.BinOp):
        parts = [node.left, node.right]
    texts = [static_text(part, local) for part in parts]
    return "".join(filter(None, texts)) if texts and None not in texts else None


def static_sql(tree: ast.AST) -> list[tuple[int, str]]:
    """Return (line, text) of every static statement about a table that stands inside a function."""
    found = set()
    for function in (node for node in ast.walk(tree) if isinstance(node, FUNCTION)):
        local: dict[str, list[ast.expr]] = {}
        for node in ast.walk(function):
            if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
                local.setdefault(node.targets[0].id, []).append(node.value)
        for call in (node for node in ast.walk(function) if isinstance(node, ast.Call) and node.args):
            if getattr(call.func, "attr", getattr(call.func, "id", "")) in TAKES_SQL:
                text = static_text(call.args[0], local) or ""
                if re.search(r"\b(FROM|INSERT|UPDATE|DELETE)\b", text):
                    found.add((call.lineno, " ".join(text.split())))
    return sorted(found)


def strangers_private_names(tree: ast.AST) -> list[tuple[int, str]]:
    """Return (line, name) of every private name of another module of ours that is imported or reached for."""
    ours: set[str] = set()
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names if alias.name.split(".")[0] == "ponte"]
            ours |= {alias.asname or "ponte" for alias in node.names if alias.name in names}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "ponte":
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            ours |= {alias.asname or alias.name for alias in node.names}
        else:
            continue
        found += [(node.lineno, name) for name in names if any(private(part) for part in name.split("."))]
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and private(node.attr):
            name = ast.unparse(node)
            if name.split(".")[0] in ours:
                found.append((node.lineno, name))
    return sorted(found)


def private(name: str) -> bool:
    return name.startswith("_") and not name.endswith("__")


@cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def test_the_tree_is_where_these_rules_look() -> None:
    assert {"runtime.py", "model/spec.py", "versions/loading.py", "operators/base.py"} <= {shown(p) for p in MODULES}


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
    """`loading.py` does so after it has verified the bytes; a second place would be a way around it."""
    outside = [*(ROOT / "dags").rglob("*.py"), *(ROOT / "include").rglob("*.py")]
    assert [p for p in [*MODULES, *outside] if unpickles(parsed(p))] == [LIBRARY / "versions" / "loading.py"]


def test_only_operators_rights_and_web_import_airflow() -> None:
    importers = {p for p in MODULES if any(name.split(".")[0] == "airflow" for name in imported(parsed(p)))}
    assert importers
    assert {p.parent for p in importers} == {LIBRARY / "operators", LIBRARY / "rights", LIBRARY / "web"}


def test_imports_are_absolute() -> None:
    relative = [
        shown(path)
        for path in MODULES
        for node in ast.walk(parsed(path))
        if isinstance(node, ast.ImportFrom) and node.level
    ]
    assert relative == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("def f(c): c.execute(sa.text('SELECT a FROM b'))", True),
        ("def f(c): c.exec_driver_sql('DELETE ' + 'FROM b')", True),
        ("def f(c):\n    query = text('UPDATE b SET a = 1')\n    c.execute(query)", True),
        ("def f(c):\n    query = 'SELECT FROM b'\n    c.exec_driver_sql(query)", True),
        ("def f(c): c.exec_driver_sql(f'SELECT a FROM {_TABLE}')", True),
        ("async def f(c): await c.run(lambda: c.exec_driver_sql('INSERT INTO b'))", True),
        ("A = sa.text('SELECT a FROM b')\ndef f(c): c.execute(A)", False),
        ("def f(c, name): c.exec_driver_sql(f'SELECT a FROM {quote(name)}')", False),
        ("def f(c, query): c.execute(sa.text(query))", False),
        ("def f(c): c.exec_driver_sql('SHOW server_version')", False),
        ("def f(folder): folder.text('features.sql')", False),
    ],
)
def test_static_sql_inside_a_function_is_recognised(text: str, expected: bool) -> None:
    assert bool(static_sql(ast.parse(text))) is expected


def test_static_sql_is_a_constant_at_the_top_of_its_module() -> None:
    """There it can be read as SQL, and the function says what it does. What names its tables at each call stays."""
    found = [
        f"{shown(path)}:{line}: {text[:60]}"
        for path in MODULES
        if not shown(path).startswith(SQL_IN_PLACE)
        for line, text in static_sql(parsed(path))
    ]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("from ponte.model.spec import _parse", True),
        ("from ponte.model._toml import parse", True),
        ("from ponte.model import spec\nspec._parse()", True),
        ("from ponte.model import spec as s\ns.Guard._rules", True),
        ("import ponte.model.spec\nponte.model.spec._parse()", True),
        ("import ponte.model.spec as s\nf(s._parse)", True),
        ("from ponte.model.spec import Guard\nGuard.__dataclass_fields__", False),
        ("from ponte.model import spec\nspec.parse()", False),
        ("class A:\n    def f(self): self._g()", False),
        ("from __future__ import annotations\nimport _thread\n_thread._count()", False),
    ],
)
def test_private_names_of_other_modules_are_recognised(text: str, expected: bool) -> None:
    assert bool(strangers_private_names(ast.parse(text))) is expected


def test_no_module_uses_a_private_name_of_another() -> None:
    """An underscore promises that whoever changes the name has to look at one file only."""
    found = [
        f"{shown(path)}:{line}: {name}" for path in MODULES for line, name in strangers_private_names(parsed(path))
    ]
    assert not found, "\n".join(found)


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
        "plugin.validate(), len(plugin.fastapi_apps), len(plugin.timetables), plugin.operator_extra_links\n"
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


# ---------------------------------------------------------------- packages

#: Modules by package; a package's `__init__` and `__main__` do not count.
PACKAGES = {
    name: [p for p in MODULES if p.parent == LIBRARY / name and not p.stem.startswith("__")]
    for name in sorted({p.relative_to(LIBRARY).parts[0] for p in MODULES if p.parent != LIBRARY})
}
#: Packages that need not have two modules, and why.
SMALL: dict[str, str] = {}
#: Folders of revisions: Alembic finds them by the place of `__init__.py`, which therefore holds `upgrade`, and loads
#: the scripts in there by path. No DAG file comes near them.
REVISIONS = {"schema/migrations", "schema/migrations/versions"}
#: Model folders of the demo, which are copied to include/models/: no package, and nobody imports them.
EXAMPLES = {"demo/models/comment_sentiment", "demo/models/loan_amount"}


def test_packages_are_one_level_deep() -> None:
    assert {shown(p.parent) for p in MODULES if len(p.relative_to(LIBRARY).parts) > 2} == REVISIONS | EXAMPLES


def test_beside_the_packages_there_are_errors_and_runtime() -> None:
    assert {p.name for p in LIBRARY.glob("*.py")} == {"__init__.py", "errors.py", "runtime.py"}


def test_a_package_has_two_to_eight_modules() -> None:
    """With fewer it is a module in a folder of its own; with more nobody finds anything in one look."""
    assert {"model", "snapshots", "batches", "decisions"} <= PACKAGES.keys()
    assert {name for name, modules in PACKAGES.items() if not 2 <= len(modules) <= 8} == SMALL.keys()


#: The one package whose names people type, `from ponte.notebook import frame`: no DAG file and no task comes near it.
TYPED_BY_PEOPLE = "notebook"


def test_init_of_a_package_holds_one_docstring_and_nothing_else() -> None:
    """A DAG file reads `model.spec`; an import in the package's `__init__` would make it load the rest of `model/`."""
    for name in ("", *(PACKAGES.keys() - {TYPED_BY_PEOPLE})):
        module = parsed(LIBRARY / name / "__init__.py")
        assert ast.get_docstring(module), name
        assert len(module.body) == 1, name


def test_the_package_for_people_exports_names_of_its_own_modules_and_nobody_below_the_door_imports_it() -> None:
    package = f"ponte.{TYPED_BY_PEOPLE}"
    docstring, *imports, exported = parsed(LIBRARY / TYPED_BY_PEOPLE / "__init__.py").body
    assert isinstance(docstring, ast.Expr)
    assert imports
    assert all(isinstance(node, ast.ImportFrom) and (node.module or "").startswith(f"{package}.") for node in imports)
    assert ast.unparse(exported).startswith("__all__ = ")
    importers = {
        p.parent.name
        for p in MODULES
        for name in imported(parsed(p))
        if name == package or name.startswith(f"{package}.")
    }
    assert importers == {TYPED_BY_PEOPLE, "cli"}


# ---------------------------------------------------------------- who calls an estimator

ASKED = {
    *("fit", "predict", "predict_proba", "decision_function", "transform"),
    *("fit_transform", "fit_predict", "score_samples"),
}


def calls_an_estimator(tree: ast.AST) -> bool:
    """Tell whether the module reaches for a method by which estimators are asked.

    Functions of Ponte may have such names, `predicting.fit` for one: what is imported from Ponte is no estimator.
    """
    own = {
        alias.asname or alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "ponte"
        for alias in node.names
    }
    return any(
        isinstance(node, ast.Attribute)
        and node.attr in ASKED
        and not (isinstance(node.value, ast.Name) and node.value.id in own)
        for node in ast.walk(tree)
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("model.predict(rows)", True),
        ("fitted.estimator.predict_proba(rows)", True),
        ("say = model.decision_function", True),
        ("from sklearn import dummy\ndummy.DummyClassifier().fit(x, y)", True),
        ("from ponte.versions import predicting\npredicting.fit(model, x, y)", False),
        ("from ponte.versions import predicting\nmodel.fit(x, y)", True),
        ("from ponte.versions.predicting import fit\nfit(model, x, y)", False),
        ("hasattr(model, 'predict_proba')", False),
    ],
)
def test_asking_an_estimator_is_recognised(text: str, expected: bool) -> None:
    assert calls_an_estimator(ast.parse(text)) is expected


def test_exactly_one_module_calls_an_estimator() -> None:
    """What an estimator says is held against what it must be in there; a second place would believe it unseen."""
    assert [shown(p) for p in MODULES if calls_an_estimator(parsed(p))] == ["versions/predicting.py"]


# ---------------------------------------------------------------- who reads the environment

#: What runs for somebody: Airflow, a person at a terminal, another program. All else gets what it needs as arguments.
ENTRANCES = {"cli", "notebook", "operators", "web", "local", "backup", "embedded", "schema", "runtime.py"}


def reads_the_environment(tree: ast.AST) -> bool:
    """Tell whether the module names the environment of its process, under whatever alias."""
    names = {"environ", "environb", "getenv", "getenvb"}
    aliases = {
        alias.asname or alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.Import)
        for alias in node.names
        if alias.name == "os"
    }
    return any(
        (isinstance(node, ast.ImportFrom) and node.module == "os" and (names | {"*"}) & {a.name for a in node.names})
        or (
            isinstance(node, ast.Attribute)
            and node.attr in names
            and isinstance(node.value, ast.Name)
            and node.value.id in aliases
        )
        for node in ast.walk(tree)
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("import os\nos.environ['A']", True),
        ("def f():\n    import os as system\n    return system.getenv('A')", True),
        ("from os import environ as e", True),
        ("import os\nos.getpid()", False),
        ("def f(environ):\n    return environ['A']", False),
    ],
)
def test_reading_the_environment_is_recognised(text: str, expected: bool) -> None:
    assert reads_the_environment(ast.parse(text)) is expected


def test_the_library_never_reads_the_environment() -> None:
    """What a step needs is brought by `runtime.py` or the entrance itself, so that a test can bring something else."""
    readers = {shown(p) for p in MODULES if reads_the_environment(parsed(p))}
    assert "runtime.py" in readers
    assert [name for name in sorted(readers) if name.split("/")[0] not in ENTRANCES] == []
    assert {path.name for path in LIBRARY.iterdir()} >= ENTRANCES


# ---------------------------------------------------------------- two columns

TRAINING = {"training", "pages", "quality", "snapshots"}
SCORING = {"scoring", "publishing", "batches"}


def test_training_and_scoring_do_not_import_each_other() -> None:
    """import-linter knows lines and no columns: it would let `publishing` import `snapshots`."""
    known = {
        (name, imported_name.split(".")[1])
        for name in TRAINING | SCORING
        for path in PACKAGES[name]
        for imported_name in imported(parsed(path))
        if imported_name.startswith("ponte.")
    }
    assert {("training", "snapshots"), ("scoring", "batches")} <= known
    assert {(a, b) for a, b in known if (a in TRAINING and b in SCORING) or (a in SCORING and b in TRAINING)} == set()


# ---------------------------------------------------------------- tests


@pytest.mark.parametrize("folder", ["unit", "postgres"])
def test_folders_of_tests_are_named_after_the_packages(folder: str) -> None:
    """Whoever changes a package finds its tests by its name; what is about several packages lies beside the folders."""
    folders = {p.parent.name for p in (ROOT / "tests" / folder).glob("*/test_*.py")}
    assert len(folders) > 8
    assert folders <= PACKAGES.keys()
