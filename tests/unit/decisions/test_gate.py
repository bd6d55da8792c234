"""The gate decides by figures with intervals: what is not beyond doubt is not better, what is missing never passes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from ponte.decisions.gate import Champion, Contract, decide, outcome_of
from ponte.decisions.rules import RuleResult, Verdict
from ponte.model.spec import ModelSpec
from ponte.model.toml import parse_spec
from ponte.quality.figures import Figure, Measured

NAN, INF = float("nan"), float("inf")
NO_BASELINE = "\nbeats_baseline = false"


def spec_of(task: str = "binary", gate: str = "", evaluation: str = "") -> ModelSpec:
    metric = {
        "binary": 'metric = "roc_auc"\nminimum = 0.6',
        "multiclass": 'metric = "log_loss"\nmaximum = 1.0',
        "regression": 'metric = "mae"\nmaximum = 10',
    }[task]
    text = f'description = "d"\nowner = "o"\ntask = "{task}"\nkey = ["id"]\n[gate]\n{metric}\n{gate}\n'
    return parse_spec(f"{text}[evaluation]\n{evaluation}\n", model="churn")


Found = Mapping[tuple[str, str, str], Figure | float]
#: Good in every respect, for each task.
GOOD: dict[str, dict[tuple[str, str, str], Figure | float]] = {
    "binary": {
        ("candidate", "", "roc_auc"): Figure(0.7, 0.68, 0.72),
        ("baseline:constant", "", "roc_auc"): 0.5,
        ("difference:baseline:constant", "", "roc_auc"): Figure(0.2, 0.18, 0.22),
        ("feature:visits", "", "roc_auc"): 0.6,
    },
    "regression": {
        ("candidate", "", "mae"): Figure(8.0, 7.5, 8.5),
        ("baseline:constant", "", "mae"): 20.0,
        ("difference:baseline:constant", "", "mae"): Figure(-12.0, -13.0, -11.0),
        ("feature:visits", "", "r2"): 0.3,
    },
}


def verdict_of(spec: ModelSpec, changes: Found | None = None, champion: Champion | None = None) -> Verdict:
    """Return the verdict on a good version with some other figures; NaN for one that there is not, is not NaN."""
    figures = {**GOOD[spec.task], **(changes or {})}
    measured = {
        (subject, place, name): Measured(
            subject=subject,
            slice=place,
            name=name,
            figure=f if isinstance(f, Figure) else Figure(f),
            row_count=600,
        )
        for (subject, place, name), f in figures.items()
        if f is not MISSING
    }
    return decide(spec, model="churn", version=7, figures=measured, champion=champion or Champion())


MISSING: Any = object()
BINARY, REGRESSION = spec_of(), spec_of("regression")


def rule_of(verdict: Verdict, words: str) -> RuleResult:
    """Return the one rule whose name has these words."""
    [rule] = [r for r in verdict.rules if words in r.rule]
    return rule


def test_a_good_first_version_passes_every_rule() -> None:
    verdict = verdict_of(BINARY)

    assert (verdict.model, verdict.version, verdict.passed) == ("churn", 7, True)
    assert verdict.reason == "PASSED: all 3 rules let it pass"
    assert [(r.rule, r.got, r.expected) for r in verdict.rules] == [
        ("roc_auc meets the bound", "0.7 [0.68, 0.72]", "≥ 0.6"),
        ("roc_auc is better than baseline:constant", "better, by 0.2 [0.18, 0.22]", "better than 0.5"),
        ("no feature alone reaches a suspicious roc_auc", "most: visits 0.6", "< 0.95, or named in leakage_allowed"),
    ]
    assert [r.evidence for r in verdict.rules] == [
        {"value": 0.7, "low": 0.68, "high": 0.72},
        {"outcome": "better", "value": 0.2, "low": 0.18, "high": 0.22},
        {"visits": 0.6},
    ]


# ---------------------------------------------------------------- the bound

BOUNDS = {
    "above": (BINARY, 0.7, True),
    "on it": (BINARY, 0.6, True),
    "below": (BINARY, 0.5999, False),
    "no number": (BINARY, NAN, False),
    "infinite": (BINARY, INF, False),
    "missing": (BINARY, MISSING, False),
    "lower is better: below": (REGRESSION, 9.0, True),
    "lower is better: on it": (REGRESSION, 10.0, True),
    "lower is better: above": (REGRESSION, 10.001, False),
    "lower is better: no number": (REGRESSION, NAN, False),
    "lower is better: minus infinity": (REGRESSION, -INF, False),
    "lower is better: missing": (REGRESSION, MISSING, False),
}


@pytest.mark.parametrize(("spec", "value", "passed"), BOUNDS.values(), ids=BOUNDS)
def test_version_has_to_meet_the_bound(spec: ModelSpec, value: Any, passed: bool) -> None:
    verdict = verdict_of(spec, {("candidate", "", spec.gate.metric): value})
    rule = rule_of(verdict, "meets the bound")

    assert (rule.passed, verdict.passed) == (passed, passed)
    assert (rule.got == "no such figure") == (value in (NAN, INF, -INF, MISSING))
    assert bool(rule.evidence) == (rule.got != "no such figure")


# ---------------------------------------------------------------- baselines

BASELINES = {
    "better": (BINARY, Figure(0.1, 0.01, 0.2), "better"),
    "from zero on": (BINARY, Figure(0.1, 0.0, 0.2), "indistinguishable"),
    "indistinguishable": (BINARY, Figure(0.1, -0.01, 0.2), "indistinguishable"),
    "worse": (BINARY, Figure(-0.1, -0.2, -0.01), "worse"),
    "without interval": (BINARY, 0.1, "indistinguishable"),
    "no number": (BINARY, NAN, "indistinguishable"),
    "missing": (BINARY, MISSING, "indistinguishable"),
    "lower: better": (REGRESSION, Figure(-3.0, -4.0, -2.0), "better"),
    "lower: indistinguishable": (REGRESSION, Figure(-3.0, -4.0, 0.5), "indistinguishable"),
    "lower: worse": (REGRESSION, Figure(3.0, 2.0, 4.0), "worse"),
}


@pytest.mark.parametrize(("spec", "gap", "told"), BASELINES.values(), ids=BASELINES)
def test_version_has_to_beat_the_baseline_beyond_doubt(spec: ModelSpec, gap: Any, told: str) -> None:
    verdict = verdict_of(spec, {("difference:baseline:constant", "", spec.gate.metric): gap})
    rule = rule_of(verdict, "baseline:constant")

    assert (rule.passed, verdict.passed) == (told == "better", told == "better")
    assert rule.evidence["outcome"] == told


def test_every_declared_baseline_has_to_be_beaten_also_one_that_was_not_measured() -> None:
    spec = spec_of(evaluation='baseline_by = "shop"')
    shop, gap = ("baseline:shop", "", "roc_auc"), ("difference:baseline:shop", "", "roc_auc")

    both = verdict_of(spec, {shop: 0.65, gap: Figure(0.05, -0.01, 0.11)})
    assert [r.passed for r in both.rules] == [True, True, False, True]
    assert both.reason == (
        "REFUSED: roc_auc is better than baseline:shop: indistinguishable, by 0.05 [-0.01, 0.11], "
        "expected better than 0.65"
    )
    missing = rule_of(verdict_of(spec), "baseline:shop")
    assert (missing.got, missing.expected, missing.passed) == ("no difference", "better", False)
    none = rule_of(verdict_of(BINARY, {key: MISSING for key in GOOD["binary"] if "baseline" in key[0]}), "baseline")
    assert (none.rule, none.passed) == ("roc_auc is better than baseline:constant", False)


def test_baselines_can_be_left_out() -> None:
    verdict = verdict_of(
        spec_of(gate=NO_BASELINE), {("difference:baseline:constant", "", "roc_auc"): Figure(-0.1, -0.2, 0.0)}
    )
    assert verdict.passed
    assert [r for r in verdict.rules if "baseline" in r.rule] == []


# ---------------------------------------------------------------- the champion

BETTER, EQUAL, WORSE = Figure(0.02, 0.01, 0.03), Figure(0.001, -0.01, 0.012), Figure(-0.02, -0.03, -0.01)
#: gate, difference from the champion, outcome, passed
CHAMPIONS: dict[str, tuple[str, str, Any, str, bool]] = {
    "better": ("binary", "", BETTER, "better", True),
    "indistinguishable keeps": ("binary", "", EQUAL, "indistinguishable", False),
    "worse keeps": ("binary", "", WORSE, "worse", False),
    "indistinguishable promotes": (
        "binary", 'champion_indistinguishable = "promote"', EQUAL, "indistinguishable", True
    ),
    "worse promotes": ("binary", 'champion_worse = "promote"', WORSE, "worse", True),
    "better keeps": ("binary", 'champion_better = "keep"', BETTER, "better", False),
    "better by less than the margin": ("binary", "champion_margin = 0.015", BETTER, "indistinguishable", False),
    "better by the margin exactly": ("binary", "champion_margin = 0.01", BETTER, "indistinguishable", False),
    "better by more than the margin": ("binary", "champion_margin = 0.009", BETTER, "better", True),
    "worse by less than the margin": (
        "binary", 'champion_margin = 0.015\nchampion_indistinguishable = "promote"', WORSE, "indistinguishable", True
    ),
    "worse by more than the margin": (
        "binary", 'champion_margin = 0.005\nchampion_indistinguishable = "promote"', WORSE, "worse", False
    ),
    "without interval": ("binary", "", 0.3, "indistinguishable", False),
    "no number": ("binary", 'champion_indistinguishable = "promote"', NAN, "indistinguishable", False),
    "missing": ("binary", 'champion_indistinguishable = "promote"', MISSING, "indistinguishable", False),
    "lower: better": ("regression", "", WORSE, "better", True),
    "lower: indistinguishable": ("regression", "", EQUAL, "indistinguishable", False),
    "lower: worse": ("regression", "", BETTER, "worse", False),
    "lower: better by less than the margin": (
        "regression", "champion_margin = 0.015", WORSE, "indistinguishable", False
    ),
}  # fmt: skip


@pytest.mark.parametrize(("task", "gate", "gap", "told", "passed"), CHAMPIONS.values(), ids=CHAMPIONS)
def test_what_follows_from_the_comparison_with_the_champion_is_what_the_model_says(
    task: str,
    gate: str,
    gap: Any,
    told: str,
    passed: bool,
) -> None:
    spec = spec_of(task, gate)
    figures = {("difference:champion:3", "", spec.gate.metric): gap}
    verdict = verdict_of(spec, figures, Champion(version=3, state="measured"))
    rule = rule_of(verdict, "against champion 3")

    assert (rule.evidence["outcome"], rule.passed, verdict.passed) == (told, passed, passed)
    assert rule.evidence["margin"] == (spec.gate.champion_margin or 0.0)


@pytest.mark.parametrize(("low", "told"), [(0.0011, "indistinguishable"), (0.0013, "better")], ids=["inside", "beyond"])
def test_margin_of_a_model_that_names_none_is_a_share_of_the_champions_figure(low: float, told: str) -> None:
    figures = {("difference:champion:3", "", "roc_auc"): Figure(0.01, low, 0.02), ("champion:3", "", "roc_auc"): 0.6}
    rule = rule_of(verdict_of(spec_of(), figures, Champion(version=3, state="measured")), "champion")
    assert rule.evidence["margin"] == pytest.approx(0.0012)
    assert rule.evidence["outcome"] == told


@pytest.mark.parametrize(
    ("gate", "expected"),
    [
        ("", "better (margin 0)"),
        ('champion_indistinguishable = "promote"', "better or indistinguishable (margin 0)"),
        ("champion_margin = 0.005", "better (margin 0.005)"),
        ('champion_better = "keep"', "nothing lets it pass"),
    ],
)
def test_rule_says_which_outcomes_let_a_version_pass(gate: str, expected: str) -> None:
    figures = {("difference:champion:3", "", "roc_auc"): WORSE}
    rule = rule_of(verdict_of(spec_of(gate=gate), figures, Champion(version=3, state="measured")), "champion")
    assert (rule.expected, rule.got, rule.passed) == (expected, "worse, by -0.02 [-0.03, -0.01]", False)


@pytest.mark.parametrize("gap", [MISSING, WORSE], ids=["not measured", "measured as worse"])
def test_champion_that_is_marked_bad_does_not_keep_a_successor_out(gap: Any) -> None:
    figures = {("difference:champion:3", "", "roc_auc"): gap}
    verdict = verdict_of(BINARY, figures, Champion(version=3, state="bad"))
    rule = rule_of(verdict, "champion")

    assert verdict.passed
    assert (rule.got, rule.expected, rule.evidence) == ("not compared", "nothing: it is marked bad", {"outcome": "bad"})
    refused = verdict_of(BINARY, {**figures, ("candidate", "", "roc_auc"): 0.5}, Champion(version=3, state="bad"))
    assert not refused.passed


# ---------------------------------------------------------------- slices, calibration, speed


def sliced(values: Mapping[str, float], metric: str = "roc_auc") -> dict[tuple[str, str, str], Figure | float]:
    return {("candidate", place, metric): value for place, value in values.items()}


SLICES = {
    "all meet it": (
        "binary", {"shop=mill": 0.7, "shop=quay": 0.55}, "all 2 do; worst shop=quay 0.55", True
    ),
    "on the bound": ("binary", {"shop=mill": 0.55}, "all 1 do; worst shop=mill 0.55", True),
    "some fail": (
        "binary", {"a": 0.54, "b": 0.5, "c": 0.9}, "2 of 3 fail; worst b 0.5", False
    ),
    "lower: all meet it": ("regression", {"a": 11.0, "b": 12.0}, "all 2 do; worst b 12", True),
    "lower: some fail": ("regression", {"a": 11.0, "b": 13.0, "c": 14.0}, "2 of 3 fail; worst c 14", False),
}  # fmt: skip


@pytest.mark.parametrize(("task", "values", "got", "passed"), SLICES.values(), ids=SLICES)
def test_every_slice_has_to_meet_the_bound_of_slices_and_the_worst_is_named(
    task: str,
    values: dict[str, float],
    got: str,
    passed: bool,
) -> None:
    bound = {"binary": 0.55, "regression": 12}[task]
    spec = spec_of(task, f"slice_bound = {bound}", 'slices = ["shop"]\nslice_rows = 50')
    first = next(iter(values))
    other = {("candidate", first, "brier"): 99.0, ("champion:3", "shop=mill", spec.gate.metric): 0.0}
    verdict = verdict_of(spec, {**sliced(values, spec.gate.metric), **other})
    rule = rule_of(verdict, "every slice of 50 rows or more")

    assert (rule.got, rule.passed, verdict.passed) == (got, passed, passed)
    assert rule.evidence == values
    assert next(iter(rule.evidence)) in got


def test_a_bound_of_slices_that_was_never_tried_is_not_met() -> None:
    verdict = verdict_of(spec_of("binary", "slice_bound = 0.5", 'slices = ["shop"]\nslice_rows = 50'), {})
    rule = rule_of(verdict, "every slice of 50 rows or more")
    assert (rule.got, rule.passed) == ("there is none", False)


UNDEFINED = {
    "beside one that meets it": ({"shop=mill": 0.7}, "all 1 do; worst shop=mill 0.7; undefined: shop=park, shop=quay"),
    "beside one that fails": ({"shop=mill": 0.4}, "1 of 1 fail; worst shop=mill 0.4; undefined: shop=park, shop=quay"),
    "alone": ({}, "there is none"),
}


@pytest.mark.parametrize(("values", "got"), UNDEFINED.values(), ids=UNDEFINED)
def test_slices_whose_figure_is_undefined_are_named_and_meet_no_bound(values: dict[str, float], got: str) -> None:
    """Rows of one class have no ROC AUC, but a Brier score."""
    one_class = {("candidate", place, "brier"): 0.1 for place in ("shop=quay", "shop=park", *values)}
    elsewhere = {("candidate", "", "brier"): 0.1, ("baseline:shop", "shop=pier", "brier"): 0.2}
    spec = spec_of("binary", "slice_bound = 0.5", 'slices = ["shop"]\nslice_rows = 50')
    rule = rule_of(verdict_of(spec, {**sliced(values), **one_class, **elsewhere}), "every slice")

    assert (rule.got, rule.passed) == (got, got.startswith("all"))
    assert rule.evidence == values


def test_slices_are_not_judged_without_a_bound_for_them() -> None:
    verdict = verdict_of(spec_of(evaluation='slices = ["shop"]'), sliced({"shop=mill": 0.1}))
    assert verdict.passed
    assert [r for r in verdict.rules if "slice" in r.rule] == []


LIMITS = {
    "calibrated": ("calibration_maximum = 0.05", "calibration_error", 0.05, True),
    "not calibrated": ("calibration_maximum = 0.05", "calibration_error", 0.0501, False),
    "calibration is no number": ("calibration_maximum = 0.05", "calibration_error", NAN, False),
    "calibration is missing": ("calibration_maximum = 0.05", "calibration_error", MISSING, False),
    "fast": ("rows_per_second_minimum = 1000", "rows_per_second", 1000.0, True),
    "slow": ("rows_per_second_minimum = 1000", "rows_per_second", 999.0, False),
    "speed is no number": ("rows_per_second_minimum = 1000", "rows_per_second", NAN, False),
    "speed is missing": ("rows_per_second_minimum = 1000", "rows_per_second", MISSING, False),
}


@pytest.mark.parametrize(("gate", "name", "value", "passed"), LIMITS.values(), ids=LIMITS)
def test_limits_of_calibration_and_speed_hold_when_they_are_set(
    gate: str,
    name: str,
    value: Any,
    passed: bool,
) -> None:
    figures = {("candidate", "", name): value}
    verdict = verdict_of(spec_of(gate=gate), figures)

    assert verdict.passed == passed
    assert len(verdict.rules) == 4
    assert len(verdict_of(BINARY, figures).rules) == 3


# ---------------------------------------------------------------- leakage

LEAKS = {
    "none": ("", {"visits": 0.94}, ""),
    "one": ("", {"visits": 0.95, "plan": 0.5}, "visits alone reaches 0.95"),
    "two, the louder first": ("", {"a": 0.97, "plan": 0.5, "z": 1.0}, "z alone reaches 1; a alone reaches 0.97"),
    "one is allowed": ('leakage_allowed = ["z"]', {"a": 0.97, "z": 1.0}, "a alone reaches 0.97"),
    "all are allowed": ('leakage_allowed = ["a", "z"]', {"a": 0.97, "z": 1.0}, ""),
    "a lower alarm": ("leakage_alarm = 0.6", {"visits": 0.6}, "visits alone reaches 0.6"),
}


@pytest.mark.parametrize(("gate", "values", "got"), LEAKS.values(), ids=LEAKS)
def test_feature_that_alone_nearly_knows_the_outcome_is_refused_by_name(
    gate: str, values: dict[str, float], got: str
) -> None:
    alone = {(f"feature:{name}", "", "roc_auc"): value for name, value in values.items()}
    verdict = verdict_of(spec_of(gate=gate), {("feature:visits", "", "roc_auc"): MISSING, **alone})
    rule = rule_of(verdict, "no feature alone")

    assert (rule.passed, verdict.passed) == (not got, not got)
    assert rule.got == (got or f"most: {max(values, key=values.__getitem__)} {max(values.values()):.4g}")
    assert rule.evidence == values
    if got:
        assert got in verdict.reason


def test_a_regression_is_searched_for_leaks_by_r2_and_not_by_importance() -> None:
    figures = {
        ("feature:visits", "", "r2"): 0.99,
        ("feature:plan", "", "mae"): 0.99,
        ("importance:plan", "", "mae"): 0.99,
    }
    rule = rule_of(verdict_of(REGRESSION, figures), "no feature alone")
    assert (rule.rule, rule.got, rule.evidence) == (
        "no feature alone reaches a suspicious r2",
        "visits alone reaches 0.99",
        {"visits": 0.99},
    )


# ---------------------------------------------------------------- what people read


def test_reason_names_only_the_rules_that_failed() -> None:
    figures = {("candidate", "", "roc_auc"): 0.5, ("difference:champion:3", "", "roc_auc"): WORSE}
    verdict = verdict_of(BINARY, figures, Champion(version=3, state="measured"))
    assert verdict.reason == (
        "REFUSED: roc_auc meets the bound: 0.5, expected ≥ 0.6; "
        "roc_auc against champion 3: worse, by -0.02 [-0.03, -0.01], expected better (margin 0)"
    )


def test_table_has_a_row_per_rule_in_aligned_columns() -> None:
    head, _, *rows = verdict_of(BINARY, {("candidate", "", "roc_auc"): 0.5}).table().splitlines()
    starts = [head.index(name) for name in ("rule", "got", "expected", "passed")]
    cells = [[row[a:b].strip() for a, b in zip(starts, [*starts[1:], None], strict=True)] for row in rows]
    assert cells == [
        ["roc_auc meets the bound", "0.5", "≥ 0.6", "NO"],
        ["roc_auc is better than baseline:constant", "better, by 0.2 [0.18, 0.22]", "better than 0.5", "yes"],
        ["no feature alone reaches a suspicious roc_auc", "most: visits 0.6", "< 0.95, or named in leakage_allowed",
         "yes"],
    ]  # fmt: skip
    assert verdict_of(BINARY).table("github").startswith("| rule")


# ---------------------------------------------------------------- outcomes

finite = st.floats(-1e6, 1e6)
margins = st.floats(0, 1e6)


@st.composite
def gaps(draw: st.DrawFn) -> Figure:
    low, value, high = sorted(draw(st.tuples(finite, finite, finite)))
    return Figure(value, low, high)


def mirrored(gap: Figure) -> Figure:
    assert gap.low is not None
    assert gap.high is not None
    return Figure(-gap.value, -gap.high, -gap.low)


OPPOSITE = {"better": "worse", "worse": "better", "indistinguishable": "indistinguishable"}


@given(gap=gaps(), higher=st.booleans(), margin=margins)
def test_outcome_turns_round_with_the_difference_and_with_the_direction(
    gap: Figure,
    higher: bool,
    margin: float,
) -> None:
    told = outcome_of(gap, higher_is_better=higher, margin=margin)
    assert outcome_of(mirrored(gap), higher_is_better=higher, margin=margin) == OPPOSITE[told]
    assert outcome_of(gap, higher_is_better=not higher, margin=margin) == OPPOSITE[told]


@given(gap=gaps(), higher=st.booleans(), margin=margins)
def test_difference_whose_interval_holds_zero_tells_nothing(
    gap: Figure,
    higher: bool,
    margin: float,
) -> None:
    assert gap.low is not None
    assert gap.high is not None
    assume(gap.low <= 0 <= gap.high)
    assert outcome_of(gap, higher_is_better=higher, margin=margin) == "indistinguishable"


@given(gap=gaps(), higher=st.booleans(), margin=margins, more=margins)
def test_wider_margin_never_tells_more(
    gap: Figure,
    higher: bool,
    margin: float,
    more: float,
) -> None:
    told = outcome_of(gap, higher_is_better=higher, margin=margin + more)
    assert told in (outcome_of(gap, higher_is_better=higher, margin=margin), "indistinguishable")


@given(value=finite, higher=st.booleans())
def test_difference_without_an_interval_tells_nothing(
    value: float,
    higher: bool,
) -> None:
    assert outcome_of(Figure(value), higher_is_better=higher, margin=0.0) == "indistinguishable"


# ---------------------------------------------------------------- three outcomes

UNREADABLE = Champion(version=3, state="unreadable", why="its files are gone")
LEAK = {("feature:x", "", "roc_auc"): 1.0}


@given(
    st.dictionaries(
        st.sampled_from(["candidate", "difference:baseline:constant", "feature:visits"]),
        st.floats(0.0, 1.0),
        max_size=3,
    )
)
def test_a_champion_that_cannot_be_compared_never_passes_and_never_refuses_by_itself(values: dict[str, float]) -> None:
    """Whatever the other figures are: with it the verdict is undecided exactly where it would have passed without."""
    changes = {(subject, "", "roc_auc"): Figure(v, v, v) for subject, v in values.items()}
    without, beside = verdict_of(BINARY, changes), verdict_of(BINARY, changes, UNREADABLE)
    assert beside.outcome == ("undecided" if without.passed else "refused")
    assert not beside.passed


def test_an_undecided_verdict_says_so_first_and_why() -> None:
    verdict = verdict_of(BINARY, {}, UNREADABLE)
    against = "roc_auc against champion 3: cannot be compared: its files are gone, expected a decision of a person"
    assert verdict.reason == f"UNDECIDED: {against}"
    assert "UNDECIDED" in verdict.table().splitlines()[-2]
    assert verdict_of(BINARY, LEAK, UNREADABLE).reason.startswith("REFUSED: no feature alone")


@pytest.mark.parametrize("champion", [Champion(), UNREADABLE, Champion(version=3, state="bad")])
def test_a_rule_is_read_as_it_was_kept_also_before_there_were_outcomes(champion: Champion) -> None:
    for rule in verdict_of(BINARY, LEAK, champion).rules:
        assert RuleResult.from_json(rule.as_json()) == rule
        old = {k: v for k, v in rule.as_json().items() if k != "outcome"}
        assert RuleResult.from_json(old).passed == rule.passed


# ---------------------------------------------------------------- a champion below the bound

BELOW = {
    ("candidate", "", "roc_auc"): Figure(0.58, 0.57, 0.59),
    ("champion:3", "", "roc_auc"): Figure(0.52, 0.51, 0.53),
    ("difference:champion:3", "", "roc_auc"): Figure(0.06, 0.05, 0.07),
}


@pytest.mark.parametrize(
    ("choice", "gap", "passed"),
    [
        ("keep", Figure(0.06, 0.05, 0.07), False),
        ("replace", Figure(0.06, 0.05, 0.07), True),
        ("replace", EQUAL, False),
        ("replace", WORSE, False),
        ("replace", MISSING, False),
    ],
    ids=["keep", "replace by a better one", "no difference", "worse", "not compared"],
)
def test_a_champion_that_misses_the_bound_is_said_aloud_and_falls_only_where_the_model_says_so(
    choice: str, gap: Any, passed: bool
) -> None:
    spec = spec_of(gate=f'champion_below_bound = "{choice}"\nchampion_indistinguishable = "promote"')
    verdict = verdict_of(spec, {**BELOW, ("difference:champion:3", "", "roc_auc"): gap},
                         Champion(version=3, state="measured"))  # fmt: skip
    warning, bound = rule_of(verdict, "champion 3 itself"), rule_of(verdict, "roc_auc meets the bound")

    assert (warning.outcome, warning.passed) == ("warning", True)
    assert warning.evidence == {"champion_below_bound": choice, "value": 0.52, "low": 0.51, "high": 0.53}
    assert "; WARNING: champion 3 itself meets the bound: 0.52 [0.51, 0.53], NOT: " in verdict.reason
    assert (bound.passed, verdict.passed) == (passed, passed)


def test_a_champion_that_meets_the_bound_lets_nothing_below_it_pass() -> None:
    spec = spec_of(gate='champion_below_bound = "replace"')
    verdict = verdict_of(spec, {**BELOW, ("champion:3", "", "roc_auc"): 0.6}, Champion(version=3, state="measured"))
    assert not rule_of(verdict, "roc_auc meets the bound").passed
    assert "WARNING" not in verdict.reason


# ---------------------------------------------------------------- what readers rely on, and being filled in


@pytest.mark.parametrize("kept", [True, False])
def test_predictions_that_do_not_fit_the_earlier_ones_are_refused(kept: bool) -> None:
    figures = {k: Measured(subject=k[0], slice=k[1], name=k[2], figure=f if isinstance(f, Figure) else Figure(f),
                           row_count=600) for k, f in GOOD["binary"].items()}  # fmt: skip
    contract = Contract(got="label text", expected="label bigint", kept=kept)
    verdict = decide(BINARY, model="churn", version=7, figures=figures, champion=Champion(), contract=contract)
    assert verdict.rules[0].rule == "key, label and classes are those of the published predictions"
    assert (verdict.rules[0].passed, verdict.passed) == (kept, kept)


@pytest.mark.parametrize(
    ("value", "gate", "passed"),
    [
        (1.0, "", False), (0.95, "", False), (0.94, "", True), (1.0, 'leakage_allowed = ["refund"]', True),
        (0.9, "leakage_alarm = 0.9", False),
    ],
)  # fmt: skip
def test_a_feature_filled_in_only_for_one_outcome_is_refused_and_its_weight_is_said(
    value: float, gate: str, passed: bool
) -> None:
    figures = {("filled:refund", "label=1", "one_outcome"): value, ("importance:refund", "", "roc_auc"): 0.12}
    verdict = verdict_of(spec_of(gate=gate), figures)
    rules = [r for r in verdict.rules if "filled in" in r.rule]
    assert verdict.passed == passed
    if not passed:
        said = "refund has a value in 600 rows, nearly all of label=1; shuffling it costs 0.12 roc_auc"
        assert rules[0].got == said
