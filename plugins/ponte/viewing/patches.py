"""What changed between the folders of two versions."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice

#: More of a file is not compared, more of a patch not shown: a page is read by a person.
MOST_COMPARED, MOST_SHOWN, LONGEST_LINE = 2_000, 400, 400
#: Characters of a file that are looked at.
LARGEST = 200_000
#: What a line begins with → what it is.
KINDS = {"+": "added", "-": "gone", "@": "place"}


@dataclass(frozen=True, slots=True)
class Patch:
    """A file that is not the same in both folders."""

    file: str
    #: (added, gone, place or same; the line with the sign before it).
    lines: tuple[tuple[str, str], ...]
    #: True when the file or the patch is longer than what is shown.
    cut: bool
    #: What stands instead of a patch when one side was not kept; "" when both were.
    why: str = ""


def patches(old: Mapping[str, str | None], new: Mapping[str, str | None]) -> tuple[Patch, ...]:
    """Return a patch for each file that differs, in the order of the names given; None stands for a file not kept."""
    found = []
    for file in dict.fromkeys([*old, *new]):
        one, two = old.get(file), new.get(file)
        if one is None and two is None:
            continue
        if one is None or two is None:
            found.append(Patch(file, (), cut=False, why="kept of one of the two versions only"))
        elif one != two:
            found.append(_patch(file, one, two))
    return tuple(found)


def _patch(file: str, one: str, two: str) -> Patch:
    olds, news = _lines(one), _lines(two)
    compared = difflib.unified_diff(olds[:MOST_COMPARED], news[:MOST_COMPARED], n=3, lineterm="")
    # Its first two lines name the files.
    shown = list(islice(compared, 2, 2 + MOST_SHOWN + 1))
    cut = len(shown) > MOST_SHOWN or max(len(olds), len(news)) > MOST_COMPARED or max(len(one), len(two)) > LARGEST
    lines = tuple((KINDS.get(line[:1], "same"), line) for line in shown[:MOST_SHOWN])
    return Patch(file, lines, cut=cut, why="" if lines else "differs behind what is compared here")


def _lines(text: str) -> list[str]:
    # The text is cut first: one line may be a megabyte, and so may a million of them.
    return [line if len(line) <= LONGEST_LINE else line[:LONGEST_LINE] + "…" for line in text[:LARGEST].splitlines()]
