"""The rules of the gate about features that know the outcome."""

from __future__ import annotations

from ponte.decisions.rules import GateFigures, RuleResult, told_as
from ponte.quality.features import ALONE
from ponte.quality.figures import FEATURE, FILLED, IMPORTANCE, MISSING, ONE_OUTCOME


def leakage_rules(found: GateFigures) -> list[RuleResult]:
    """Return what each feature alone, and its being filled in, says of the outcome."""
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
    return [
        RuleResult(
            rule=f"no feature alone reaches a suspicious {name}",
            got=got or ("no features" if best is None else f"most: {best} {values[best]:.4g}"),
            expected=f"< {alarm:g}, or named in leakage_allowed",
            outcome=told_as(not suspicious),
            evidence=values,
        ),
        *_one_outcome(found),
    ]


def _one_outcome(found: GateFigures) -> list[RuleResult]:
    """A feature that is filled in, or missing, only for one outcome was written down when the outcome was known."""
    kinds = {FILLED: "has a value", MISSING: "has none"}
    values = {
        key: m for key, m in found.all.items() if key[2] == ONE_OUTCOME and m.figure.value >= found.gate.leakage_alarm
    }
    said, evidence = [], {}
    for (subject, place, _), m in sorted(values.items(), key=lambda item: -item[1].row_count):
        kind, _, feature = subject.partition(":")
        evidence[f"{subject} {place}"] = m.figure.value
        if feature in found.gate.leakage_allowed:
            continue
        adds = found.get(f"{IMPORTANCE}{feature}")
        said.append(
            f"{feature} {kinds[f'{kind}:']} in {m.row_count} rows, nearly all of {place}"
            + ("" if adds is None else f"; shuffling it costs {adds.value:.4g} {found.metric}")
        )
    if not values:
        return []
    return [
        RuleResult(
            rule="no feature is filled in, or missing, only for one outcome",
            got="; ".join(said) or f"only those that may: {', '.join(evidence)}",
            expected=f"< {found.gate.leakage_alarm:g} of the way to always, or named in leakage_allowed",
            outcome=told_as(not said),
            evidence=evidence,
        )
    ]
