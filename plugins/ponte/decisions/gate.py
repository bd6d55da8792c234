"""May a version become champion? Pure rules over figures with intervals; every rule leaves its evidence.

Two equal models differ by chance, and a comparison of two points promotes one of them half of the time. So "better"
means that the whole confidence interval of the paired difference lies beyond the margin. The interval covers the chance
of the holdout's rows; the margin covers that of the fit: the same estimator with another seed really is a little better
or worse, for good (tests/bench/gate_noise.py measures both).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from tabulate import tabulate

from ponte.model.spec import METRICS, OF_LABELS, ModelSpec
from ponte.quality.figures import (
    BASELINE,
    CANDIDATE,
    CONSTANT,
    FEATURE,
    Figure,
    Measured,
    champion_subject,
    difference_subject,
)
from ponte.quality.measurement import ALONE

Outcome = Literal["better", "indistinguishable", "worse"]
#: What is known of the champion at the moment of the verdict.
ChampionState = Literal["none", "measured", "unreadable", "bad"]
#: Margin where the model names none, as a share of the champion's own figure.
MARGIN_SHARE = 0.002


@dataclass(frozen=True, kw_only=True, slots=True)
class RuleResult:
    """What one rule found."""

    rule: str
    got: str
    expected: str
    passed: bool
    #: The figures behind it.
    evidence: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class Verdict:
    """What the gate says of a version."""

    model: str
    version: int
    rules: tuple[RuleResult, ...]

    @property
    def passed(self) -> bool:
        """True when every rule passed."""
        return all(rule.passed for rule in self.rules)

    @property
    def reason(self) -> str:
        """One line for the log and for the alias event."""
        failed = [f"{r.rule}: {r.got}, expected {r.expected}" for r in self.rules if not r.passed]
        return "gate refused: " + "; ".join(failed) if failed else "gate passed"

    def table(self, style: str = "simple") -> str:
        """Return the rules as a table: plain text, or Markdown with style "github"."""
        rows = [(r.rule, r.got, r.expected, "yes" if r.passed else "NO") for r in self.rules]
        headers = ("rule", "got", "expected", "passed")
        return str(tabulate(rows, headers=headers, disable_numparse=True, tablefmt=style))


@dataclass(frozen=True, kw_only=True, slots=True)
class Champion:
    """The champion that a candidate is held against; version 0 when there is none."""

    version: int = 0
    state: ChampionState = "none"


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


def decide(
    spec: ModelSpec, *, model: str, version: int, figures: Mapping[tuple[str, str, str], Measured], champion: Champion
) -> Verdict:
    """Return the verdict on a version.

    figures : every stored figure by (subject, slice, name). A champion that cannot predict these rows, or is marked
    bad, does not keep a successor out: it cannot score the coming windows either.
    """
    found = _Figures(spec, figures)
    rules = [_bound(found), *_baselines(found), *_champion(found, champion), *_slices(found)]
    rules += [*_calibration(found), *_speed(found), _leakage(found)]
    return Verdict(model=model, version=version, rules=tuple(rules))


class _Figures:
    """Figures of the gate's metric, and which way is up."""

    def __init__(self, spec: ModelSpec, figures: Mapping[tuple[str, str, str], Measured]) -> None:
        self.spec, self.gate, self.all = spec, spec.gate, figures
        self.metric = spec.gate.metric
        self.higher = METRICS[spec.task][self.metric]
        self.sign = "≥" if self.higher else "≤"

    def get(self, subject: str, name: str | None = None) -> Figure | None:
        """Return a figure; None when there is none, or when it is no number."""
        found = self.all.get((subject, "", name or self.metric))
        return found.figure if found is not None and math.isfinite(found.figure.value) else None

    def meets(self, value: float, bound: float) -> bool:
        return value >= bound if self.higher else value <= bound


def _bound(found: _Figures) -> RuleResult:
    bound = found.gate.minimum if found.higher else found.gate.maximum
    own = found.get(CANDIDATE)
    assert bound is not None
    return RuleResult(
        rule=f"{found.metric} meets the bound",
        got="no such figure" if own is None else shown(own),
        expected=f"{found.sign} {bound:g}",
        passed=own is not None and found.meets(own.value, bound),
        evidence=_evidence(own),
    )


def _baselines(found: _Figures) -> list[RuleResult]:
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
                expected="better" if theirs is None else f"better than {theirs.value:.4g}",
                passed=told == "better",
                evidence={"outcome": told, **_evidence(gap)},
            )
        )
    return rules


def _champion(found: _Figures, champion: Champion) -> list[RuleResult]:
    if champion.state == "none":
        return []
    rule = f"{found.metric} against champion {champion.version}"
    if champion.state != "measured":
        why = {"bad": "it is marked bad", "unreadable": "it cannot predict these rows"}[champion.state]
        evidence = {"outcome": champion.state}
        return [RuleResult(rule=rule, got="not compared", expected=f"nothing: {why}", passed=True, evidence=evidence)]
    gap = found.get(difference_subject(champion_subject(champion.version)))
    gate = found.gate
    rules = {
        "better": gate.champion_better,
        "indistinguishable": gate.champion_indistinguishable,
        "worse": gate.champion_worse,
    }
    margin = gate.champion_margin
    if margin is None:
        theirs = found.get(champion_subject(champion.version))
        margin = 0.0 if theirs is None else MARGIN_SHARE * abs(theirs.value)
    told = "indistinguishable"
    if gap is not None:
        told = outcome_of(gap, higher_is_better=found.higher, margin=margin)
    allowed = [name for name, decision in rules.items() if decision == "promote"]
    return [
        RuleResult(
            rule=rule,
            got=_no_difference(found, champion) if gap is None else f"{told}, by {shown(gap)}",
            expected=f"{' or '.join(allowed)} (margin {margin:.3g})" if allowed else "nothing lets it pass",
            passed=gap is not None and rules[told] == "promote",
            evidence={"outcome": told, "margin": margin, **_evidence(gap)},
        )
    ]


def _no_difference(found: _Figures, champion: Champion) -> str:
    subject = champion_subject(champion.version)
    theirs = {name for who, place, name in found.all if who == subject and not place}
    if found.metric not in theirs and OF_LABELS & theirs:
        # Measured, but not in this: its estimator gives no probabilities. A person may promote by hand.
        return f"no difference: champion {champion.version} gives no probabilities"
    return "no difference"


def _slices(found: _Figures) -> list[RuleResult]:
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
        got += f"; worst {worst[0]} {values[worst[0]]:.4g}"
        got += f"; undefined: {', '.join(sorted(undefined))}" if undefined else ""
    return [
        RuleResult(
            rule=f"{found.metric} of every slice of {found.spec.evaluation.slice_rows} rows or more",
            got=got,
            expected=f"{found.sign} {bound:g}",
            passed=bool(worst) and not failed,
            evidence={place: values[place] for place in worst},
        )
    ]


def _calibration(found: _Figures) -> list[RuleResult]:
    most = found.gate.calibration_maximum
    if most is None:
        return []
    return [_limit(found, "calibration_error", "calibration error", f"≤ {most:g}", lambda value: value <= most)]


def _speed(found: _Figures) -> list[RuleResult]:
    least = found.gate.rows_per_second_minimum
    if least is None:
        return []
    return [_limit(found, "rows_per_second", "rows predicted per second", f"≥ {least:g}", lambda value: value >= least)]


def _limit(found: _Figures, name: str, rule: str, expected: str, meets: Any) -> RuleResult:
    own = found.get(CANDIDATE, name)
    got = "no such figure" if own is None else shown(own)
    passed = own is not None and meets(own.value)
    return RuleResult(rule=rule, got=got, expected=expected, passed=passed, evidence=_evidence(own))


def _leakage(found: _Figures) -> RuleResult:
    name, alarm = ALONE[found.spec.task], found.gate.leakage_alarm
    values = {
        subject.removeprefix(FEATURE): m.figure.value
        for (subject, _, figure), m in found.all.items()
        if subject.startswith(FEATURE) and figure == name
    }
    suspicious = [f for f in values if values[f] >= alarm and f not in found.gate.leakage_allowed]
    best = max(values, key=values.__getitem__, default=None)
    loudest_first = sorted(suspicious, key=values.__getitem__, reverse=True)
    got = "; ".join(f"{f} alone reaches {values[f]:.4g}" for f in loudest_first)
    return RuleResult(
        rule=f"no feature alone reaches a suspicious {name}",
        got=got or ("no features" if best is None else f"most: {best} {values[best]:.4g}"),
        expected=f"< {alarm:g}, or named in leakage_allowed",
        passed=not suspicious,
        evidence=values,
    )


def shown(figure: Figure) -> str:
    """Return a figure for people: its value, and its interval in brackets."""
    ends = "" if figure.low is None or figure.high is None else f" [{figure.low:.4g}, {figure.high:.4g}]"
    return f"{figure.value:.4g}{ends}"


def _evidence(figure: Figure | None) -> dict[str, float | None]:
    if figure is None or not math.isfinite(figure.value):
        return {}
    return {"value": figure.value, "low": figure.low, "high": figure.high}
