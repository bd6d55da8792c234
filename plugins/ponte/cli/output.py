"""What commands print: text for people, JSON for programs, complaints on stderr.

Colour only on a terminal, and not where NO_COLOR is set; `rich` sees to both.
"""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterable, Sequence
from typing import Annotated, Any

import typer

#: The option of every command that a script would read.
Json = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]
_STYLES = {"running": "green", "ok": "green", "stopped": "red", "unhealthy": "red", "broken": "red"}


def as_json(value: Any) -> None:
    """Print a value as JSON; what JSON does not know, as a path, becomes text."""
    print(json.dumps(value, indent=2, default=str))


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print columns side by side, on lines as long as they need to be; words that say a state have its colour."""
    from rich.console import Console
    from rich.text import Text

    class Readers(Console):
        def on_broken_pipe(self) -> None:
            raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))  # as print() does; see `app.main`

    lines = [tuple(heads), *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(heads))]
    console = Readers(highlight=False)
    for line in lines:
        text = Text()
        for cell, width in zip(line, widths, strict=True):
            text.append(cell, style=_STYLES.get(cell, ""))
            text.append(" " * (width - len(cell) + 2))
        text.rstrip()
        console.print(text, soft_wrap=True)


def complain(message: str) -> None:
    """Print what went wrong on stderr; its first line in red."""
    from rich.console import Console
    from rich.text import Text

    first, *more = message.split("\n")
    text = Text.assemble("\n", (first, "red"), *(f"\n{line}" for line in more))
    Console(stderr=True, highlight=False).print(text, soft_wrap=True)
