"""What a scored batch must look like before people see it, beside what they see for the windows before.

The rules are pure functions of profiles.
"""

from __future__ import annotations

import datetime as dt
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, Literal

import sqlalchemy as sa

from ponte.guards.columns import ERRORS, MINIMUM_WINDOWS, allowed
from ponte.guards.profiles import Profile
from ponte.model.spec import Guard
from ponte.storage.database import insert_row

#: With fewer rows than this, chance alone moves counts, shares and means beyond any sensible bound.
FEW_ROWS = 30
#: The standard deviation of one and the same number, as it is summed up, may be this much of it.
ROUNDING = 1e-9


@dataclass(frozen=True, kw_only=True, slots=True)
class GuardResult:
    """What one guard found."""

    guard: str
    #: warned: it would have tripped, and `[guard]` says that this is no reason to stop.
    outcome: Literal["passed", "tripped", "warned", "skipped"]
    got: str
    expected: str
    evidence: dict[str, Any]

    def __str__(self) -> str:
        return f"{self.guard}: {self.got}, expected {self.expected}"


def judge(
    profile: Profile, earlier: Sequence[Profile], rules: Guard, *, as_of: dt.datetime, training_rows: Sequence[int] = ()
) -> list[GuardResult]:
    """Return what each guard says of a batch.

    earlier : profiles of the batches that people see for windows before this one. With fewer than
    `rules.minimum_batches` of at least FEW_ROWS rows the comparisons are skipped, and those of scores for a batch of
    fewer rows. An empty batch, which only `empty = "allow"` lets come so far,
    is not judged.
    training_rows : rows of each window that the version was trained on; the batch may differ by as much as they do.
    """
    if not profile.row_count:
        return []
    known = [p for p in earlier if p.row_count >= FEW_ROWS]
    if len(known) < rules.minimum_batches:
        known = []
    alike = known if profile.scored_count >= FEW_ROWS else []
    return [
        _row_count(profile, known, rules, training_rows),
        _unscored(profile, rules),
        _set_aside(profile, known),
        _constant_score(profile, rules),
        _mean_score(profile, alike, rules),
        _class_share(profile, alike, rules),
        _freshness(profile, rules, as_of),
    ]


def _result(guard: str, good: bool, got: str, expected: str, **evidence: Any) -> GuardResult:
    outcome: Literal["passed", "tripped"] = "passed" if good else "tripped"
    return GuardResult(guard=guard, outcome=outcome, got=got, expected=expected, evidence=evidence)


def skipped(guard: str, why: str) -> GuardResult:
    """Return what a guard says that could not be asked."""
    return GuardResult(guard=guard, outcome="skipped", got=why, expected="", evidence={})


_TOO_FEW = "too few earlier batches, or rows, to compare with"


def _row_count(profile: Profile, known: Sequence[Profile], rules: Guard, training_rows: Sequence[int]) -> GuardResult:
    if not known:
        return skipped("row_count", _TOO_FEW)
    usual = median(p.row_count for p in known)
    low, high = usual * rules.row_count_minimum, usual * rules.row_count_maximum
    if len(known) >= MINIMUM_WINDOWS and rules.row_count_ranges:
        lowest, highest = _allowed_rows([p.row_count for p in known], training_rows, rules.row_count_ranges)
        low, high = max(low, lowest), min(high, highest)
    return _result(
        "row_count",
        low <= profile.row_count <= high,
        f"{profile.row_count} rows",
        f"{low:.0f} to {high:.0f}",
        earlier={p.batch_id: p.row_count for p in known},
        median=usual,
    )


def _allowed_rows(known: Sequence[int], training_rows: Sequence[int], ranges: float) -> tuple[float, float]:
    """Return between which counts a window may lie, given those of earlier ones.

    On a scale of ratios: a holiday takes a share of the rows. The range is that of the earlier windows or, where it is
    greater, of those of training, which know a whole year; ERRORS standard errors of a count (its square root) come
    to it.
    """
    lowest, highest = min(known), max(known)
    ratio = highest / lowest
    if len(training_rows) >= MINIMUM_WINDOWS and min(training_rows) > 0:
        ratio = max(ratio, max(training_rows) / min(training_rows))
    room = ratio**ranges
    return lowest / room - ERRORS * math.sqrt(lowest), highest * room + ERRORS * math.sqrt(highest)


def _set_aside(profile: Profile, known: Sequence[Profile]) -> GuardResult:
    """The share of rows that got no prediction, because of a check or because the estimator could not."""
    if len(known) < MINIMUM_WINDOWS:
        return skipped("set_aside", _TOO_FEW)
    earlier = {p.batch_id: (p.row_count - p.scored_count) / p.row_count for p in known}
    _, highest = allowed(min(earlier.values()), max(earlier.values()), profile.row_count)
    count = profile.row_count - profile.scored_count
    got, expected = f"{count} of {profile.row_count} rows are set aside", f"at most {highest * profile.row_count:.0f}"
    # One row of a small batch is more than any small share of it.
    return _result("set_aside", count <= max(1, highest * profile.row_count), got, expected, earlier=earlier)


def _unscored(profile: Profile, rules: Guard) -> GuardResult:
    # One row of a small batch is more than any small share of it.
    allowed = max(1, math.floor(rules.unscored_maximum * profile.row_count)) if rules.unscored_maximum else 0
    got, expected = f"{profile.unscored_count} of {profile.row_count} rows have no score", f"at most {allowed}"
    return _result("unscored", profile.unscored_count <= allowed, got, expected, maximum=rules.unscored_maximum)


def _constant_score(profile: Profile, rules: Guard) -> GuardResult:
    if rules.constant_score == "allow":
        return skipped("constant_score", 'constant_score = "allow"')
    if profile.scored_count < FEW_ROWS or not profile.score_mean:
        return skipped("constant_score", "too few scores to tell")
    got = "different scores" if profile.distinct_scores else f"{_figures(profile.score_mean)} for every row"
    return _result("constant_score", profile.distinct_scores, got, "different scores", rows=profile.scored_count)


def _mean_score(profile: Profile, known: Sequence[Profile], rules: Guard) -> GuardResult:
    same = [p for p in known if len(p.score_mean) == len(profile.score_mean)]
    if len(same) < rules.minimum_batches or not profile.score_mean:
        return skipped("mean_score", _TOO_FEW if profile.score_mean else "no scores")
    jumps = []
    for place, mean in enumerate(profile.score_mean):
        usual, spread = median(p.score_mean[place] for p in same), median(p.score_sd[place] for p in same)
        # Scores that never varied, but for rounding, have no unit to measure a jump in.
        jumps.append(abs(mean - usual) / spread if spread > ROUNDING * max(1.0, abs(usual)) else 0.0)
    return _result(
        "mean_score",
        max(jumps) <= rules.mean_score_jump,
        f"mean {_figures(profile.score_mean)}, {max(jumps):.2f} standard deviations off",
        f"at most {rules.mean_score_jump:g}",
        earlier={p.batch_id: list(p.score_mean) for p in same},
        standard_deviations=jumps,
    )


def _class_share(profile: Profile, known: Sequence[Profile], rules: Guard) -> GuardResult:
    same = [p for p in known if p.class_shares]
    if len(same) < rules.minimum_batches or not profile.class_shares:
        return skipped("class_share", _TOO_FEW if profile.class_shares else "no classes")
    names = sorted({name for p in (*same, profile) for name in p.class_shares})
    jumps = {
        name: abs(profile.class_shares.get(name, 0.0) - median(p.class_shares.get(name, 0.0) for p in same))
        for name in names
    }
    worst = max(jumps, key=lambda name: jumps[name])
    return _result(
        "class_share",
        jumps[worst] <= rules.class_share_jump,
        f"class {worst}: {profile.class_shares.get(worst, 0.0):.1%} of the rows, off by {jumps[worst]:.1%}",
        f"at most {rules.class_share_jump:.1%} off",
        earlier={p.batch_id: p.class_shares for p in same},
        jumps=jumps,
    )


def _freshness(profile: Profile, rules: Guard, as_of: dt.datetime) -> GuardResult:
    if rules.freshness_column is None or rules.freshness_hours is None:
        return skipped("freshness", "no freshness_column is declared")
    newest = profile.newest_feature
    oldest = as_of - dt.timedelta(hours=rules.freshness_hours)
    got = f"newest {rules.freshness_column} is {newest.isoformat() if newest else 'NULL'}"
    good = newest is not None and newest >= oldest
    return _result("freshness", good, got, f"{oldest.isoformat()} or later", as_of=as_of.isoformat())


def _figures(values: Sequence[float]) -> str:
    return ", ".join(f"{value:.4g}" for value in values)


# ---------------------------------------------------------------- in the database


def store_results(connection: sa.Connection, batch_id: int, results: Sequence[GuardResult]) -> None:
    """Keep what the guards found, in the caller's transaction."""
    for result in results:
        row = {name: getattr(result, name) for name in GuardResult.__dataclass_fields__}
        row |= {"batch_id": batch_id, "evidence": json.dumps(result.evidence)}
        insert_row(connection, "ponte.guard_result", row)
