"""Figures for people, side by side: text on a terminal, HTML in a notebook."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tabulate import tabulate

from ponte.model.spec import METRICS, OF_INTERVALS, ModelSpec
from ponte.pages.formats import compared, number
from ponte.pages.plots import metric_name
from ponte.quality.figures import BASELINE, CANDIDATE, READABLE, Figure, Measured, difference_subject

_DIFFERENCE = difference_subject("")


def plain(figure: Figure, *, signed: bool = False) -> str:
    """Return a figure and its interval.

    >>> plain(Figure(0.7123, 0.7, 0.72))
    '0.712 [0.700, 0.720]'
    """
    text = number(figure.value, signed=signed)
    if figure.low is None or figure.high is None:
        return text
    return f"{text} [{number(figure.low, signed=signed)}, {number(figure.high, signed=signed)}]"


def figures_table(spec: ModelSpec, measured: Sequence[Measured], *, own: str, style: str = "simple") -> str:
    """Return a table of the metrics of the whole holdout by subject, with what each difference says.

    style : of tabulate, "html" for a notebook.
    """
    by_subject = _by_subject(measured)
    others = [s for s in by_subject if s != CANDIDATE and not s.startswith(_DIFFERENCE)]
    headers = ["", own]
    for subject in others:
        headers += [_called(subject), "difference"]
    rows = []
    for name, higher in {**METRICS[spec.task], **dict.fromkeys(OF_INTERVALS)}.items():
        if name not in by_subject[CANDIDATE]:
            continue
        row = [("* " if name == spec.gate.metric else "") + metric_name(name)]
        row.append(plain(by_subject[CANDIDATE][name].figure))
        for subject in others:
            theirs, gap = by_subject[subject].get(name), by_subject.get(difference_subject(subject), {}).get(name)
            row.append("" if theirs is None else plain(theirs.figure))
            row.append("" if gap is None else _difference(gap.figure, higher_is_better=higher))
        rows.append(row)
    return str(tabulate(rows, headers=headers, tablefmt=style, disable_numparse=True))


def _by_subject(measured: Sequence[Measured]) -> Mapping[str, Mapping[str, Measured]]:
    """Return the figures on the whole holdout by subject and name, without those of single features."""
    found: dict[str, dict[str, Measured]] = {}
    for m in measured:
        kind = m.subject.removeprefix(_DIFFERENCE).partition(":")[0]
        if not m.slice and kind in ("candidate", BASELINE.rstrip(":"), "champion", "try") and m.name != READABLE:
            found.setdefault(m.subject, {})[m.name] = m
    return found


def _difference(figure: Figure, *, higher_is_better: bool | None) -> str:
    if higher_is_better is None:
        return plain(figure, signed=True)
    return f"{plain(figure, signed=True)} {compared(figure, higher_is_better=higher_is_better)}"


def _called(subject: str) -> str:
    kind, _, which = subject.partition(":")
    return f"mean by {which}" if kind == "baseline" and which != "constant" else f"{kind} {which}"
