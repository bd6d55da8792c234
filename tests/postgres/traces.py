"""What a scoring run leaves behind, to hold one that was killed against one that nobody disturbed."""

from __future__ import annotations

from tests.sample_model import World

#: Two shards in chunks of 40 rows, so that there is a middle to be killed in.
SMALL = {"shard_rows": 200, "chunk_rows": 40}
#: Counts the freezes that sleep within their INSERT, see the fixture `slow`.
FREEZING = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND query LIKE 'INSERT%'"


def state(world: World, batch_id: int) -> dict[str, object]:
    """Return all that a run leaves behind and that does not depend on time or on its number."""
    return {
        "published": world.published_checksum(),
        "batch": world.rows(
            "SELECT status, why, row_count, page_count, frozen_table, version, columns "
            "FROM ponte.batch WHERE batch_id = :id",
            id=batch_id,
        ),
        "shards": world.rows(
            "SELECT shard, first_page, end_page, row_count FROM ponte.shard WHERE batch_id = :id ORDER BY 1",
            id=batch_id,
        ),
        "partition": world.rows(
            "SELECT count(*), count(DISTINCT visit_id) FROM ponte_data.prediction_visits WHERE batch_id = :id",
            id=batch_id,
        ),
        "pointer": world.rows("SELECT window_start, batch_id = :id FROM ponte.published", id=batch_id),
        "events": world.rows(
            "SELECT window_start, row_count, actor FROM ponte.publication_event WHERE batch_id = :id", id=batch_id
        ),
        "checks": world.rows(
            "SELECT position, outcome, unexpected_count FROM ponte.check_result WHERE batch_id = :id ORDER BY 1",
            id=batch_id,
        ),
    }


def assert_as_undisturbed(world: World, batch_id: int, expected: dict[str, object]) -> None:
    assert state(world, batch_id) == expected
    left = {name for name in world.data_tables() if name.endswith(f"_{batch_id}")}
    assert left == {f"visits__prediction_{batch_id}"}


def copying(world: World) -> int:
    """Return how many shards are being written."""
    return world.ask(
        "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'COPY%FROM STDIN%' AND pid <> pg_backend_pid()"
    )
