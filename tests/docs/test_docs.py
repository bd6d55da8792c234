"""The documentation is complete: whatever a reader can name, a page explains. Fast, and without a database."""

from __future__ import annotations

import ast
import inspect
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest

from ponte import errors
from ponte.errors import StackError
from ponte.model import spec, windows
from ponte.model import toml as model_toml
from ponte.model.queries import PARAMETERS
from ponte.quality.figures import (
    BASELINE,
    CANDIDATE,
    CONSTANT,
    FEATURE,
    IMPORTANCE,
    champion_subject,
    difference_subject,
)
from ponte.steering.actions import ACTIONS, MARKS
from ponte.storage.columns import FAMILIES
from ponte.storage.prediction_columns import RESERVED_COLUMNS

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
REFERENCE = DOCS / "reference"
ARCHITECTURE = DOCS / "explanation" / "architecture.md"
LIBRARY = ROOT / "plugins" / "ponte"
REVISIONS = sorted((LIBRARY / "schema" / "migrations" / "versions").glob("*.sql"))
#: Code blocks; what looks like a heading or a link in there is none.
FENCED = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
CARDS = [*(ROOT / "include" / "models").glob("*/README.md"), *(LIBRARY / "demo" / "models").glob("*/README.md")]
PAGES = [*ROOT.glob("*.md"), *sorted(DOCS.rglob("*.md")), *sorted(CARDS)]


def read(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def parts_of_model_toml() -> Iterator[tuple[str, type[spec.Table | spec.Check]]]:
    """Yield (heading of the part's section, its class)."""
    yield "### Top level", spec.ModelSpec
    for name, field in spec.ModelSpec.model_fields.items():
        for found in (field.annotation, *get_args(field.annotation)):
            if isinstance(found, type) and issubclass(found, spec.Table):
                yield f"### `[{name}]`", found
            elif found is spec.Check:
                yield f"### `[[{name}]]`", found


def section(text: str, heading: str) -> str:
    """Return the text below the heading that begins so, up to the next heading of any level."""
    found = re.search(rf"^{re.escape(heading)}.*?$(.*?)(?=^#|\Z)", text, re.MULTILINE | re.DOTALL)
    assert found, f"no heading that begins with {heading!r}"
    return found[1]


def table(text: str) -> dict[str, list[str]]:
    """Return the cells of each row of the first table whose first cell is code, by that code."""
    first = re.search(r"^\|.*?(?=^(?!\|)|\Z)", text, re.MULTILINE | re.DOTALL)
    assert first, "no table"
    rows = re.findall(r"^\| `([^`]+)` \|(.*)\|$", first[0], re.MULTILINE)
    return {name: [cell.strip() for cell in rest.split("|")] for name, rest in rows}


def is_a_part(name: str) -> bool:
    return any(heading in (f"### `[{name}]`", f"### `[[{name}]]`") for heading, _ in parts_of_model_toml())


@pytest.mark.parametrize(("heading", "part"), [pytest.param(h, p, id=p.__name__) for h, p in parts_of_model_toml()])
def test_every_key_of_model_toml_has_a_row_and_every_row_is_a_key(heading: str, part: type[spec.Table]) -> None:
    documented = table(section(read(REFERENCE / "model-folder.md"), heading))
    keys = {name for name in part.model_fields if not (part is spec.ModelSpec and is_a_part(name))}
    assert documented.keys() == keys


@pytest.mark.parametrize(("heading", "part"), [pytest.param(h, p, id=p.__name__) for h, p in parts_of_model_toml()])
def test_defaults_of_model_toml_are_those_of_the_code(heading: str, part: type[spec.Table]) -> None:
    documented = table(section(read(REFERENCE / "model-folder.md"), heading))
    wrong = {}
    for name, cells in documented.items():
        field, said = part.model_fields[name], cells[1]
        if field.is_required():
            expected = ["required"]
        elif field.default is None:
            expected = ["none", "none: for ever"]
        elif isinstance(field.default, tuple):
            expected = [f"`{list(field.default)}`"]
        elif isinstance(field.default, str):
            expected = [f'`"{field.default}"`']
        elif isinstance(field.default, bool):
            expected = [f"`{str(field.default).lower()}`"]
        else:
            expected = [f"`{field.default}`", f"`{field.default:_}`" if isinstance(field.default, int) else ""]
        if said not in expected and said.partition(" (")[0] not in expected:
            wrong[name] = (said, expected)
    assert not wrong


def test_metrics_parameters_types_and_reserved_names_are_documented() -> None:
    text = read(REFERENCE / "model-folder.md")
    names = [metric for metrics in spec.METRICS.values() for metric in metrics]
    names += [*RESERVED_COLUMNS, *(t for t in FAMILIES if t != "bpchar"), *(f":{p}" for p in PARAMETERS)]
    assert not [name for name in names if f"`{name}`" not in text]


def sql_of_the_schema() -> str:
    """Return what makes the schema `ponte`: the revisions in their order, and the views."""
    views = sorted((LIBRARY / "schema" / "views").glob("*.sql"))
    assert views
    return "\n".join(read(file) for file in (*REVISIONS, *views))


@pytest.mark.parametrize("kind", ["TABLE", "VIEW", "FUNCTION"])
def test_every_table_view_and_function_is_documented(kind: str) -> None:
    text = read(REFERENCE / "tables.md")
    names = set(re.findall(rf"CREATE (?:OR REPLACE )?{kind} (ponte\.\w+)", sql_of_the_schema()))
    assert names
    assert not {name for name in names if not re.search(rf"`{re.escape(name)}[`(]", text)}


def test_every_column_is_documented_below_its_table() -> None:
    text = read(REFERENCE / "tables.md")
    columns = re.findall(r"COMMENT ON COLUMN ponte\.(\w+)\.(\w+)", sql_of_the_schema())
    assert columns
    assert not [(t, c) for t, c in columns if c not in table(section(text, f"### `ponte.{t}`"))]


def test_every_setting_is_documented() -> None:
    sources = [*(ROOT / "plugins").rglob("*.py"), *(ROOT / "dags").glob("*.py"), ROOT / "Makefile"]
    used = {name for file in sources for name in re.findall(r"\bPONTE_[A-Z][A-Z_]*[A-Z]\b", read(file))}
    assert "PONTE_HOME" in used
    text = read(REFERENCE / "settings.md")
    assert not {name for name in used if f"`{name}`" not in text}


def test_every_documented_setting_is_read_somewhere() -> None:
    files = [ROOT / "Makefile", ROOT / "docker-compose.yaml", *(ROOT / "docker").glob("*.*")]
    files += [file for folder in ("plugins", "dags", "config", "tests") for file in (ROOT / folder).rglob("*.py")]
    used = {name for file in files for name in re.findall(r"\bPONTE_[A-Z][A-Z_]*[A-Z]\b", read(file))}
    documented = set(re.findall(r"`(PONTE_[A-Z_]+)`", read(REFERENCE / "settings.md")))
    assert "PONTE_MODELS" in documented
    assert documented - used == set()


def make_targets() -> set[str]:
    return set(re.findall(r"^([a-z][a-z-]*):", read(ROOT / "Makefile"), re.MULTILINE))


def test_every_make_target_is_documented_and_every_documented_one_exists() -> None:
    text = "\n".join(read(page) for page in PAGES)
    mentioned = set(re.findall(r"(?:`|^)make (?:-s )?([a-z][a-z-]*)", text, re.MULTILINE))
    assert mentioned == make_targets()


def test_every_error_is_documented() -> None:
    classes = [c for _, c in inspect.getmembers(errors, inspect.isclass) if issubclass(c, errors.PonteError)]
    documented = table(read(REFERENCE / "errors.md"))
    assert documented.keys() == {c.__name__ for c in (*classes, StackError)}


def rows(text: str) -> list[list[str]]:
    """Return the cells of each row of the first table in the text, without its head."""
    first = re.search(r"^\|.*?(?=^(?!\|)|\Z)", text, re.MULTILINE | re.DOTALL)
    assert first, "no table"
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in first[0].splitlines()[2:]]


def operators_of_dags() -> Iterator[tuple[str, str, str]]:
    """Yield (id of the DAG, task, class of its operator) of every task that the DAG files, or a broken folder, have."""
    for file in (*sorted((ROOT / "dags").glob("*.py")), LIBRARY / "operators" / "dags.py"):
        for block in (node for node in ast.walk(ast.parse(read(file))) if isinstance(node, ast.With)):
            opened = block.items[0].context_expr
            if not (isinstance(opened, ast.Call) and ast.unparse(opened.func) == "DAG"):
                continue
            dag = re.sub(r"\{(\w+)\}", r"<\1>", ast.literal_eval(ast.unparse(opened.args[0]).removeprefix("f")))
            for call in (node for node in ast.walk(block) if isinstance(node, ast.Call)):
                task = [
                    k.value.value for k in call.keywords if k.arg == "task_id" and isinstance(k.value, ast.Constant)
                ]
                if task:
                    yield dag.replace("<model>", "<name>"), task[0], ast.unparse(call.func).removesuffix(".partial")


def test_every_task_is_documented_with_its_dag_and_its_operator() -> None:
    tasks = set(operators_of_dags())
    assert {
        ("<name>__train", "approve", "ApproveOperator"),
        ("<name>__score", "score", "ScoreOperator"),
        ("ponte__rollback", "clean_up", "CleanUpOperator"),
        ("<name>__<pipeline>", "read_model_folder", "BrokenFolderOperator"),
    } <= tasks
    documented = rows(section(read(ARCHITECTURE), "## Tasks and their operators"))
    assert {tuple(re.findall(r"`([^`]+)`", cell)[0] for cell in row[:3]) for row in documented} == tasks


def test_every_operator_is_documented_with_what_it_calls() -> None:
    classes = {
        node.name: node
        for file in sorted((LIBRARY / "operators").glob("*.py"))
        for node in ast.parse(read(file)).body
        if isinstance(node, ast.ClassDef) and node.name.endswith("Operator") and node.name != "PonteOperator"
    }
    assert {"TrainOperator", "ScoreOperator", "RollBackOperator", "ApproveOperator"} <= classes.keys()
    documented = rows(section(read(ARCHITECTURE), "## Tasks and their operators"))
    assert {row[2].strip("`") for row in documented} == classes.keys()
    for *_, operator, calls in documented:
        imports = {
            f"{node.module}.{alias.name}"
            for node in ast.walk(classes[operator.strip("`")])
            if isinstance(node, ast.ImportFrom)
            for alias in node.names
        }
        named = {f"ponte.{name}" for name in re.findall(r"`([^`]+)`", calls)}
        assert named or calls.startswith("nothing"), operator
        assert named <= imports, operator


def test_every_package_and_every_module_has_its_place_in_the_architecture() -> None:
    modules: dict[str, set[str]] = {}
    for path in LIBRARY.rglob("*.py"):
        package, *inside = path.relative_to(LIBRARY).parts
        if len(inside) == 1:
            modules.setdefault(f"{package}/", set())
            if not inside[0].startswith("__"):
                modules[f"{package}/"].add(inside[0])
    assert {"loading.py", "choice.py"} <= modules["versions/"]
    assert len(modules) > 10
    text = read(ARCHITECTURE)
    listed = {
        row[0].strip("`"): set(re.findall(r"`(\w+\.py)`", row[1])) for row in rows(section(text, "## Every module"))
    }
    assert listed == modules
    tree = re.findall(r"^[├└]── (\S+) +\w", section(text, "## The tree"), re.MULTILINE)
    alone = {path.name for path in LIBRARY.glob("[a-z]*.py")}
    assert sorted(tree) == sorted([*modules, *alone])


def test_the_picture_of_the_layers_is_what_import_linter_checks() -> None:
    contracts = tomllib.loads(read(ROOT / "pyproject.toml"))["tool"]["importlinter"]["contracts"]
    [layers] = [contract["layers"] for contract in contracts if contract["id"] == "layers"]
    blocks = FENCED.findall(section(read(ARCHITECTURE), "## What stands on what"))
    [picture] = [block.splitlines() for block in blocks]
    places = [
        [number for number, line in enumerate(picture) if layer.split(" | ")[0] in line.split()] for layer in layers
    ]
    assert len(places) > 5
    assert [len(found) for found in places] == [1] * len(layers), "each layer has one line"
    assert places == sorted(places)
    assert not [
        word
        for layer, [number] in zip(layers, places, strict=True)
        for word in layer.split(" | ")
        if word not in picture[number].split()
    ]


NOW = [page for page in PAGES if page.name != "CHANGELOG.md"]  # which also names what is gone


def test_every_path_of_a_source_file_is_there() -> None:
    """Paths are those of the repository, or of the library."""
    paths = {(page, found) for page in NOW for found in re.findall(r"`([\w./]+/[\w.]+\.(?:py|sql))`", read(page))}
    assert {"versions/loading.py", "plugins/ponte/errors.py"} <= {found for _, found in paths}
    gone = {(page, found) for page, found in paths if not any((at / found).exists() for at in (ROOT, LIBRARY))}
    assert not [(page.relative_to(ROOT).as_posix(), found) for page, found in sorted(gone)]


def test_every_dag_for_all_models_is_documented_with_its_form() -> None:
    code = read(ROOT / "dags" / "decide.py")
    dags, tasks = re.findall(r'"(ponte__\w+)"', code), re.findall(r'task_id="(\w+)"', code)
    fields = [field for action in ACTIONS if action.dag in dags for field in action.fields]
    assert {"ponte__rollback", "roll_back"} <= {*dags, *tasks}
    assert {"every_window", "batch_id"} <= {field.name for field in fields}
    text = read(DOCS / "how-to" / "decide-about-versions.md")
    named = [*dags, *tasks, "model", "dry_run", *(field.name for field in fields), *MARKS]
    assert not [name for name in named if f"`{name}`" not in text]
    titles = ["Model", "Dry run", *(field.title for field in fields)]
    assert not [title for title in titles if f"**{title}**" not in text]


def test_every_field_of_the_forms_of_a_model_is_documented() -> None:
    text = read(DOCS / "how-to" / "operate.md")
    titles = [field.title for action in ACTIONS if "{model}" in action.dag for field in action.fields]
    assert titles
    assert not [title for title in titles if f"**{title}**" not in text]


def test_every_kind_of_subject_and_every_reason_for_a_version_is_documented() -> None:
    subjects = {
        CANDIDATE,
        CONSTANT,
        difference_subject("<subject>"),
        champion_subject("<version>"),
        f"{BASELINE}<column>",
        f"{FEATURE}<column>",
        f"{IMPORTANCE}<column>",
    }
    text = read(REFERENCE / "tables.md")
    documented = table(text[text.index("| Subject |") :])
    assert not subjects - documented.keys()
    reasons = re.findall(r'reason ?= ?f?"([^"{;]+)', read(LIBRARY / "versions" / "choice.py"))
    assert "champion at as_of" in reasons
    order = section(read(DOCS / "how-to" / "decide-about-versions.md"), "## Which version scores a past window")
    assert not [reason for reason in reasons if reason not in order]


def test_every_folder_of_tests_is_listed() -> None:
    folders = {p.name for p in (ROOT / "tests").iterdir() if p.is_dir() and not p.name.startswith(("_", "."))}
    listed = re.findall(r"^\| `tests/(\w+)` ", read(ROOT / "CONTRIBUTING.md"), re.MULTILINE)
    assert set(listed) == folders


def test_every_picture_is_shown_somewhere() -> None:
    shown = {(page.parent / link).resolve() for page in PAGES for link in links(page) if "images/" in link}
    assert shown == {*(DOCS / "images").iterdir()}


def test_years_cron_fields_and_the_word_for_no_schedule_are_those_of_the_code() -> None:
    text = read(REFERENCE / "model-folder.md")
    assert f"Days lie in the years {windows.FIRST_YEAR} to {windows.LAST_YEAR}." in text
    assert (model_toml.CRON_FIELDS, "exactly five fields" in text) == (5, True)
    for name in ("score", "train"):
        assert f'`"{spec.ON_DEMAND}"`' in table(section(text, "### `[schedule]`"))[name][0]


def test_the_glossary_explains_each_word_once() -> None:
    words = re.findall(r"^\| ([^|]+) \| (.+) \|$", read(DOCS / "glossary.md"), re.MULTILINE)[1:]
    names = [word for word, _ in words]
    assert len(names) == len(set(names))
    assert {"window", "batch", "snapshot", "version", "publish", "fence"} <= set(names)


def test_every_decision_has_its_five_parts_and_is_listed() -> None:
    index = read(DOCS / "README.md")
    for number, page in enumerate(sorted((DOCS / "adr").glob("*.md")), 1):
        text = read(page)
        assert page.name.startswith(f"{number:04}-")
        assert text.startswith(f"# {number:04}: ")
        assert "**Status**: " in text
        assert re.findall(r"^## (.+)$", text, re.MULTILINE) == ["Context", "Decision", "Consequences", "Alternatives"]
        assert f"(adr/{page.name})" in index


def anchors(page: Path) -> set[str]:
    """Return the anchors GitHub makes of the headings: lower case, spaces to hyphens, other punctuation dropped."""
    headings = re.findall(
        r"^#+ (.+)$", re.sub(r"^```.*?^```", "", read(page), flags=re.MULTILINE | re.DOTALL), re.MULTILINE
    )
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def links(page: Path) -> list[str]:
    text = re.sub(r"`[^`\n]*`", "", FENCED.sub("", read(page)))
    return re.findall(r"\[[^\]]*\]\(([^)\s]+)\)", text)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_relative_link_leads_somewhere(page: Path) -> None:
    dead = []
    for link in links(page):
        path, _, anchor = link.partition("#")
        if "://" in link or link.startswith("mailto:"):
            continue
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            dead.append(link)
    assert not dead


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_pages_are_finished(page: Path) -> None:
    assert not re.findall(r"@@\w+@@|\bTODO\b|\bTBD\b|\bFIXME\b", read(page))


def test_the_tutorial_writes_a_whole_model_folder_that_keeps_the_contract() -> None:
    text = read(DOCS / "tutorial" / "first-model.md")
    files = dict(
        re.findall(r"<!-- file: include/models/airport_temperature/(\S+) -->\n```\w+\n(.*?)```\n", text, re.DOTALL)
    )
    assert files.keys() == {"model.toml", "features.sql", "labels.sql", "estimator.py", "README.md"}
    assert model_toml.parse_spec(files["model.toml"], model="airport_temperature").task == "regression"
    compile(files["estimator.py"], "estimator.py", "exec")
