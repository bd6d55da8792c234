"""The estimate of what windows cost, beside figures computed by hand."""

from __future__ import annotations

import pytest
from tests.postgres.schema.test_roles import as_role, opened
from tests.sample_model import WEEK, World

from ponte.schema import roles

RECEIPT = (
    "INSERT INTO ponte.receipt (model, step, batch_id, snapshot_id, row_count, seconds, cpu_seconds, peak_bytes, "
    "byte_count, at) VALUES ('visits', :step, :batch, :snapshot, :rows, :seconds, :cpu, :peak, :bytes, :at)"
)
COST = (
    "SELECT receipts, row_count, seconds, cpu_seconds, peak_bytes, byte_count, predictions, estimated_wh, "
    "estimated_g_co2e, cpu_seconds_per_1000, estimated_wh_per_1000, estimated_g_co2e_per_1000 "
    "FROM ponte.cost WHERE step = :step AND window_start IS NOT DISTINCT FROM :week"
)


def spent(world: World, step: str, **values: object) -> None:
    standard: dict[str, object] = {
        "batch": None, "snapshot": None, "rows": None, "seconds": 10, "cpu": 20, "peak": 2_000_000_000, "bytes": None,
        "at": "2024-02-12",
    }  # fmt: skip
    world.execute(RECEIPT, step=step, **(standard | values))


@pytest.fixture
def batch(scored: World) -> int:
    """The published batch of 350 predictions."""
    return int(scored.ask("SELECT batch_id FROM ponte.published"))


def test_the_estimate_is_that_of_a_hand(scored: World, batch: int) -> None:
    """(20 s × 10 W + 2 GB × 10 s × 0.38 W) × 1.2 / 3600 = 0.0692 Wh, at 400 g/kWh 0.02768 g."""
    spent(scored, "by hand", batch=batch, rows=350, bytes=7)
    wh = (200 + 7.6) * 1.2 / 3600
    [first] = scored.rows(COST, step="by hand", week=WEEK)
    assert first[:7] == (1, 350, 10, 20, 2_000_000_000, 7, 350)
    assert first[7:] == (
        pytest.approx(0.0692), None, pytest.approx(20 / 0.35), pytest.approx(wh / 0.35), None,
    )  # fmt: skip
    scored.execute("INSERT INTO ponte.energy_setting (grid_g_per_kwh) VALUES (400)")
    [second] = scored.rows(COST, step="by hand", week=WEEK)
    assert second[8] == pytest.approx(0.02768)
    assert second[11] == pytest.approx(0.02768 / 0.35)

    spent(scored, "by hand", batch=batch, seconds=1, cpu=5, peak=500_000_000)
    more = (50 + 0.19) * 1.2 / 3600
    [both] = scored.rows(COST, step="by hand", week=WEEK)
    assert both[:6] == (2, 350, 11, 25, 2_000_000_000, 7)
    assert both[7] == pytest.approx(wh + more)
    assert both[8] == pytest.approx((wh + more) * 0.4)


def test_each_step_counts_by_the_coefficients_of_its_day(scored: World, batch: int) -> None:
    new = "INSERT INTO ponte.energy_setting (valid_from, watts_per_core, watts_per_gb, pue, grid_g_per_kwh) VALUES "
    scored.execute(f"{new} ('2024-03-01', 5, 0, 1, 100)")
    spent(scored, "before", batch=batch, at="2024-02-29 23:59")
    spent(scored, "then", batch=batch, at="2024-03-01")
    spent(scored, "both", batch=batch, at="2024-02-29")
    spent(scored, "both", batch=batch, at="2024-03-01")
    found = {step: scored.rows(COST, step=step, week=WEEK)[0][7:9] for step in ("before", "then", "both")}
    then = 20 * 5 / 3600
    assert found["before"] == (pytest.approx(0.0692), None)
    assert found["then"] == (pytest.approx(then), pytest.approx(then * 0.1))
    assert found["both"] == (pytest.approx(0.0692 + then), None), "of a part it would be no sum"
    scored.execute(f"{new} ('2024-03-01', 50, 0, 1, 100)")  # a correction: the newest of equal days
    assert scored.rows(COST, step="then", week=WEEK)[0][7] == pytest.approx(10 * then)
    for values in ("('-infinity', -1, 0, 1, 1)", "('-infinity', 1, 0, 0.9, 1)", "('-infinity', 1, 0, 1, 'NaN')"):
        with pytest.raises(Exception, match="violates check constraint"):
            scored.execute(new + values)


def test_training_has_no_window_and_a_window_without_predictions_no_rate(scored: World) -> None:
    spent(scored, "fit by hand", snapshot=scored.ask("SELECT max(snapshot_id) FROM ponte.snapshot"))
    [training] = scored.rows(COST, step="fit by hand", week=None)
    assert training[6:] == (None, pytest.approx(0.0692), None, None, None, None)
    claimed = scored.freeze(run_id="another", week=WEEK)
    other = scored.ask(
        "UPDATE ponte.batch SET window_start = '2023-01-02' WHERE batch_id = :id RETURNING 1",
        id=claimed.batch_id,
    )
    assert other == 1
    spent(scored, "no rows", batch=claimed.batch_id)
    found = scored.rows("SELECT predictions, cpu_seconds_per_1000 FROM ponte.cost WHERE step = 'no rows'")
    assert found == [(None, None)]


def test_every_step_of_a_week_is_there_for_an_analyst(scored: World) -> None:
    analyst = as_role(opened(scored), roles.ANALYST)
    steps = {step for (step,) in analyst.rows("SELECT step FROM ponte.cost WHERE window_start = :week", week=WEEK)}
    assert {"freeze", "check", "score", "guard", "publish"} <= steps
    sums = "SELECT sum(seconds), sum(cpu_seconds), sum(receipts) FROM ponte.cost"
    total = "SELECT sum(seconds), sum(cpu_seconds), count(*) FROM ponte.receipt"
    assert [pytest.approx(value) for value in scored.rows(total)[0]] == list(analyst.rows(sums)[0])
