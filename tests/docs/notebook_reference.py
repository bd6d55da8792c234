"""Write docs/reference/notebook.md: `PYTHONPATH=plugins:. .venv/bin/python -m tests.docs.notebook_reference`."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from pathlib import Path

import ponte.notebook

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "notebook.md"
HEAD = """\
# Reference: `ponte.notebook`

Made from the docstrings; [how to try ideas](../how-to/try-ideas.md) says how they go together. Whoever calls it is
the role `ponte_trainer`, and `judge` works as `ponte_promoter` beside it. The database is that of
`AIRFLOW_CONN_PONTE_TRAINER` (or `PONTE_ADMIN_URL`), else of the local stack.

```python
from ponte.notebook import frame, try_model, load_version, compare, judge
```
"""


def page() -> str:
    """Return the text of the page."""
    functions = [n for n in ponte.notebook.__all__ if inspect.isfunction(getattr(ponte.notebook, n))]
    classes = [n for n in ponte.notebook.__all__ if n not in functions]
    parts = [HEAD]
    for name in functions:
        found = getattr(ponte.notebook, name)
        parts.append(f"\n## `{name}`\n\n```text\n{name}{signature(found)}\n\n{inspect.getdoc(found)}\n```\n")
    for name in classes:
        found = getattr(ponte.notebook, name)
        lines = [f"\n## `{name}`\n", str(inspect.getdoc(found)), "\n| Has | Which is |\n|---|---|"]
        lines += [f"| `{member}` | {said} |".replace(" | None", " \\| None") for member, said in members(found)]
        parts.append("\n".join(lines) + "\n")
    return "".join(parts)


def signature(function: object) -> str:
    """Return the arguments and what is returned, one argument a line."""
    found = inspect.signature(function)  # type: ignore[arg-type]
    shown = [str(p) for p in found.parameters.values() if p.name != "self"]
    if any(p.kind is p.KEYWORD_ONLY for p in found.parameters.values()):
        first = next(i for i, p in enumerate(found.parameters.values()) if p.kind is p.KEYWORD_ONLY)
        shown.insert(first, "*")
    return f"({', '.join(shown)}) -> {found.return_annotation}".replace("'", "")


def members(found: type) -> Iterator[tuple[str, str]]:
    """Yield (name, first line of the docstring) of what people may use of a class."""
    source = inspect.getsource(found)
    for name, said in re.findall(r"((?:    #:.*\n)+)    (\w+):", source):
        yield said, " ".join(line.strip().removeprefix("#:").strip() for line in name.strip().splitlines())
    for name, member in vars(found).items():
        function = member.fget if isinstance(member, property) else member
        if inspect.isfunction(function) and not name.startswith("_"):
            said = " ".join(str(inspect.getdoc(function)).split("\n\n")[0].split())
            yield (name if isinstance(member, property) else f"{name}{signature(member)}"), said


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
