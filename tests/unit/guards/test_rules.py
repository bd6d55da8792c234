"""What each guard says of a batch, on both sides of its bound."""

from __future__ import annotations

import datetime as dt
import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ponte.guards.profiles import Profile
from ponte.guards.rules import FEW_ROWS, GuardResult, judge
from ponte.model.spec import Guard

AS_OF = dt.datetime(2024, 2, 12, tzinfo=dt.UTC)
NAMES = ["row_count", "unscored", "set_aside", "constant_score", "mean_score", "class_share", "freshness"]
#: A batch as any other: 1000 rows, scores of 0.3 ± 0.1, every fifth is a "yes".
USUAL = Profile(
    batch_id=9,
    row_count=1000,
    scored_count=1000,
    unscored_count=0,
    score_mean=(0.3,),
    score_sd=(0.1,),
    distinct_scores=True,
    class_shares={"no": 0.8, "yes": 0.2},
    newest_feature=None,
)
FRESH = Guard(freshness_column="seen_at", freshness_hours=24)
HOUR = dt.timedelta(hours=1)


def earlier(count: int = 3, **changes: Any) -> list[Profile]:
    """Return profiles of earlier batches; a change that is a list gives one value to each."""
    return [
        replace(USUAL, batch_id=n, **{k: v[n] if isinstance(v, list) else v for k, v in changes.items()})
        for n in range(count)
    ]


def said(name: str, profile: Profile, before: list[Profile], rules: Guard | None = None) -> GuardResult:
    [found] = [r for r in judge(profile, before, rules or Guard(), as_of=AS_OF) if r.guard == name]
    return found


def outcomes(profile: Profile, before: list[Profile], rules: Guard | None = None) -> dict[str, str]:
    return {r.guard: r.outcome for r in judge(profile, before, rules or Guard(), as_of=AS_OF)}


MULTI: dict[str, Any] = {"score_mean": (0.2, 0.3, 0.5), "score_sd": (0.1, 0.1, 0.2)}
REGRESSION: dict[str, Any] = {"score_mean": (20.0,), "score_sd": (5.0,), "class_shares": {}}
NONE: dict[str, Any] = {"score_mean": (), "score_sd": ()}

#: guard → (what the batch is, what the earlier ones are, rules, outcome)
CASES: dict[str, tuple[str, dict[str, Any], list[Profile], dict[str, Any], str]] = {
    "rows at the lower bound": ("row_count", {"row_count": 500}, earlier(), {}, "passed"),
    "rows as no window before": ("row_count", {"row_count": 800}, earlier(6), {}, "tripped"),
    "more rows than ever before": ("row_count", {"row_count": 1300}, earlier(6), {}, "tripped"),
    "rows within chance": ("row_count", {"row_count": 900}, earlier(6), {}, "passed"),
    "rows within what they vary": (
        "row_count",
        {"row_count": 800},
        earlier(6, row_count=[900, 1000, 950, 1000, 1000, 1000]),
        {},
        "passed",
    ),
    "rows far off, and nobody looks": ("row_count", {"row_count": 800}, earlier(6), {"row_count_ranges": 0}, "passed"),
    "rows set aside as never before": ("set_aside", {"scored_count": 980}, earlier(6), {}, "tripped"),
    "rows set aside as before": ("set_aside", {"scored_count": 980}, earlier(6, scored_count=980), {}, "passed"),
    "fewer rows set aside": ("set_aside", {}, earlier(6, scored_count=900), {}, "passed"),
    "rows set aside beside five": ("set_aside", {"scored_count": 900}, earlier(5), {}, "skipped"),
    "rows below the lower bound": ("row_count", {"row_count": 499}, earlier(), {}, "tripped"),
    "rows at the upper bound": ("row_count", {"row_count": 2000}, earlier(), {}, "passed"),
    "rows above the upper bound": ("row_count", {"row_count": 2001}, earlier(), {}, "tripped"),
    "rows beside a median that an outlier does not move": (
        "row_count", {"row_count": 501}, earlier(3, row_count=[1000, 1000, 10**6]), {}, "passed"),
    "rows with bounds of their own": (
        "row_count", {"row_count": 899}, earlier(), {"row_count_minimum": 0.9}, "tripped"),
    "rows without a lower bound": ("row_count", {"row_count": 1}, earlier(), {"row_count_minimum": 0.0}, "passed"),
    "rows beside too few batches": ("row_count", {"row_count": 1}, earlier(2), {}, "skipped"),
    "rows beside as few as the author says": (
        "row_count", {"row_count": 1}, earlier(1), {"minimum_batches": 1}, "tripped"),
    "rows beside nothing": ("row_count", {"row_count": 1}, [], {"minimum_batches": 1}, "skipped"),
    "unscored at the bound": ("unscored", {"unscored_count": 10}, [], {}, "passed"),
    "unscored above the bound": ("unscored", {"unscored_count": 11}, [], {}, "tripped"),
    "unscored, none allowed": ("unscored", {"unscored_count": 1}, [], {"unscored_maximum": 0.0}, "tripped"),
    "unscored, all allowed": ("unscored", {"unscored_count": 1000}, [], {"unscored_maximum": 1.0}, "passed"),
    "different scores": ("constant_score", {}, [], {}, "passed"),
    "one score": ("constant_score", {"distinct_scores": False}, [], {}, "tripped"),
    "one score that is allowed": (
        "constant_score", {"distinct_scores": False}, [], {"constant_score": "allow"}, "skipped"),
    "one score of just enough rows": (
        "constant_score", {"distinct_scores": False, "scored_count": FEW_ROWS}, [], {}, "tripped"),
    "one score of too few rows": (
        "constant_score", {"distinct_scores": False, "scored_count": FEW_ROWS - 1}, [], {}, "skipped"),
    "no scores are not one score": ("constant_score", {"distinct_scores": False, **NONE}, [], {}, "skipped"),
    "one prediction of a regression": (
        "constant_score", {"distinct_scores": False, **REGRESSION}, [], {}, "tripped"),
    "mean at the bound": (
        "mean_score", {"score_mean": (0.5,)}, earlier(score_mean=(0.25,), score_sd=(0.25,)), {}, "passed"),
    "mean above the bound": (
        "mean_score", {"score_mean": (0.501,)}, earlier(score_mean=(0.25,), score_sd=(0.25,)), {}, "tripped"),
    "mean at the bound from below": (
        "mean_score", {"score_mean": (0.0,)}, earlier(score_mean=(0.25,), score_sd=(0.25,)), {}, "passed"),
    "mean below the bound": (
        "mean_score", {"score_mean": (-0.001,)}, earlier(score_mean=(0.25,), score_sd=(0.25,)), {}, "tripped"),
    "mean beside a bound of its own": (
        "mean_score", {"score_mean": (0.31,)}, earlier(), {"mean_score_jump": 0.05}, "tripped"),
    "mean beside a median that an outlier does not move": (
        "mean_score", {}, earlier(3, score_mean=[(0.3,), (0.3,), (0.99,)]), {"mean_score_jump": 0.01}, "passed"),
    "spread is the median too": (
        "mean_score", {"score_mean": (0.45,)}, earlier(3, score_sd=[(0.1,), (0.1,), (9.0,)]), {}, "tripped"),
    "mean beside scores that never varied": (
        "mean_score", {"score_mean": (0.9,)}, earlier(score_sd=(0.0,)), {}, "passed"),
    "mean beside too few batches": ("mean_score", {"score_mean": (0.9,)}, earlier(2), {}, "skipped"),
    "mean beside batches without scores": ("mean_score", {"score_mean": (0.9,)}, earlier(**NONE), {}, "skipped"),
    "mean without scores": ("mean_score", NONE, earlier(), {}, "skipped"),
    "mean without scores beside batches without": ("mean_score", NONE, earlier(**NONE), {}, "skipped"),
    "mean beside another number of classes": ("mean_score", MULTI, earlier(), {}, "skipped"),
    "mean where enough have the same number of classes": (
        "mean_score", {"score_mean": (0.9,)}, [*earlier(), *earlier(2, **MULTI)], {}, "tripped"),
    "mean where too few have the same number of classes": (
        "mean_score", {"score_mean": (0.9,)}, [*earlier(2), *earlier(2, **MULTI)], {}, "skipped"),
    "mean of each class": ("mean_score", MULTI, earlier(**MULTI), {}, "passed"),
    "mean of one class of three": (
        "mean_score", {**MULTI, "score_mean": (0.15, 0.41, 0.44)}, earlier(**MULTI), {}, "tripped"),
    "mean of a regression": ("mean_score", {**REGRESSION, "score_mean": (25.0,)}, earlier(**REGRESSION), {}, "passed"),
    "mean of a regression that is off": (
        "mean_score", {**REGRESSION, "score_mean": (25.1,)}, earlier(**REGRESSION), {}, "tripped"),
    "share at the bound": (
        "class_share", {"class_shares": {"no": 0.5, "yes": 0.5}},
        earlier(class_shares={"no": 0.75, "yes": 0.25}), {}, "passed"),
    "share above the bound": (
        "class_share", {"class_shares": {"no": 0.499, "yes": 0.501}},
        earlier(class_shares={"no": 0.75, "yes": 0.25}), {}, "tripped"),
    "share with a bound of its own": (
        "class_share", {"class_shares": {"no": 0.7, "yes": 0.3}}, earlier(), {"class_share_jump": 0.05}, "tripped"),
    "a class that appears": (
        "class_share", {"class_shares": {"no": 0.65, "yes": 0.05, "maybe": 0.3}}, earlier(), {}, "tripped"),
    "a class that appears seldom": (
        "class_share", {"class_shares": {"no": 0.7, "yes": 0.2, "maybe": 0.1}}, earlier(), {}, "passed"),
    "a class that disappears": (
        "class_share", {"class_shares": {"no": 0.85, "maybe": 0.15}},
        earlier(class_shares={"no": 0.7, "yes": 0.3}), {}, "tripped"),
    "share beside too few batches": ("class_share", {"class_shares": {"no": 1.0}}, earlier(2), {}, "skipped"),
    "share beside too few batches with classes": (
        "class_share", {"class_shares": {"yes": 1.0}}, [*earlier(2), *earlier(2, class_shares={})], {}, "skipped"),
    "no classes": ("class_share", REGRESSION, earlier(), {}, "skipped"),
}  # fmt: skip


@pytest.mark.parametrize(("guard", "batch", "before", "rules", "outcome"), CASES.values(), ids=CASES)
def test_guard_trips_beyond_its_bound_and_not_at_it(
    guard: str, batch: dict[str, Any], before: list[Profile], rules: dict[str, Any], outcome: str
) -> None:
    found = said(guard, replace(USUAL, **batch), before, Guard(**rules))
    assert found.outcome == outcome
    assert found.got, "every result says what was found"
    assert bool(found.expected) == (outcome != "skipped")


@pytest.mark.parametrize(
    ("newest", "outcome"),
    [
        (AS_OF - 24 * HOUR, "passed"),
        (AS_OF - 24 * HOUR - dt.timedelta(microseconds=1), "tripped"),
        (AS_OF, "passed"),
        (AS_OF + HOUR, "passed"),
        (None, "tripped"),
    ],
    ids=["as old as allowed", "older", "of this moment", "from later", "NULL"],
)
def test_freshness_is_the_age_of_the_newest_feature_at_as_of(newest: dt.datetime | None, outcome: str) -> None:
    found = said("freshness", replace(USUAL, newest_feature=newest), [], FRESH)
    assert found.outcome == outcome
    assert found.expected == "2024-02-11T00:00:00+00:00 or later"
    assert found.got == f"newest seen_at is {newest.isoformat() if newest else 'NULL'}"


def test_freshness_is_skipped_when_nothing_is_declared() -> None:
    assert said("freshness", replace(USUAL, newest_feature=AS_OF), []).outcome == "skipped"


def test_a_usual_batch_passes_every_guard_that_can_be_asked() -> None:
    assert outcomes(replace(USUAL, newest_feature=AS_OF), earlier(6), FRESH) == dict.fromkeys(NAMES, "passed")


def test_the_first_batches_are_judged_by_themselves_only() -> None:
    skipped = dict.fromkeys(["row_count", "set_aside", "mean_score", "class_share", "freshness"], "skipped")
    assert outcomes(USUAL, []) == {**skipped, "unscored": "passed", "constant_score": "passed"}


def test_every_guard_answers_even_when_another_has_tripped() -> None:
    """Whoever looks for the reason sees all of them at once."""
    strange = replace(
        USUAL, row_count=10_000, unscored_count=5000, distinct_scores=False, score_mean=(0.99,), class_shares={"yes": 1}
    )
    assert outcomes(strange, earlier(6), FRESH) == dict.fromkeys(NAMES, "tripped")


def test_an_empty_batch_is_not_judged() -> None:
    empty = replace(USUAL, row_count=0, scored_count=0, distinct_scores=False, class_shares={}, **NONE)
    assert judge(empty, earlier(), FRESH, as_of=AS_OF) == []


def test_what_was_found_is_told_with_figures_and_the_batches_compared_with() -> None:
    before = earlier(3, row_count=[1000, 1100, 1200], score_mean=[(0.3,), (0.31,), (0.29,)])
    odd = replace(USUAL, row_count=100, score_mean=(0.55,), unscored_count=4, class_shares={"no": 0.1, "yes": 0.9})
    found = {r.guard: r for r in judge(odd, before, Guard(), as_of=AS_OF)}

    assert str(found["row_count"]) == "row_count: 100 rows, expected 550 to 2200"
    assert found["row_count"].evidence == {"earlier": {0: 1000, 1: 1100, 2: 1200}, "median": 1100}
    assert str(found["unscored"]) == "unscored: 4 of 100 rows have no score, expected at most 1"
    assert str(found["mean_score"]) == "mean_score: mean 0.55, 2.50 standard deviations off, expected at most 1"
    assert found["mean_score"].evidence["earlier"] == {0: [0.3], 1: [0.31], 2: [0.29]}
    share = "class_share: class no: 10.0% of the rows, off by 70.0%, expected at most 25.0% off"
    assert str(found["class_share"]) == share
    assert found["class_share"].evidence["jumps"] == pytest.approx({"no": 0.7, "yes": 0.7})


figures = st.floats(0, 1)
profiles = st.builds(
    Profile,
    batch_id=st.integers(1, 99),
    row_count=st.integers(1, 10**9),
    scored_count=st.integers(0, 10**9),
    unscored_count=st.integers(0, 10**9),
    score_mean=st.lists(figures, max_size=3).map(tuple),
    score_sd=st.tuples(figures, figures, figures),
    distinct_scores=st.booleans(),
    class_shares=st.dictionaries(st.sampled_from(["a", "b", "c"]), figures),
    newest_feature=st.none() | st.just(AS_OF),
)


@given(profiles, st.lists(profiles, max_size=6), st.integers(1, 4), st.booleans())
def test_every_guard_says_something_of_any_batch_that_can_be_kept_as_json(
    profile: Profile, before: list[Profile], minimum: int, fresh: bool
) -> None:
    rules = (FRESH if fresh else Guard()).model_copy(update={"minimum_batches": minimum})
    results = judge(profile, before, rules, as_of=AS_OF)
    assert [r.guard for r in results] == NAMES
    for result in results:
        json.dumps(result.evidence, allow_nan=False)


def test_rows_may_vary_as_the_windows_of_training_do() -> None:
    """A holiday that eight weeks have not seen and a year has."""
    batch, year = replace(USUAL, row_count=600), [1000] * 51 + [800]
    tripped = [r.outcome for r in judge(batch, earlier(8), Guard(), as_of=AS_OF) if r.guard == "row_count"]
    found = judge(batch, earlier(8), Guard(), as_of=AS_OF, training_rows=year)
    assert (tripped, [r.outcome for r in found if r.guard == "row_count"]) == (["tripped"], ["passed"])
