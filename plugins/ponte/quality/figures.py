"""A figure: its value and interval, of whom, on what. All names that `ponte.metric.subject` can hold are here."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

#: The version that is measured.
CANDIDATE = "candidate"
#: Prefixes of the other subjects: what needs no model, one feature alone, and what shuffling a feature costs.
BASELINE, FEATURE, IMPORTANCE = "baseline:", "feature:", "importance:"
#: The same of the rows in which a feature has a value, and of those in which it has none.
FILLED, MISSING = "filled:", "missing:"
#: A feature that no prediction depends on.
UNUSED = "unused:"
#: All that are about one feature.
OF_FEATURES = (FEATURE, FILLED, MISSING, IMPORTANCE, UNUSED)
#: Figure of an unused feature: the share of predictions that are others when it is shuffled, so 0.
CHANGED = "changed"
#: Figure of filled and missing rows: 0 when they have an outcome as often as all rows, 1 when they always have it.
ONE_OUTCOME = "one_outcome"
CONSTANT = f"{BASELINE}constant"
#: Figure of the champion: 1 when it could predict the holdout rows, 0 when it could not.
READABLE = "readable"


def champion_subject(version: int) -> str:
    """Return the subject under which the champion's figures are stored."""
    return f"champion:{version}"


def difference_subject(subject: str) -> str:
    """Return the subject of "candidate minus subject"."""
    return f"difference:{subject}"


@dataclass(frozen=True, slots=True)
class Figure:
    """A value and its confidence interval; None where none was computed."""

    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Measured:
    """A figure of a subject on the holdout or on a slice of it: a row of `ponte.metric`."""

    subject: str
    #: `<column>=<value>`, or empty for the whole holdout.
    slice: str = ""
    name: str
    figure: Figure
    row_count: int

    def as_json(self) -> dict[str, Any]:
        values = {"value": self.figure.value, "low": self.figure.low, "high": self.figure.high}
        return {"subject": self.subject, "slice": self.slice, "name": self.name, **values, "rows": self.row_count}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Measured:
        """Return the figure that `as_json` wrote."""
        figure = Figure(data["value"], data["low"], data["high"])
        return cls(
            subject=data["subject"], slice=data["slice"], name=data["name"], figure=figure, row_count=data["rows"]
        )


def to_json(measured: Sequence[Measured]) -> bytes:
    """Return the content of `metrics.json`."""
    return json.dumps({"format": 1, "figures": [m.as_json() for m in measured]}, indent=1).encode()


def from_json(content: bytes) -> list[Measured]:
    """Return the figures that `to_json` wrote."""
    return [Measured.from_json(m) for m in json.loads(content)["figures"]]
