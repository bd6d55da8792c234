"""The reference page of the operators, made from their docstrings: `python -m tests.docs.operators_page` writes it."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[2]
OPERATORS = ROOT / "plugins" / "ponte" / "operators"
PAGE = ROOT / "docs" / "reference" / "operators.md"
ERRORS = ROOT / "plugins" / "ponte" / "errors.py"
#: Modules with operators, in the order of the page, each with its heading.
MODULES = {
    "scoring": "Scoring",
    "training": "Training",
    "approval": "Approval",
    "monitoring": "Monitoring",
    "decisions": "Decisions",
    "dags": "Broken folders",
}
LABELS = {"Params: ": "Params", "Returns ": "Returns", "Emits ": "Emits", "Raises ": "Errors"}
HEAD = """\
# Operators

<!-- Made of the docstrings by `python -m tests.docs.operators_page`; a test holds it against them. -->

What Ponte's DAGs are made of, and what DAGs of your own can be made of:
[how to write DAGs of your own](../how-to/write-your-own-dags.md). Which task of which DAG has which operator, and what
that calls: [architecture](../explanation/architecture.md#tasks-and-their-operators).

Every operator but `ApproveOperator` also takes:

| Argument | Meaning |
|---|---|
{shared}
| `outlets`, `retries` and the others | those of Airflow's `BaseOperator` |

A **template** is an argument in which Airflow renders Jinja, and which takes the output of another task. **Params** are
those of the DAG's run, which its form asks for. What it **emits** is an event of the model's asset, if that or an
`AssetAlias` is among `outlets`: [what the events say](../how-to/write-your-own-dags.md#what-the-events-say).

Besides the errors named with each, every one may raise `ModelFolderError` when the folder is broken, `PonteError`,
`Withheld`, and `DatabaseUnavailable`. `**RETRY` of `ponte.operators.dags` among the `default_args` of a DAG tries the
last one again, and no other. What they mean and what to do: [errors](errors.md).
"""


@dataclass
class Operator:
    """What a docstring and a signature say."""

    name: str
    summary: str
    connection: str = ""
    templates: tuple[str, ...] = ()
    #: Argument → its default as code, "" for a required one.
    arguments: dict[str, str] = field(default_factory=dict)
    described: dict[str, str] = field(default_factory=dict)
    sections: dict[str, str] = field(default_factory=dict)


def operators(module: str) -> Iterator[Operator]:
    """Yield the operators of a module in its order."""
    for node in ast.parse((OPERATORS / f"{module}.py").read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ClassDef) and node.name.endswith("Operator"):
            yield read(node)


def read(node: ast.ClassDef) -> Operator:
    """Return what the class says of itself."""
    found = Operator(name=node.name, summary="")
    prose = []
    for paragraph in (ast.get_docstring(node) or "").split("\n\n"):
        items = re.split(r"\n(?! )", paragraph)
        if not any(labelled(items[0])):
            prose.append(" ".join(paragraph.split()))
            continue
        for item in items:
            label, text = labelled(" ".join(item.split()))
            (found.sections if label in LABELS.values() else found.described)[label] = text
    found.summary = "\n\n".join(prose)
    for part in node.body:
        if isinstance(part, ast.FunctionDef) and part.name == "__init__":
            pairs = zip(part.args.kwonlyargs, part.args.kw_defaults, strict=True)
            found.arguments = {argument.arg: ast.unparse(default) if default else "" for argument, default in pairs}
        elif isinstance(part, ast.Assign) and ast.unparse(part.targets[0]) == "template_fields":
            found.templates = ast.literal_eval(part.value)
        elif isinstance(part, ast.Assign | ast.AnnAssign) and "default_connection_id" in ast.unparse(part):
            found.connection = ast.unparse(part.value or part)
    return found


def labelled(item: str) -> tuple[str, str]:
    """Return the label of an item and what follows, two empty texts for prose."""
    for start, label in LABELS.items():
        if item.startswith(start):
            return label, item.removeprefix(start)
    name, colon, text = item.partition(" : ")
    return (name, text) if colon and name.isidentifier() else ("", "")


def render() -> str:
    """Return the page."""
    [base] = operators("base")
    parts = [HEAD.format(shared="\n".join(f"| `{name}` | {text} |" for name, text in base.described.items()))]
    for module, heading in MODULES.items():
        parts.append(f"## {heading}\n\n`from ponte.operators.{module} import …`\n")
        parts += [shown(operator, default=base.connection) for operator in operators(module)]
    return "\n".join(parts)


def shown(operator: Operator, *, default: str) -> str:
    """Return the operator's section."""
    lines = [f"### `{operator.name}`", "", operator.summary, ""]
    if operator.arguments:
        lines += ["| Argument | Default | Template | Meaning |", "|---|---|---|---|"]
    for name, value in operator.arguments.items():
        template = "yes" if name in operator.templates else "no"
        lines.append(f"| `{name}` | {code(value)} | {template} | {operator.described.get(name, '')} |")
    if operator.arguments:
        lines.append("")
    extra = [name for name in operator.templates if name not in operator.arguments]
    if "connection_id" not in operator.arguments:
        role = "ponte_" + (operator.connection or default).lower()
        lines.append(f"- **Connection**: `{role}`")
    if extra:
        lines.append("- **Templates** too: " + ", ".join(f"`{name}`" for name in extra))
    sections = operator.sections if "Errors" in operator.sections else {**operator.sections, "Errors": "no others."}
    lines += [f"- **{label}**: {text}" for label, text in sections.items()]
    return "\n".join(lines) + "\n"


def code(value: str) -> str:
    """Return a default as the page shows it."""
    return {"": "required", "''": "empty", "()": "nobody"}.get(value, f"`{value.strip(chr(34) + chr(39))}`")


def errors() -> set[str]:
    """Return the names of Ponte's errors, and of Airflow's that the docstrings may name."""
    tree = ast.parse(ERRORS.read_text(encoding="utf-8"))
    ours = {node.name for node in tree.body if isinstance(node, ast.ClassDef)}
    return ours | {"AirflowSkipException", "HITLTimeoutError", "DownstreamTasksSkipped"}


if __name__ == "__main__":
    PAGE.write_text(render(), encoding="utf-8")
