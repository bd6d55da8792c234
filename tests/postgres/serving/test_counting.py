"""What the API has answered is counted, with the rows."""

from __future__ import annotations

from tests.postgres.serving.served import ROW, Served

from ponte.monitoring.live_windows import fold


def test_every_answer_is_counted_once_and_by_its_version(own: Served) -> None:
    own.predict([ROW, {**ROW, "items": None}], keys=[{"visit_id": 1}, None])
    own.predict([ROW])
    assert own.service.journal.flush()
    own.predict([ROW] * 5)
    assert own.service.journal.flush()
    world = own.world
    assert world.rows("SELECT row_count, cpu_seconds > 0, peak_bytes > 0 FROM ponte.live_count ORDER BY at") == [
        (3, True, True),
        (5, True, True),
    ]
    assert fold(world.db, "visits") == 2
    assert world.rows("SELECT version, row_count FROM ponte.live_window") == [(1, 8)]
    assert world.ask("SELECT count(*) FROM predictions.visits_live") == 8
    counts = dict(world.rows("SELECT column_name, counts FROM ponte.live_window_count"))
    assert {"items", "shop", "prediction", "score"} <= counts.keys()
    assert {sum(of_column) for of_column in counts.values()} == {8}
    assert counts["items"][-1] == 1
