"""The reference page of the operators is what their docstrings say, and these are whole; the how-to shows what runs."""

from __future__ import annotations

import ast
import re

import pytest
from tests.docs import operators_page as page
from tests.docs.operators_page import Operator

EVERY = [operator for module in page.MODULES for operator in page.operators(module)]
HOW_TO = page.ROOT / "docs" / "how-to" / "write-your-own-dags.md"


def test_the_page_is_made_of_the_docstrings_of_today() -> None:
    assert page.PAGE.read_text(encoding="utf-8") == page.render(), "run: python -m tests.docs.operators_page"


def test_every_module_with_operators_is_on_the_page() -> None:
    modules = {path.stem for path in page.OPERATORS.glob("*.py") if any(page.operators(path.stem))}
    assert modules == {"base", *page.MODULES}


@pytest.mark.parametrize("operator", EVERY, ids=lambda operator: operator.name)
def test_a_docstring_names_every_argument_what_is_returned_and_errors_that_there_are(operator: Operator) -> None:
    assert operator.summary.endswith(".")
    assert operator.described.keys() == operator.arguments.keys()
    assert operator.sections.get("Returns")
    assert set(operator.templates) <= {*operator.arguments, "model"}
    named = set(re.findall(r"\b[A-Z][a-z]+[A-Z]\w+\b", operator.sections.get("Errors", "")))
    assert named <= page.errors()


@pytest.mark.parametrize("operator", EVERY, ids=lambda operator: operator.name)
def test_a_docstring_says_which_assets_and_params_the_code_uses(operator: Operator) -> None:
    tree = ast.parse(
        "".join((page.OPERATORS / f"{module}.py").read_text() for module in page.MODULES).replace(
            "from __future__ import annotations", ""
        )
    )
    [node] = [n for n in ast.walk(tree) if isinstance(n, ast.ClassDef) and n.name == operator.name]
    code = ast.unparse(node)
    emitted = {f"<model>_{name}" for name in re.findall(r"announce\(context, (\w+)_asset\(", code)}
    assert set(re.findall(r"`(<model>_\w+)`", operator.sections.get("Emits", ""))) == emitted
    asked = r"form\['(\w+)'\]|context\['params'\]\['(\w+)'\]|\.get\('(allow_hindsight|new_normal|dry_run)'\)"
    params = set(re.findall(asked, code))
    assert set(re.findall(r"`(\w+)`", operator.sections.get("Params", ""))) == {"".join(found) for found in params}


def test_the_how_to_shows_the_example_that_the_tests_run() -> None:
    example = (page.ROOT / "docs" / "examples" / "own_dags.py").read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```", HOW_TO.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    assert example in blocks
