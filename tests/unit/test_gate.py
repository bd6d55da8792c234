"""The gate decides by two rules and leaves its figures."""

from __future__ import annotations

import pytest

from ponte.gate import RuleResult, Verdict, decide
from ponte.spec import ModelSpec, parse_spec

NAN = float("nan")


def spec_of(task: str, gate: str) -> ModelSpec:
    text = f'description = "d"\nowner = "o"\ntask = "{task}"\nkey = ["id"]\n[gate]\n{gate}\n'
    return parse_spec(text, model="churn")


HIGHER = spec_of("binary", 'metric = "roc_auc"\nminimum = 0.6')
LOWER = spec_of("regression", 'metric = "mae"\nmaximum = 10')


def verdict_of(spec: ModelSpec, candidate: float, champion: float | None, champion_version: int | None) -> Verdict:
    return decide(
        spec, model="churn", version=7, candidate=candidate, champion=champion, champion_version=champion_version
    )


@pytest.mark.parametrize(
    ("spec", "candidate", "champion", "champion_version", "passed"),
    [
        (HIGHER, 0.7, None, None, [True]),
        (HIGHER, 0.6, None, None, [True]),
        (HIGHER, 0.5999, None, None, [False]),
        (HIGHER, 0.7, 0.69, 3, [True, True]),
        (HIGHER, 0.7, 0.7, 3, [True, True]),
        (HIGHER, 0.7, 0.71, 3, [True, False]),
        (HIGHER, 0.5, 0.4, 3, [False, True]),
        (HIGHER, 0.5, 0.55, 3, [False, False]),
        (HIGHER, 0.6, None, 3, [True, True]),
        (HIGHER, 0.5, None, 3, [False, True]),
        (HIGHER, NAN, None, None, [False]),
        (HIGHER, 0.7, NAN, 3, [True, False]),
        (LOWER, 9.0, None, None, [True]),
        (LOWER, 10.0, None, None, [True]),
        (LOWER, 10.5, None, None, [False]),
        (LOWER, 9.0, 9.5, 3, [True, True]),
        (LOWER, 9.0, 9.0, 3, [True, True]),
        (LOWER, 9.0, 8.5, 3, [True, False]),
        (LOWER, 9.0, None, 3, [True, True]),
        (LOWER, 10.5, None, 3, [False, True]),
        (LOWER, NAN, 9.0, 3, [False, False]),
    ],
    ids=[
        "over the bound", "on the bound", "under the bound", "champion is worse", "champion is equal",
        "champion is better", "better than the champion but under the bound", "worse in both",
        "champion cannot predict these rows", "under the bound and champion cannot predict", "candidate is NaN",
        "champion is NaN",
        "lower: under the bound", "lower: on the bound", "lower: over the bound", "lower: champion is worse",
        "lower: champion is equal", "lower: champion is better", "lower: champion cannot predict these rows",
        "lower: over the bound and champion cannot predict", "lower: candidate is NaN",
    ],
)  # fmt: skip
def test_version_passes_when_it_meets_the_bound_and_is_not_worse_than_the_champion(
    spec: ModelSpec, candidate: float, champion: float | None, champion_version: int | None, passed: list[bool]
) -> None:
    """A champion that cannot predict these rows cannot score the coming windows either: it must not stay for ever."""
    verdict = verdict_of(spec, candidate, champion, champion_version)
    assert [rule.passed for rule in verdict.rules] == passed
    assert verdict.passed == all(passed)
    assert (verdict.model, verdict.version) == ("churn", 7)


@pytest.mark.parametrize(
    ("verdict", "rules"),
    [
        (
            verdict_of(HIGHER, 0.654321, 0.7, 3),
            [
                RuleResult(rule="roc_auc meets the bound", got="0.654321", expected="≥ 0.6", passed=True),
                RuleResult(rule="roc_auc is not worse than champion 3", got="0.654321", expected="≥ 0.7", passed=False),
            ],
        ),
        (
            verdict_of(LOWER, 12.5, None, 3),
            [
                RuleResult(rule="mae meets the bound", got="12.5", expected="≤ 10", passed=False),
                RuleResult(
                    rule="mae is not worse than champion 3",
                    got="12.5",
                    expected="nothing: it cannot predict these rows",
                    passed=True,
                ),
            ],
        ),
    ],
    ids=["higher is better", "lower is better, champion cannot predict these rows"],
)
def test_every_rule_keeps_what_was_found_and_what_was_expected(verdict: Verdict, rules: list[RuleResult]) -> None:
    assert list(verdict.rules) == rules


def test_reason_names_only_the_rules_that_failed() -> None:
    assert verdict_of(HIGHER, 0.7, None, None).reason == "gate passed"
    assert verdict_of(HIGHER, 0.65, 0.7, 3).reason == (
        "gate refused: roc_auc is not worse than champion 3: 0.65, expected ≥ 0.7"
    )
    assert verdict_of(HIGHER, 0.5, 0.7, 3).reason.count(";") == 1


def test_table_has_a_row_per_rule_in_aligned_columns() -> None:
    head, _, *rows = verdict_of(HIGHER, 0.65, 0.7, 3).table().splitlines()
    starts = [head.index(name) for name in ("rule", "got", "expected", "passed")]
    cells = [[row[a:b].strip() for a, b in zip(starts, [*starts[1:], None], strict=True)] for row in rows]
    assert cells == [
        ["roc_auc meets the bound", "0.65", "≥ 0.6", "yes"],
        ["roc_auc is not worse than champion 3", "0.65", "≥ 0.7", "NO"],
    ]
