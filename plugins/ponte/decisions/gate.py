"""May a version become champion? Pure rules over figures with intervals; every rule leaves its evidence.

Two equal models differ by chance, and a comparison of two points promotes one of them half of the time. So "better"
means that the whole confidence interval of the paired difference lies beyond the margin. The interval covers the chance
of the holdout's rows; the margin covers that of the fit: the same estimator with another seed really is a little better
or worse, for good (tests/bench/gate_noise.py measures both).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from ponte.decisions.leakage import leakage_rules
from ponte.decisions.rules import GateFigures, RuleResult, Verdict, digits, evidence_of, shown, told_as
from ponte.model.spec import OF_LABELS, ModelSpec
from ponte.quality.figures import (
    BASELINE,
    CANDIDATE,
    CONSTANT,
    Figure,
    Measured,
    champion_subject,
    difference_subject,
)

Outcome = Literal["better", "indistinguishable", "worse"]
#: What is known of the champion at the moment of the verdict.
ChampionState = Literal["none", "measured", "unreadable", "bad"]
#: How the rule about the champion is called.
AGAINST = " against champion "
#: Margin where the model names none, as a share of the champion's own figure.
MARGIN_SHARE = 0.002


@dataclass(frozen=True, kw_only=True, slots=True)
class Champion:
    """The champion that a candidate is held against; version 0 when there is none."""

    version: int = 0
    state: ChampionState = "none"
    #: Why it is unreadable.
    why: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Contract:
    """What readers of the predictions rely on, of the version and of the earlier predictions, for people."""

    got: str
    expected: str
    kept: bool


def outcome_of(difference: Figure, *, higher_is_better: bool, margin: float) -> Outcome:
    """Return what the interval of "candidate minus champion" says; without an interval nothing can be told apart.

    >>> outcome_of(Figure(0.004, -0.001, 0.009), higher_is_better=True, margin=0.0)
    'indistinguishable'
    """
    if difference.low is None or difference.high is None:
        return "indistinguishable"
    low, high = (difference.low, difference.high) if higher_is_better else (-difference.high, -difference.low)
    if low > margin:
        return "better"
    return "worse" if high < -margin else "indistinguishable"


def is_against_champion(rule: RuleResult) -> bool:
    """Tell whether the rule is the comparison with the champion."""
    return AGAINST in rule.rule


def decide(
    spec: ModelSpec,
    *,
    model: str,
    version: int,
    figures: Mapping[tuple[str, str, str], Measured],
    champion: Champion,
    contract: Contract | None = None,
    tried: int = 1,
) -> Verdict:
    """Return the verdict on a version.

    figures : every stored figure by (subject, slice, name). contract : None before the first predictions. tried : how
    many versions, this one among them, were judged on windows of its holdout. A champion that is marked bad keeps no
    successor out. One that cannot be measured leaves the verdict to a person.
    """
    found = GateFigures(spec, figures)
    rules = [*_contract(contract), _bound(found, champion), *_baselines(found), *_champion(found, champion)]
    rules += [*_slices(found), *_calibration(found), *_speed(found), *leakage_rules(found), *_tried(spec, tried)]
    return Verdict(model=model, version=version, rules=tuple(rules))


def _tried(spec: ModelSpec, tried: int) -> list[RuleResult]:
    """Say that the best of many is often the luckiest: each is called better by chance half of 1 - confidence."""
    beyond = 1 - spec.evaluation.confidence
    if tried * beyond / 2 <= beyond:
        return []
    chance = 1 - (1 - beyond / 2) ** tried
    return [
        RuleResult(
            rule="versions judged on windows of this holdout",
            got=f"{tried}: one of so many equals is better than the champion by chance with {chance:.0%}",
            expected="at most 2; newer windows, or a duel, tell whether this one is",
            outcome="warning",
            evidence={"versions": tried, "chance": chance},
        )
    ]


def _contract(contract: Contract | None) -> list[RuleResult]:
    if contract is None:
        return []
    return [
        RuleResult(
            rule="key, label and classes are those of the published predictions",
            got=contract.got,
            expected=contract.expected,
            outcome=told_as(contract.kept),
        )
    ]


def _bound(found: GateFigures, champion: Champion) -> RuleResult:
    bound, own = found.bound, found.get(CANDIDATE)
    got = "no such figure" if own is None else shown(own)
    expected, passed, evidence = f"{found.sign} {bound:g}", own is not None and found.meets(own.value, bound), {}
    theirs = _champion_below(found, champion)
    if theirs is not None and found.gate.champion_below_bound == "replace":
        expected += f", or better than champion {champion.version}, which misses it"
        evidence = {"champion": theirs.value}
        if own is not None and not passed and _against(found, champion)[0] == "better":
            got, passed = f"{got}, better than champion {champion.version}", True
    return RuleResult(
        rule=f"{found.metric} meets the bound",
        got=got,
        expected=expected,
        outcome=told_as(passed),
        evidence={**evidence_of(own), **evidence},
    )


def _champion_below(found: GateFigures, champion: Champion) -> Figure | None:
    """Return the champion's figure when it misses the bound that a version has to meet."""
    theirs = found.get(champion_subject(champion.version)) if champion.state == "measured" else None
    return None if theirs is None or found.meets(theirs.value, found.bound) else theirs


def _baselines(found: GateFigures) -> list[RuleResult]:
    if not found.gate.beats_baseline:
        return []
    by = found.spec.evaluation.baseline_by
    rules = []
    for subject in [CONSTANT] if by is None else [CONSTANT, f"{BASELINE}{by}"]:
        gap, theirs = found.get(difference_subject(subject)), found.get(subject)
        told = "indistinguishable" if gap is None else outcome_of(gap, higher_is_better=found.higher, margin=0.0)
        rules.append(
            RuleResult(
                rule=f"{found.metric} is better than {subject}",
                got="no difference" if gap is None else f"{told}, by {shown(gap)}",
                expected="better" if theirs is None else f"better than {digits(theirs.value)}",
                outcome=told_as(told == "better"),
                evidence={"outcome": told, **evidence_of(gap)},
            )
        )
    return rules


def _against(found: GateFigures, champion: Champion) -> tuple[Outcome, float]:
    """Return what the comparison with the champion says, and the margin that counted."""
    margin = found.gate.champion_margin
    if margin is None:
        theirs = found.get(champion_subject(champion.version))
        margin = 0.0 if theirs is None else MARGIN_SHARE * abs(theirs.value)
    gap = found.get(difference_subject(champion_subject(champion.version)))
    if gap is None:
        return "indistinguishable", margin
    return outcome_of(gap, higher_is_better=found.higher, margin=margin), margin


def _champion(found: GateFigures, champion: Champion) -> list[RuleResult]:
    if champion.state == "none":
        return []
    rule = f"{found.metric}{AGAINST}{champion.version}"
    evidence: dict[str, Any] = {"outcome": champion.state}
    if champion.state == "bad":
        expected = "nothing: it is marked bad"
        return [RuleResult(rule=rule, got="not compared", expected=expected, outcome="passed", evidence=evidence)]
    if champion.state == "unreadable":
        got, expected = f"cannot be compared: {champion.why}", "a decision of a person"
        return [RuleResult(rule=rule, got=got, expected=expected, outcome="undecided", evidence=evidence)]
    gap = found.get(difference_subject(champion_subject(champion.version)))
    gate = found.gate
    rules = {
        "better": gate.champion_better,
        "indistinguishable": gate.champion_indistinguishable,
        "worse": gate.champion_worse,
    }
    told, margin = _against(found, champion)
    allowed = [name for name, decision in rules.items() if decision == "promote"]
    return [
        RuleResult(
            rule=rule,
            got=_no_difference(found, champion) if gap is None else f"{told}, by {shown(gap)}",
            expected=f"{' or '.join(allowed)} (margin {margin:.3g})" if allowed else "nothing lets it pass",
            outcome=told_as(gap is not None and rules[told] == "promote"),
            evidence={"outcome": told, "margin": margin, **evidence_of(gap)},
        ),
        *_below(found, champion),
    ]


def _below(found: GateFigures, champion: Champion) -> list[RuleResult]:
    """Say loudly that the champion itself misses the bound: nothing else would, while it goes on scoring."""
    theirs = _champion_below(found, champion)
    if theirs is None:
        return []
    choice = found.gate.champion_below_bound
    then = "it scores on until a version meets the bound" if choice == "keep" else "a better version replaces it"
    return [
        RuleResult(
            rule=f"champion {champion.version} itself meets the bound",
            got=f"{shown(theirs)}, NOT: {then}",
            expected=f"{found.sign} {found.bound:g}",
            outcome="warning",
            evidence={"champion_below_bound": choice, **evidence_of(theirs)},
        )
    ]


def _no_difference(found: GateFigures, champion: Champion) -> str:
    subject = champion_subject(champion.version)
    theirs = {name for who, place, name in found.all if who == subject and not place}
    if found.metric not in theirs and OF_LABELS & theirs:
        # Measured, but not in this: its estimator gives no probabilities. A person may promote by hand.
        return f"no difference: champion {champion.version} gives no probabilities"
    return "no difference"


def _slices(found: GateFigures) -> list[RuleResult]:
    bound = found.gate.slice_bound
    if bound is None:
        return []
    values = {
        place: m.figure.value
        for (subject, place, name), m in found.all.items()
        if subject == CANDIDATE and place and name == found.metric
    }
    undefined = {place for subject, place, _ in found.all if subject == CANDIDATE and place} - values.keys()
    worst = sorted(values, key=lambda place: values[place], reverse=not found.higher)
    failed = [place for place in worst if not found.meets(values[place], bound)]
    got = f"{len(failed)} of {len(values)} fail" if failed else f"all {len(values)} do"
    if not worst:
        got = "there is none"  # a bound that was never tried is not met
    else:
        got += f"; worst {worst[0]} {digits(values[worst[0]])}"
        got += f"; undefined: {', '.join(sorted(undefined))}" if undefined else ""
    return [
        RuleResult(
            rule=f"{found.metric} of every slice of {found.spec.evaluation.slice_rows} rows or more",
            got=got,
            expected=f"{found.sign} {bound:g}",
            outcome=told_as(bool(worst) and not failed),
            evidence={place: values[place] for place in worst},
        )
    ]


def _calibration(found: GateFigures) -> list[RuleResult]:
    most = found.gate.calibration_maximum
    if most is None:
        return []
    return [_limit(found, "calibration_error", "calibration error", f"≤ {most:g}", lambda value: value <= most)]


def _speed(found: GateFigures) -> list[RuleResult]:
    least = found.gate.rows_per_second_minimum
    if least is None:
        return []
    return [_limit(found, "rows_per_second", "rows predicted per second", f"≥ {least:g}", lambda value: value >= least)]


def _limit(found: GateFigures, name: str, rule: str, expected: str, meets: Any) -> RuleResult:
    own = found.get(CANDIDATE, name)
    got = "no such figure" if own is None else shown(own)
    passed = own is not None and meets(own.value)
    return RuleResult(rule=rule, got=got, expected=expected, outcome=told_as(passed), evidence=evidence_of(own))
