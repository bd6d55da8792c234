"""Labels that come late, in any order, corrected and taken back: the figures are those of the truth."""

from __future__ import annotations

import pytest
from tests.bench.late_labels import day, replay
from tests.sample_model import World

LOOKS = [day(10), day(40), day(119)]
WEEKLY = sorted({*LOOKS, *(day(7 * n) for n in range(1, 17))})


@pytest.mark.parametrize("runs", [WEEKLY, LOOKS], ids=["weekly", "with months between"])
def test_quality_is_what_the_truth_gives_at_each_maturity_and_as_of_each_moment(scored: World, runs: list) -> None:
    assert replay(scored, 7, runs, LOOKS) == []
