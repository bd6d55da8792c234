"""When realised quality is worse than it used to be: rules with a stated false-alarm rate, and when an alarm is over.

Pure functions of figures of one metric at one maturity, window after window. Two rules, each made for one kind of loss:
two of the last three windows beyond BEYOND, the latest among them, finds a sudden one within weeks; a sum of what is
beyond SLACK (CUSUM) finds a slow one, and wants a longer past. docs/explanation/alarms.md has their measured rates.
"""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Literal

#: Standard deviations from which a window counts as worse; so many of the last three, the latest among them, are an
#: alarm.
BEYOND = 1.96
TWO = 2
#: The sum begins to grow, and is an alarm, at so many standard deviations; no window counts for more than MOST, so
#: one alone is never an alarm.
SLACK, LIMIT, MOST = 0.5, 6.0, 3.5
#: Fewer windows to compare with judge nothing; with fewer than ARMED an alarm is provisional and the sum rests.
NEEDED, ARMED = 8, 20
#: The latest windows to compare with, at most, and how many before the window are left out of them: a loss that begins
#: slowly would otherwise be compared with itself.
REFERENCE, GAP = 52, 4
#: An alarm is over after so many windows in a row that are not beyond, when the sum has come down to OVER as well.
#: While it lasts the sum grows no higher than LASTING: a great loss would else have to be made up for first.
QUIET, LASTING, OVER = 3, 4.0, 3.0
#: Greater figures count as this: their squares are numbers. One label of 1.8e308, which some sources write for a
#: missing one, makes an error of such a size.
GREATEST = 1e150
#: Figures that never varied, but for rounding.
_ROUNDING = 1e-9

Rule = Literal["recent", "slow"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Figure:
    """What a metric was for a window.

    error : the standard error that its rows alone give it, 0 when unknown.
    anew : an alarm of before is over, because a person says so: the rules begin anew with this window.
    """

    window_start: dt.date
    value: float
    error: float = 0.0
    anew: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Reference:
    """What the windows before say: mean, standard deviation and mean squared error of their figures.

    factor : by how much more than independent windows those that resemble their neighbours swing in the long run.
    effective : as many independent windows would say as much.
    """

    windows: int
    mean: float
    sd: float
    error2: float
    factor: float
    effective: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Look:
    """What the rules say of one window.

    z : how much worse than before, in standard deviations; None: too few windows to compare with, nothing is judged.
    total : the sum of the slow rule after this window.
    rule : what makes this window an alarm, or keeps one going; None: nothing.
    lasts : whether the alarm goes on after this window.
    """

    window_start: dt.date
    value: float
    z: float | None
    total: float
    rule: Rule | None
    lasts: bool
    provisional: bool
    reference: Reference | None


def follow(figures: Sequence[Figure], *, higher_is_better: bool) -> list[Look]:
    """Return what the rules say of each window, in their order: oldest first, one figure per window.

    A window is compared with the windows before it, those of an alarm left out, so a look never changes when later
    figures come. Better figures are never an alarm.
    """
    follower = _Follower(figures, sign=1 if higher_is_better else -1)
    return [follower.look(place) for place in range(len(figures))]


def reference_of(figures: Sequence[Figure]) -> Reference:
    """Return what at least two figures of windows say about the next one."""
    count = len(figures)
    mean = math.fsum(f.value for f in figures) / count
    off = [f.value - mean for f in figures]
    squares = math.fsum(d * d for d in off)
    error2 = math.fsum(f.error * f.error for f in figures) / count
    sd = max(math.sqrt(squares / (count - 1)), math.sqrt(error2), _ROUNDING * max(1.0, abs(mean)))
    # Of few windows the correlation is estimated too low, by about 1 / count.
    alike = math.fsum(a * b for a, b in pairwise(off)) / squares + 1 / count if squares else 0.0
    alike = min(0.8, max(0.0, alike))
    ratio = (1 + alike) / (1 - alike)
    return Reference(
        windows=count, mean=mean, sd=sd, error2=error2, factor=math.sqrt(ratio), effective=max(3.0, count / ratio)
    )


def deviation(figure: Figure, reference: Reference) -> float:
    """Return how far a figure is above the windows before, in standard deviations of a normal distribution.

    Mean and spread are estimates, so it goes through Student's t. A window of fewer rows than usual may swing more.
    """
    from statistics import NormalDist

    from scipy.special import stdtr

    spread = math.sqrt(reference.sd**2 + max(0.0, figure.error**2 - reference.error2))
    raw = (figure.value - reference.mean) / (spread * math.sqrt(1 + 1 / reference.effective) * reference.factor)
    # Of the tail that is small, so that far away is not rounded to certainty.
    tail = max(1e-12, float(stdtr(reference.effective - 1, -abs(raw))))
    return math.copysign(-NormalDist().inv_cdf(tail), raw)


class _Follower:
    """What is known after each window."""

    def __init__(self, figures: Sequence[Figure], *, sign: int) -> None:
        self.values = [f.value for f in figures]
        self.figures = [
            replace(f, value=max(-GREATEST, min(f.value, GREATEST)), error=min(f.error, GREATEST)) for f in figures
        ]
        self.sign = sign
        self.usable = [True] * len(figures)  # False in an alarm: not to be compared with
        self.recent: list[tuple[int, bool]] = []  # the last windows judged: place, and whether beyond
        self.total = 0.0
        self.rising = 0  # since when the sum is above 0
        self.lasts = False
        self.quiet = 0

    def look(self, place: int) -> Look:
        figure = self.figures[place]
        if figure.anew:
            self._begin_anew()
        known = [f for f, usable in zip(self.figures[: max(0, place - GAP)], self.usable, strict=False) if usable]
        if len(known) < NEEDED:
            return Look(
                window_start=figure.window_start,
                value=self.values[place],
                z=None,
                total=0.0,
                rule=None,
                lasts=self.lasts,
                provisional=True,
                reference=None,
            )
        reference = reference_of(known[-REFERENCE:])
        z = -self.sign * deviation(figure, reference)
        armed = reference.windows >= ARMED
        rule = self._judge(place, z, armed=armed)
        self._carry_on(place, z, rule)
        return Look(
            window_start=figure.window_start,
            value=self.values[place],
            z=z,
            total=self.total,
            rule=rule,
            lasts=self.lasts,
            provisional=not armed,
            reference=reference,
        )

    def _judge(self, place: int, z: float, *, armed: bool) -> Rule | None:
        self.recent = [*self.recent[-2:], (place, z > BEYOND)]
        if armed:
            if not self.total:
                self.rising = place
            self.total = max(0.0, self.total + min(z, MOST) - SLACK)
        if z > BEYOND and sum(beyond for _, beyond in self.recent) >= TWO:
            return "recent"
        return "slow" if self.total > (LASTING if self.lasts else LIMIT) else None

    def _carry_on(self, place: int, z: float, rule: Rule | None) -> None:
        if rule and not self.lasts:
            self.lasts = True
            first = self.rising if rule == "slow" else min(p for p, beyond in self.recent if beyond)
            self.usable[first:place] = [False] * (place - first)
        if not self.lasts:
            return
        self.usable[place] = False
        self.total = min(LASTING, self.total)
        self.quiet = 0 if z > BEYOND else self.quiet + 1
        if self.quiet >= QUIET and self.total <= OVER:
            self._begin_anew()

    def _begin_anew(self) -> None:
        self.lasts, self.quiet, self.total, self.recent = False, 0, 0.0, []
