"""`report.html`: what a version is and what it reaches, as one page without scripts that needs nothing else.

`draw` and `render` make the page that is kept in the version's folder and never changes. What was decided about the
version comes later and goes in with `with_decisions`, each time the page is shown.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ponte.errors import PonteError
from ponte.model.spec import METRICS, OF_INTERVALS, Task
from ponte.pages.plots import Plot, draw
from ponte.pages.rendering import render as render_template
from ponte.pages.rendering import stylesheet
from ponte.quality.features import ALONE
from ponte.quality.figures import (
    BASELINE,
    CANDIDATE,
    FEATURE,
    FILLED,
    IMPORTANCE,
    MISSING,
    UNUSED,
    Measured,
    difference_subject,
)

__all__ = ["DECISIONS", "Plot", "ReportFacts", "draw", "in_place", "plots_of", "render", "with_decisions"]

#: Where `with_decisions` puts its section; once in every page.
DECISIONS = "<!-- decisions -->"
#: A table that is wider than the page, as it is kept; and so that a keyboard gets into it.
WIDE, FOCUSABLE = b'<div class="wide">', b'<div class="wide" tabindex="0" role="region" aria-label="Table %d">'
#: A plot as it is kept, title and drawing; and what a drawing names its parts with.
PLOTS = re.compile(r"<figure><h3>([^<]*)</h3>\s*(<svg.*?</svg>)", re.DOTALL)
IDS = re.compile(r'(\bid="|url\(#|href="#)')
#: Rows of slices and of features that are seen at once; the others unfold.
SEEN_ROWS = 12

#: How the headline says what `compared` says.
AGAINST = {"better": "better than", "worse": "worse than", "no clear difference": "not clearly different from"}


@dataclass(frozen=True, kw_only=True, slots=True)
class ReportFacts:
    """What the page says about a version beside its figures."""

    model: str
    #: 0: nothing that was registered, but a try.
    version: int
    description: str
    owner: str
    task: Task
    #: The gate's metric.
    metric: str
    as_of: dt.datetime
    #: First days of the three parts, and the day after the last one of the holdout.
    fitting_from: dt.date
    calibration_from: dt.date | None
    holdout_from: dt.date
    holdout_end: dt.date
    fitting_rows: int
    calibration_rows: int
    holdout_rows: int
    purged_rows: int
    classes: tuple[Any, ...]
    threshold: float | None
    #: Of the intervals, and the resamples they come from.
    confidence: float
    resamples: int
    #: Rows of features.sql in all windows, None when they were not counted; and what of them is in no part, by reason.
    feature_rows: int | None = None
    left_out: Mapping[str, int] = field(default_factory=dict)
    #: True when it was fitted elsewhere: the rows before the holdout are those that the baselines learn from.
    imported: bool = False
    #: Of a regression with intervals, see `Output`.
    interval: float | None = None
    half_width: float | None = None
    snapshot_sha256: str
    spec_digest: str
    code_revision: str | None
    libraries: dict[str, str]

    @property
    def called(self) -> str:
        """What the page calls it."""
        return f"version {self.version}" if self.version else "a try"


@dataclass(frozen=True, slots=True)
class Compared:
    """A baseline and the candidate's difference from it, by metric."""

    name: str
    figures: Mapping[str, Measured]
    differences: Mapping[str, Measured]


def render(facts: ReportFacts, measured: Sequence[Measured], plots: Sequence[Plot]) -> bytes:
    """Return the page, with DECISIONS once below the headline. The same arguments give the same bytes."""
    import markupsafe

    figures = {(m.subject, m.name): m for m in measured if not m.slice}
    names = [name for name in METRICS[facts.task] if (CANDIDATE, name) in figures]
    page = render_template(
        "report.html.j2",
        facts=facts,
        decisions=markupsafe.Markup(DECISIONS),  # noqa: S704 - a constant
        plots=[(p, markupsafe.Markup(p.svg)) for p in plots],  # noqa: S704 - matplotlib has escaped every text
        head=figures.get((CANDIDATE, facts.metric)),
        # The gate's metric first.
        metrics=sorted(names, key=lambda name: name != facts.metric),
        higher_is_better=METRICS[facts.task],
        candidate={m.name: m for m in figures.values() if m.subject == CANDIDATE},
        counts=[
            m
            for m in figures.values()
            if m.subject == CANDIDATE and m.name not in (*METRICS[facts.task], *OF_INTERVALS)
        ],
        baselines=_baselines(figures),
        slices=_slices(facts, measured),
        features=_features(figures),
        one_outcome=_one_outcome(measured),
        unused=[m.subject.removeprefix(UNUSED) for m in measured if m.subject.startswith(UNUSED)],
        against=AGAINST,
        alone=ALONE[facts.task],
        seen_rows=SEEN_ROWS,
    )
    return page.encode()


def with_decisions(page: bytes, rules: Sequence[Mapping[str, Any]], decisions: Sequence[Mapping[str, Any]]) -> bytes:
    """Return the page with what the gate said and what was decided, in place of DECISIONS.

    rules : {rule, got, expected, outcome} of the newest verdict, in its order; empty when the gate has not judged.
    decisions : {at, what, who, why}; shown in the order of `at`, an aware datetime.
    """
    before, marker, after = page.partition(DECISIONS.encode())
    if not marker:
        raise PonteError(
            "the report has no place for decisions", expected=DECISIONS, fix="use the release that wrote it"
        )
    ordered = sorted(decisions, key=lambda decision: decision["at"])
    section = render_template("report_decisions.html.j2", rules=rules, decisions=ordered)
    return before + section.encode() + after


def in_place(page: bytes, **facts: Any) -> bytes:
    """Return a kept page with what is around it: the way back, links, the champion beside it, the style of today.

    facts : of `report_path.html.j2` and `report_around.html.j2`. The file itself never changes; what a page of an older
        release has no place for is left out.
    """
    names = iter(range(1, page.count(WIDE) + 1))
    page = re.sub(re.escape(WIDE), lambda _: FOCUSABLE % next(names), page)
    style = f"<style>{stylesheet()}{stylesheet('pages.css')}</style>\n</head>"
    path, links = (render_template(f"report_{part}.html.j2", **facts) for part in ("path", "around"))
    for old, new in (
        (b"</head>", style),
        (b"<body>", f"<body>\n{path}"),
        (b"<main>", '<main id="main">'),
        (DECISIONS.encode(), f"{DECISIONS}\n{links}"),
    ):
        page = page.replace(old, new.encode(), 1)
    return page


def plots_of(page: bytes, prefix: str) -> dict[str, Any]:
    """Return the plots of a kept page by title, as markup; `prefix` keeps their ids apart from those of another page.

    The page has to be verified: its drawings are not looked at.
    """
    import markupsafe

    return {
        # What stands in the page is escaped already.
        str(markupsafe.Markup(title).unescape()): markupsafe.Markup(IDS.sub(rf"\g<1>{prefix}-", svg))  # noqa: S704
        for title, svg in PLOTS.findall(page.decode(errors="replace"))
    }


def _baselines(figures: Mapping[tuple[str, str], Measured]) -> list[Compared]:
    subjects = dict.fromkeys(subject for subject, _ in figures if subject.startswith(BASELINE))
    found = []
    for subject in subjects:
        own, gaps = (
            {m.name: m for m in figures.values() if m.subject == s} for s in (subject, difference_subject(subject))
        )
        found.append(Compared(_baseline_name(subject), own, gaps))
    return found


def _baseline_name(subject: str) -> str:
    by = subject.removeprefix(BASELINE)
    return "a constant" if by == "constant" else f"the mean by {by}"


def _slices(facts: ReportFacts, measured: Sequence[Measured]) -> list[Measured]:
    """The gate's metric of every slice, worst first."""
    found = [m for m in measured if m.slice and m.subject == CANDIDATE and m.name == facts.metric]
    return sorted(found, key=lambda m: m.figure.value, reverse=not METRICS[facts.task][facts.metric])


def _features(figures: Mapping[tuple[str, str], Measured]) -> list[tuple[str, Measured | None, Measured | None]]:
    """Name, what it reaches alone, and its importance: the most important feature first."""
    alone, importance = (
        {m.subject.removeprefix(kind): m for m in figures.values() if m.subject.startswith(kind)}
        for kind in (FEATURE, IMPORTANCE)
    )
    names = list(dict.fromkeys([*importance, *alone]))
    names.sort(key=lambda n: (n not in importance, -importance[n].figure.value if n in importance else 0))
    return [(name, alone.get(name), importance.get(name)) for name in names]


def _one_outcome(measured: Sequence[Measured]) -> list[tuple[str, str, Measured]]:
    """Name of the feature, "filled in" or "missing", and how far that goes with one outcome only."""
    words = {FILLED: "filled in", MISSING: "missing"}
    return [
        (m.subject.removeprefix(prefix), word, m)
        for prefix, word in words.items()
        for m in measured
        if m.subject.startswith(prefix)
    ]
