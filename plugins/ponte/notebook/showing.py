"""What a try and a comparison show of themselves: text on a terminal, HTML in a notebook."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from tabulate import tabulate

from ponte.model.spec import METRICS, ModelSpec
from ponte.pages.plots import metric_name
from ponte.pages.report import compared, number
from ponte.quality.figures import BASELINE, CANDIDATE, READABLE, Figure, Measured, difference_subject
from ponte.snapshots.left_out import in_words

if TYPE_CHECKING:
    from ponte.notebook.trying import Try

_DIFFERENCE = difference_subject("")


def text_of(done: Try) -> str:
    """Return the figures of a try as text: what it is, what it is held against, and what that took."""
    return "\n\n".join([_headline(done), str(tabulate(**_table(done, plain), disable_numparse=True)), _footer(done)])


def html_of(done: Try) -> str:
    """Return the figures of a try as HTML, with the whole report in a frame of its own, whose style stays in there."""
    table = _table(done, plain)
    shown = tabulate(table["tabular_data"], headers=table["headers"], tablefmt="html", disable_numparse=True)
    page = html.escape(done.report, quote=True)
    return (
        f"<p>{html.escape(_headline(done))}</p>{shown}<p>{html.escape(_footer(done))}</p>"
        f'<iframe srcdoc="{page}" title="report" style="width:100%;height:42em;border:1px solid #888"></iframe>'
    )


def plain(figure: Figure, *, signed: bool = False) -> str:
    """Return a figure and its interval.

    >>> plain(Figure(0.7123, 0.7, 0.72))
    '0.712 [0.700, 0.720]'
    """
    text = number(figure.value, signed=signed)
    if figure.low is None or figure.high is None:
        return text
    return f"{text} [{number(figure.low, signed=signed)}, {number(figure.high, signed=signed)}]"


def _headline(done: Try) -> str:
    snapshot, version = done.frozen.snapshot, done.version
    counts = [("fit", version.train_rows), ("calibration", version.calibration_rows), ("holdout", version.holdout_rows)]
    rows = ", ".join(f"{name} {count:,}" for name, count in counts if count)
    frozen = "just now" if done.frozen.new else f"at {done.frozen.frozen_at:%Y-%m-%d %H:%M} UTC"
    left_out = in_words(snapshot.left_out)
    purged = f"; {version.purged_rows:,} purged: known too late" if version.purged_rows else ""
    return (
        f"{done.model}, try {done.number} on the rows as of {snapshot.as_of:%Y-%m-%d}, frozen {frozen}: {rows}{purged}"
        + (f"; {left_out}" if left_out else "")
    )


def _footer(done: Try) -> str:
    took = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in done.seconds.items())
    unreadable = [m.subject for m in done.measured if m.name == READABLE and not m.figure.value]
    said = f"{unreadable[0]} could not predict these rows.\n" if unreadable else ""
    return f"{said}* the metric of the gate. Nothing was registered. {took[0].upper()}{took[1:]}."


def _table(done: Try, write: object) -> dict[str, Sequence[object]]:
    """One row per metric, one column per subject, and one for the difference from it."""
    return figures_table(done.folder.spec, done.measured, own="this try")


def figures_table(spec: ModelSpec, measured: Sequence[Measured], *, own: str) -> dict[str, Sequence[object]]:
    """Return headers and rows of a table: the metrics of the whole holdout by subject, with what differences say."""
    by_subject = subjects_of(measured)
    others = [s for s in by_subject if s != CANDIDATE and not s.startswith(_DIFFERENCE)]
    headers = ["", own]
    for subject in others:
        headers += [_called(subject), "difference"]
    rows = []
    for name, higher in METRICS[spec.task].items():
        if name not in by_subject[CANDIDATE]:
            continue
        row = [("* " if name == spec.gate.metric else "") + metric_name(name)]
        row.append(plain(by_subject[CANDIDATE][name].figure))
        for subject in others:
            theirs, gap = by_subject[subject].get(name), by_subject.get(difference_subject(subject), {}).get(name)
            row.append("" if theirs is None else plain(theirs.figure))
            row.append("" if gap is None else _difference(gap.figure, higher_is_better=higher))
        rows.append(row)
    return {"tabular_data": rows, "headers": headers}


def subjects_of(measured: Sequence[Measured]) -> Mapping[str, Mapping[str, Measured]]:
    """Return the figures on the whole holdout by subject and name, without those of single features."""
    found: dict[str, dict[str, Measured]] = {}
    for m in measured:
        kind = m.subject.removeprefix(_DIFFERENCE).partition(":")[0]
        if not m.slice and kind in ("candidate", BASELINE.rstrip(":"), "champion", "try") and m.name != READABLE:
            found.setdefault(m.subject, {})[m.name] = m
    return found


def _difference(figure: Figure, *, higher_is_better: bool) -> str:
    return f"{plain(figure, signed=True)} {compared(figure, higher_is_better=higher_is_better)}"


def _called(subject: str) -> str:
    kind, _, which = subject.partition(":")
    return f"mean by {which}" if kind == "baseline" and which != "constant" else f"{kind} {which}"
