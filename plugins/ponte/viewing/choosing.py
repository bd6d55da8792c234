"""Which models the overview shows, and in which order: said by its address."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ponte.viewing.needs import KINDS, needs
from ponte.viewing.overview import Line, lead_of

#: Where a figure that is not there stands: last.
_NONE = float("inf")


def _urgency(line: Line) -> Any:
    found = needs([line])
    return KINDS.index(found[0].kind) if found else len(KINDS)


#: Name in the address → what is sorted by, ascending; of the same the name decides.
ORDERS: dict[str, Callable[[Line], Any]] = {
    "need": _urgency,
    "model": lambda _: 0,
    "champion": lambda line: -line.version.since.timestamp() if line.version.since else _NONE,
    "window": lambda line: line.seen.window_start.toordinal() if line.seen else 0,
    "rows": lambda line: -line.seen.rows_frozen if line.seen else _NONE,
    "drift": lambda line: {"drift": 0, "notice": 1, "provisional": 2, "quiet": 3}.get(line.drifting or "", 4),
    "quality": lambda line: lead_of(line.measured) if line.measured else _NONE,
    "alarms": lambda line: -len(line.alarms),
    "cost": lambda line: -line.cpu_seconds if line.cpu_seconds is not None else _NONE,
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Choice:
    """What the address asks for. What it cannot mean shows all, as does what it does not say."""

    sort: str | None = None
    tag: str | None = None
    owner: str | None = None

    @property
    def order(self) -> str:
        """The name of the order, "need" unless another one is asked for."""
        return self.sort if self.sort in ORDERS else "need"

    def of(self, lines: Sequence[Line]) -> list[Line]:
        """Return the lines that are asked for, in the order that is asked for."""
        found = [
            line
            for line in lines
            if (self.tag is None or self.tag in line.planned.tags)
            and (self.owner is None or self.owner == line.planned.owner)
        ]
        return sorted(found, key=lambda line: (ORDERS[self.order](line), line.model))

    def fields(self, **changed: str | None) -> dict[str, str | None]:
        """Return the fields of the address of this choice with something changed; None takes it away."""
        return {"sort": self.sort, "tag": self.tag, "owner": self.owner, **changed}
