"""What a rule of the gate found, and what all rules come to."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from tabulate import tabulate

from ponte.model.spec import METRICS, ModelSpec
from ponte.quality.figures import Figure, Measured

#: What a rule comes to. "undecided": it could not be asked, which is for a person to decide; "warning": it lets the
#: version pass, and says what nobody should overlook.
RuleOutcome = Literal["passed", "refused", "undecided", "warning"]
VerdictOutcome = Literal["passed", "refused", "undecided"]


@dataclass(frozen=True, kw_only=True, slots=True)
class RuleResult:
    """What one rule found."""

    rule: str
    got: str
    expected: str
    outcome: RuleOutcome
    #: The figures behind it.
    evidence: Mapping[str, Any] = field(default_factory=dict)

    @property
    def passed(self) -> bool:
        """True when it lets the version pass."""
        return self.outcome in ("passed", "warning")

    @property
    def finding(self) -> str:
        """The rule in one line."""
        return f"{self.rule}: {self.got}, expected {self.expected}"

    def as_json(self) -> dict[str, Any]:
        """Return JSON-ready data. Law: `RuleResult.from_json(r.as_json()) == r`."""
        return {**asdict(self), "passed": self.passed}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> RuleResult:
        """Return the rule that `as_json` wrote, or that was kept when there was only passed or not."""
        values = dict(data)
        passed = values.pop("passed")
        return cls(**{"outcome": "passed" if passed else "refused", **values})


@dataclass(frozen=True, kw_only=True, slots=True)
class Verdict:
    """What the gate says of a version."""

    model: str
    version: int
    rules: tuple[RuleResult, ...]

    @property
    def outcome(self) -> VerdictOutcome:
        """refused when a rule refuses; else undecided when one could not be asked; else passed."""
        found = {rule.outcome for rule in self.rules}
        return "refused" if "refused" in found else "undecided" if "undecided" in found else "passed"

    @property
    def passed(self) -> bool:
        """True when every rule lets the version pass."""
        return self.outcome == "passed"

    @property
    def reason(self) -> str:
        """One line for people: PASSED, REFUSED or UNDECIDED, and why; what nobody should overlook is at its end."""
        why = "; ".join(r.finding for r in self.rules if r.outcome == self.outcome and not self.passed)
        why = why or f"all {len(self.rules)} rules let it pass"
        warnings = "".join(f"; WARNING: {r.finding}" for r in self.rules if r.outcome == "warning")
        return f"{self.outcome.upper()}: {why}{warnings}"

    def table(self, style: str = "simple") -> str:
        """Return the rules as a table: plain text, or Markdown with style "github"."""
        words = {"passed": "yes", "refused": "NO", "undecided": "UNDECIDED", "warning": "yes, WARNING"}
        rows = [(r.rule, r.got, r.expected, words[r.outcome]) for r in self.rules]
        headers = ("rule", "got", "expected", "passed")
        return str(tabulate(rows, headers=headers, disable_numparse=True, tablefmt=style))


def told_as(passed: bool) -> RuleOutcome:
    """Return what a rule comes to that lets the version pass or not."""
    return "passed" if passed else "refused"


class GateFigures:
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

    @property
    def bound(self) -> float:
        found = self.gate.minimum if self.higher else self.gate.maximum
        assert found is not None
        return found

    def meets(self, value: float, bound: float) -> bool:
        return value >= bound if self.higher else value <= bound


def shown(figure: Figure) -> str:
    """Return a figure for people: its value, and its interval in brackets."""
    ends = "" if figure.low is None or figure.high is None else f" [{digits(figure.low)}, {digits(figure.high)}]"
    return f"{digits(figure.value)}{ends}"


def digits(value: float) -> str:
    """Return a value in four digits that count; a large one in all of its own, and not as a power of ten.

    >>> digits(0.66021), digits(205_347.2)
    ('0.6602', '205347')
    """
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.4g}"  # noqa: PLR2004 - the least with four


def evidence_of(figure: Figure | None) -> dict[str, float | None]:
    """Return {value, low, high} to keep; nothing of a figure that there is not."""
    if figure is None or not math.isfinite(figure.value):
        return {}
    return {"value": figure.value, "low": figure.low, "high": figure.high}
