"""The report of a version, of estimators that were really fitted and measured."""

from __future__ import annotations

import datetime as dt
import re
from dataclasses import dataclass, replace
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import numpy as np
import pyarrow as pa
import pytest
from sklearn.linear_model import LinearRegression, LogisticRegression

from ponte import pages
from ponte.errors import PonteError
from ponte.model.spec import METRICS, ModelSpec, Task
from ponte.pages.formats import compared, number
from ponte.pages.plots import CLOUD_POINTS, CURVE_POINTS
from ponte.pages.report import DECISIONS, Plot, ReportFacts, draw, render, with_decisions
from ponte.pages.svg import VARIABLES
from ponte.quality.figures import CANDIDATE, Figure, Measured
from ponte.quality.measurement import measure
from ponte.snapshots.parts import Part, Parts
from ponte.storage.columns import Column
from ponte.training.fitting import fit
from ponte.versions.predicting import Output, Predictions
from ponte.versions.signature import Signature, to_frame

HOSTILE = "<script>alert('1')</script><img src=x onerror=\"boom\">&$x_{$ #1b1e24 " + DECISIONS
METRIC: dict[Task, str] = {"binary": "roc_auc", "multiclass": "log_loss", "regression": "mae"}
FEATURES = ("size", "age", "$cost$")
#: The name of a class may be anything that a database can hold; the greatest one is the positive one.
LABELS = ('a<b> & "c"', "plain", HOSTILE)
AT = dt.datetime(2024, 2, 12, 6, tzinfo=dt.UTC)


@dataclass(frozen=True)
class Case:
    """All that a report is made of."""

    facts: ReportFacts
    output: Output
    labels: np.ndarray[Any, Any]
    predictions: Predictions
    measured: list[Measured]
    plots: tuple[Plot, ...]

    @property
    def page(self) -> str:
        return render(self.facts, self.measured, self.plots).decode()


def part(task: Task, rows: int, seed: int) -> Part:
    """Rows whose label depends on `size`, a little on `age`, and not on `$cost$`."""
    draws = np.random.default_rng(seed)
    columns = {name: draws.normal(size=rows) for name in FEATURES}
    wish = 2 * columns["size"] + 0.5 * columns["age"] + draws.normal(size=rows)
    labels = wish
    if task == "binary":
        labels = np.array(sorted(LABELS[:2]))[(wish > 0.8).astype(int)]
    elif task == "multiclass":
        labels = np.array(LABELS)[np.digitize(wish, [-1.0, 1.0])]
    shop = np.array(["mill", "quay", HOSTILE])[draws.integers(0, 3, rows)]
    table = pa.table({**columns, "shop": shop})
    return Part(rows=table, features=to_frame(table, SIGNATURE.features), labels=labels)


SIGNATURE = Signature(key=(), features=tuple(Column(name=name, family="number") for name in FEATURES), label="text")


def make(task: Task, *, rows: int = 600, resamples: int = 100) -> Case:
    """Fit, measure and draw."""
    spec = ModelSpec.model_validate(
        {
            "description": f"Who comes back {HOSTILE}?", "owner": HOSTILE, "task": task, "key": ["id"],
            "training": {"windows": 3, "holdout_windows": 1, **({"threshold": 0.4} if task == "binary" else {})},
            "evaluation": {"baseline_by": "shop", "slices": ["shop"], "slice_rows": 50, "resamples": resamples},
            "gate": {"metric": METRIC[task]},
        }
    )  # fmt: skip
    parts = Parts(fitting=part(task, 400, 1), calibration=part(task, 0, 2), holdout=part(task, rows, 3), purged_rows=7)
    fitted = fit(spec, LinearRegression() if task == "regression" else LogisticRegression(), parts)
    measured, predictions = measure(spec, fitted, SIGNATURE, parts)
    facts = ReportFacts(
        model=f"visits {HOSTILE}", version=12, description=spec.description, owner=spec.owner, task=task,
        metric=spec.gate.metric, as_of=AT, fitting_from=dt.date(2024, 1, 1), calibration_from=None,
        holdout_from=dt.date(2024, 1, 29), holdout_end=dt.date(2024, 2, 12), fitting_rows=400, calibration_rows=0,
        holdout_rows=rows, purged_rows=7, classes=fitted.output.classes, threshold=fitted.output.threshold,
        confidence=0.95, resamples=resamples, snapshot_sha256="5a" * 32, spec_digest="6b" * 32, code_revision="abc123",
        libraries={"python": "3.12.0", "scikit-learn": "1.9.0"},
    )  # fmt: skip
    plots = draw(fitted.output, parts.holdout.labels, predictions, measured)
    return Case(facts, fitted.output, parts.holdout.labels, predictions, measured, plots)


made = cache(make)


@pytest.fixture(params=["binary", "multiclass", "regression"])
def case(request: pytest.FixtureRequest) -> Case:
    return made(request.param)


class Page(HTMLParser):
    """Tags with their attributes, the text, and the values of `<data>`."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    @property
    def values(self) -> list[float]:
        return [float(attributes["value"] or "") for tag, attributes in self.tags if tag == "data"]


# ---------------------------------------------------------------- one page, that needs and does nothing


def test_nothing_is_loaded_and_nothing_runs(case: Case) -> None:
    page = Page(case.page)
    allowed = {"html", "head", "meta", "title", "style", "body", "main", "header", "section", "figure", "figcaption",
               "h1", "h2", "h3", "small", "p", "strong", "span", "data", "div", "table", "thead", "tbody", "tr", "th",
               "td", "dl", "dt", "dd", "br", "code", "ul", "li", "details", "summary",
               "svg", "g", "path", "defs", "use", "text", "tspan", "clippath", "rect"}  # fmt: skip
    assert {tag for tag, _ in page.tags} <= allowed
    for tag, attributes in page.tags:
        assert not [name for name in attributes if name.startswith("on") or name in {"src", "href", "srcdoc"}], tag
        assert (attributes.get("xlink:href") or "#").startswith("#")
    assert "@import" not in case.page
    assert set(re.findall(r"url\((.)", case.page)) <= {"#"}


def test_one_stylesheet_gives_every_page_its_looks_and_every_drawing_its_colours(case: Case) -> None:
    templates = Path(pages.__file__).parent / "templates"
    style = (templates / "style.css").read_text(encoding="utf-8")
    assert f"<style>\n{style}</style>" in case.page
    for template in templates.glob("*.j2"):
        text = re.sub(r"<style>\n(\{% include \"\w+\.css\" \+%\}\n)+</style>", "", template.read_text(encoding="utf-8"))
        assert not re.search(r"<style|style=", text), template.name
    used = set(re.findall(r"var\(--(\w+)\)", case.page))
    assert set(VARIABLES.values()) & used
    assert used <= set(re.findall(r"--(\w+):", style))


def test_hostile_names_are_shown_and_not_obeyed(case: Case) -> None:
    assert HOSTILE in Page(case.page).text
    assert "<script" not in case.page
    assert "<img" not in case.page


def test_every_drawing_is_well_formed_and_has_title_caption_and_alternative_text(case: Case) -> None:
    assert len(case.plots) >= 4
    for plot in case.plots:
        svg = ET.fromstring(plot.svg.replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1))  # noqa: S314
        assert svg.get("role") == "img"
        assert svg.get("aria-label") == f"{plot.title}. {plot.caption}"
        assert plot.caption.endswith(".")
    page = case.page
    assert page.count("<figure>") == page.count("<figcaption>") == len(case.plots)


def test_ids_are_unique_in_the_page_and_references_meet_them(case: Case) -> None:
    ids = re.findall(r'\bid="([^"]*)"', case.page)
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'(?:url\(|xlink:href=")#([\w-]+)', case.page)) <= set(ids)


def test_the_same_inputs_give_the_same_bytes(case: Case) -> None:
    again = make(case.facts.task)
    # The speed of predicting is measured by the clock.
    assert [m for m in again.measured if m.name != "rows_per_second"] == [
        m for m in case.measured if m.name != "rows_per_second"
    ]
    plots = draw(again.output, again.labels, again.predictions, again.measured)
    assert plots == case.plots
    assert render(case.facts, case.measured, plots) == render(case.facts, case.measured, case.plots)
    assert not re.search(r"20[0-9]{2}-[0-9]{2}-[0-9]{2}T", case.page)


def test_settings_of_matplotlib_outside_change_nothing_and_are_left_alone() -> None:
    import matplotlib as mpl

    case = made("regression")
    with mpl.rc_context({"font.size": 23, "axes.labelsize": 23, "svg.hashsalt": "salt"}):
        assert draw(case.output, case.labels, case.predictions, case.measured) == case.plots
        assert (mpl.rcParams["font.size"], mpl.rcParams["svg.hashsalt"]) == (23, "salt")


@pytest.mark.parametrize("task", ["binary", "multiclass", "regression"])
def test_25_000_rows_make_a_page_below_600_kilobytes(task: Task) -> None:
    small, draws = made(task), np.random.default_rng(5)
    rows = draws.integers(0, len(small.labels), 25_000)
    score = small.predictions.score
    if score is not None:  # of no use, so that the curves are as ragged as they can be
        score = draws.dirichlet(np.ones(3), 25_000) if score.ndim == 2 else draws.random(25_000)
    prediction = small.predictions.prediction[rows]
    if task == "regression":
        prediction = prediction + 1e-6 * draws.random(25_000)
    plots = draw(small.output, small.labels[rows], Predictions(prediction, score), small.measured)
    assert 20_000 < len(render(small.facts, small.measured, plots)) < 600_000
    assert max(p.svg.count("<use") for p in plots) <= CLOUD_POINTS + 50
    assert max(len(re.findall("[ML] ", path)) for p in plots for path in re.findall(r' d="([^"]*)"', p.svg)) <= (
        CURVE_POINTS
    )


# ---------------------------------------------------------------- what it says


def test_every_figure_shown_is_a_measured_one(case: Case) -> None:
    known = {v for m in case.measured for v in (m.figure.value, m.figure.low, m.figure.high) if v is not None}
    shown = Page(case.page).values
    assert set(shown) <= known
    wanted = {
        m.figure.value
        for m in case.measured
        if (not m.slice and (m.name in METRICS[case.facts.task] or m.subject == CANDIDATE))
        or (m.name == case.facts.metric and m.subject == CANDIDATE)
    }
    assert wanted <= set(shown)


def test_the_headline_is_the_gates_metric_with_its_interval_beside_the_baselines(case: Case) -> None:
    metric = case.facts.metric
    [headline] = re.findall(r'<p class="headline">(.*?)</p>', case.page, re.DOTALL)

    def figure(subject: str) -> Figure:
        return next(m.figure for m in case.measured if (m.subject, m.slice, m.name) == (subject, "", metric))

    own = figure(CANDIDATE)
    constant, shop = figure("baseline:constant").value, figure("baseline:shop").value
    assert Page(headline).values == [own.value, own.low, own.high, constant, shop]
    text = " ".join(Page(headline).text.split())
    assert "95 % interval" in text
    assert f", better than a constant ({number(constant)})" in text
    assert f" the mean by shop ({number(shop)})" in text
    assert ("higher is better" in text) is METRICS[case.facts.task][metric]


def test_slices_come_worst_first(case: Case) -> None:
    [table] = re.findall(r"<h2>Slices.*?</table>", case.page, re.DOTALL)
    values = [Page(row).values[0] for row in re.findall(r"<tr><th scope=\"row\">.*?</tr>", table, re.DOTALL)]
    assert len(values) == 3
    assert values == sorted(values, reverse=not METRICS[case.facts.task][case.facts.metric])


def test_the_most_important_feature_comes_first(case: Case) -> None:
    [table] = re.findall(r"<h2>Features.*?</table>", case.page, re.DOTALL)
    assert re.findall(r'<tr><th scope="row">(.*?)</th>', table) == ["size", "age", "$cost$"]
    [plot] = [p for p in case.plots if p.title == "Permutation importance"]
    assert re.findall(r">(size|age|\$cost\$)<", plot.svg) == ["size", "age", "$cost$"]


def test_key_facts_are_on_the_page(case: Case) -> None:
    text = Page(case.page).text
    for fact in ("2024-02-12 06:00 UTC", "2024-01-01 to before 2024-01-29", "2024-01-29 to before 2024-02-12",
                 "600 rows", "7 rows", "5a" * 32, "6b" * 32, "abc123", "scikit-learn 1.9.0", "version 12"):  # fmt: skip
        assert fact in text
    assert ("0.400" in text) is (case.facts.threshold is not None)


def test_plots_suit_the_task() -> None:
    def titles(task: Task) -> list[str]:
        return [p.title for p in made(task).plots]

    last = "Permutation importance"
    assert titles("binary") == [
        "ROC curve", "Precision and recall", "Calibration", "Gains and lift", "Confusion matrix", last
    ]  # fmt: skip
    assert titles("multiclass") == ["Confusion matrix", "Calibration", "ROC curve per class", last]
    assert titles("regression") == ["Predicted and happened", "Residuals", "Residuals by prediction", last]


def test_the_confusion_matrix_holds_the_measured_counts() -> None:
    case = made("binary")
    counts = {m.name: m.figure.value for m in case.measured if m.subject == CANDIDATE and not m.slice}
    [plot] = [p for p in case.plots if p.title == "Confusion matrix"]
    drawn = [int(text) for text in re.findall(r">(\d+)</text>", plot.svg)]
    names = ("true_negatives", "false_positives", "false_negatives", "true_positives")
    assert drawn == [counts[name] for name in names]
    assert "from a score of 0.4 on" in plot.caption


def test_a_holdout_of_one_class_has_no_curves_and_still_a_page() -> None:
    case = made("binary")
    rows = case.labels == case.output.classes[0]
    assert case.predictions.score is not None
    predictions = Predictions(case.predictions.prediction[rows], case.predictions.score[rows])
    measured = [m for m in case.measured if (m.subject, m.name) != (CANDIDATE, "roc_auc")]
    plots = draw(case.output, case.labels[rows], predictions, measured)
    assert [p.title for p in plots] == ["Calibration", "Confusion matrix", "Permutation importance"]
    assert "is undefined on these holdout rows" in render(case.facts, measured, plots).decode()


def test_many_classes_are_drawn_as_the_most_frequent_and_the_others() -> None:
    draws = np.random.default_rng(1)
    labels = draws.integers(0, 30, 2_000)
    score = draws.dirichlet(np.ones(30), 2_000)
    output = Output(task="multiclass", classes=tuple(range(30)))
    plots = {p.title: p for p in draw(output, labels, Predictions(score.argmax(axis=1), score), [])}
    assert ">(others)<" in plots["Confusion matrix"].svg
    counts = re.findall(r"font-size: 6px[^>]*>([\d,]+)<", plots["Confusion matrix"].svg)
    assert sum(int(count.replace(",", "")) for count in counts) == 2_000
    assert "8 most frequent classes" in plots["ROC curve per class"].caption


def test_numbers_keep_the_digits_that_count() -> None:
    shown = [number(v) for v in (0.0, 0.5, -0.0321, 0.000123, 3.14159, 123.4, 1234567.0)]
    assert shown == ["0.000", "0.500", "−0.032", "0.00012", "3.142", "123.4", "1,234,567"]
    assert [number(v, signed=True) for v in (0.5, -0.5, 0.0)] == ["+0.500", "−0.500", "0.000"]


@pytest.mark.parametrize(
    ("low", "high", "higher_is_better", "word"),
    [
        (0.1, 0.2, True, "better"), (0.1, 0.2, False, "worse"), (-0.2, -0.1, True, "worse"),
        (-0.2, -0.1, False, "better"), (-0.1, 0.1, True, "no clear difference"),
        (0.0, 0.1, True, "no clear difference"), (None, None, True, "no clear difference"),
    ],
)  # fmt: skip
def test_a_difference_is_better_or_worse_only_beyond_doubt(
    low: float | None, high: float | None, higher_is_better: bool, word: str
) -> None:
    assert compared(Figure(0.15, low, high), higher_is_better=higher_is_better) == word


# ---------------------------------------------------------------- what was decided

RULES = [
    {"rule": f"at least {HOSTILE}", "got": "0.7", "expected": "0.6", "outcome": "passed"},
    {"rule": "beats a constant", "got": "0.1 to 0.2", "expected": "above 0", "outcome": "passed"},
]
DECIDED = [
    {"at": AT + dt.timedelta(hours=2), "what": "champion", "who": "ada", "why": "the gate"},
    {"at": AT, "what": "approved", "who": HOSTILE, "why": HOSTILE},
]


def test_there_is_one_place_for_decisions_right_below_the_headline(case: Case) -> None:
    assert case.page.count(DECISIONS) == 1
    assert re.search(r"</header>\s*" + DECISIONS + r"\s*<section>\s*<h2>Facts", case.page)


def test_rules_and_decisions_stand_in_their_place_and_the_page_is_the_same_around_them(case: Case) -> None:
    page = render(case.facts, case.measured, case.plots)
    shown = with_decisions(page, RULES, DECIDED)
    before, after = page.split(DECISIONS.encode())
    assert shown.startswith(before)
    assert shown.endswith(after)
    section = shown[len(before) : len(shown) - len(after)].decode()
    text = " ".join(Page(section).text.split())
    assert "The gate passed it: all 2 rules hold." in text
    assert f"at least {HOSTILE}" in text
    assert f"approved by {HOSTILE}" in text
    order = ["2024-02-12 06:00 UTC approved by", "2024-02-12 08:00 UTC champion by ada", "the gate"]
    assert sorted(order, key=text.index) == order
    assert "<script" not in section
    assert DECISIONS not in section


def test_a_failed_rule_is_a_refusal() -> None:
    rules = [RULES[0], {**RULES[1], "outcome": "refused"}]
    page = with_decisions(DECISIONS.encode(), rules, []).decode()
    text = " ".join(Page(page).text.split())
    assert "The gate refused it: 1 of 2 rules failed." in text
    assert "Nobody has decided anything about it since." in text


def test_what_is_undecided_and_what_nobody_should_overlook_stands_above_the_rules() -> None:
    rules = [{**RULES[0], "outcome": "warning"}, {**RULES[1], "outcome": "undecided"}]
    page = with_decisions(DECISIONS.encode(), rules, []).decode()
    above = " ".join(Page(page.partition("<table")[0]).text.split())
    assert "The gate left it undecided: 1 of 2 rules could not be asked. A person decides." in above
    assert f"Warning: at least {HOSTILE}: 0.7, expected 0.6." in above


def test_without_a_verdict_the_page_says_so() -> None:
    assert "The gate has not judged this version yet." in with_decisions(DECISIONS.encode(), [], []).decode()


def test_decisions_without_a_verdict_are_shown_as_well() -> None:
    shown = with_decisions(DECISIONS.encode(), [], DECIDED).decode()
    assert "has not judged" in shown
    assert "champion" in shown


def test_a_page_without_a_place_for_decisions_is_refused() -> None:
    with pytest.raises(PonteError, match="no place for decisions"):
        with_decisions(b"<html></html>", RULES, [])


def test_a_version_without_a_calibration_part_or_revision_says_so() -> None:
    case = made("regression")
    facts = replace(case.facts, code_revision=None, threshold=None)
    text = Page(render(facts, [], ()).decode()).text
    assert "no rows of its own" in text
    assert "not known" in text


def test_what_was_left_out_of_training_is_told_by_reason_and_not_guessed_when_it_was_not_counted(case: Case) -> None:
    counted = replace(case.facts, feature_rows=12_345, left_out={"its label is NULL": 1_007, "a check set it aside": 0})
    text = Page(render(counted, case.measured, case.plots).decode()).text
    assert "Left out of 12,345 rows" in text
    assert "1,007: its label is NULL0: a check set it aside" in text
    assert "Left out of" not in Page(render(case.facts, case.measured, case.plots).decode()).text
