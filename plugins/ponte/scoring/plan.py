"""A batch in shards: ranges of pages of the frozen table, which neither overlap nor leave a gap and need no index."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise

import sqlalchemy as sa

from ponte.batches import lifecycle as batches
from ponte.batches.lifecycle import Batch
from ponte.errors import PonteError
from ponte.model.folders import ModelFolder
from ponte.publishing.tables import create_prediction_table
from ponte.storage.database import Database
from ponte.versions import registry
from ponte.versions.signature import require_same

_COMMITTED = sa.text("SELECT shard, first_page, end_page FROM ponte.shard WHERE batch_id = :id")


@dataclass(frozen=True, kw_only=True, slots=True)
class Shard:
    """Pages `[first_page, end_page)` of a frozen table."""

    shard: int
    #: How many shards the batch has.
    shards: int = 1
    first_page: int
    end_page: int

    @property
    def condition(self) -> str:
        """The SQL condition that selects its rows."""
        return f"ctid >= '({self.first_page:d},0)'::tid AND ctid < '({self.end_page:d},0)'::tid"


def split_pages(*, row_count: int, page_count: int, shard_rows: int) -> list[Shard]:
    """Return shards that cover every page once, each of about `shard_rows` rows; none for an empty table.

    >>> split_pages(row_count=250, page_count=10, shard_rows=100)[1]
    Shard(shard=1, shards=3, first_page=4, end_page=7)
    """
    if not row_count:
        return []
    count = min(page_count, -(-row_count // shard_rows))
    bounds = [-(-page_count * n // count) for n in range(count + 1)]
    return [
        Shard(shard=n, shards=count, first_page=first, end_page=end) for n, (first, end) in enumerate(pairwise(bounds))
    ]


def threads_for(shard: Shard, *, slots: int) -> int:
    """Return how many threads a shard may compute with, when `slots` shards run at once: its part of the cores."""
    import joblib

    cores: int = joblib.cpu_count()
    return max(1, cores // max(1, min(shard.shards, slots)))


def plan_shards(db: Database, folder: ModelFolder, batch_id: int) -> list[Shard]:
    """Return the shards of a checked batch, at least one, after making its empty prediction table.

    Raises SignatureMismatch when the frozen columns are not those of the batch's version.
    """
    batch = batches.get_batch(db, batch_id)
    batches.require(batch, "checked")
    version = registry.get_version(db, batch.model, batch.version)
    assert batch.columns is not None
    assert batch.row_count is not None
    assert batch.page_count is not None
    require_same(
        (*version.signature.key, *version.signature.features), batch.columns, model=batch.model, version=batch.version
    )
    create_prediction_table(db, batch, version, folder.spec.evaluation.slices)
    shards = split_pages(
        row_count=batch.row_count, page_count=batch.page_count, shard_rows=folder.spec.scoring.shard_rows
    )
    _require_same_plan(db, batch, shards)
    # An empty batch that the model allows is one empty shard, so that it takes the same way as any other.
    return shards or [Shard(shard=0, first_page=0, end_page=0)]


def _require_same_plan(db: Database, batch: Batch, shards: Iterable[Shard]) -> None:
    """Raise PonteError when shards were committed that are none of these: rows would be scored twice, or never."""
    with db.begin() as connection:
        committed = {tuple(row) for row in connection.execute(_COMMITTED, {"id": batch.batch_id})}
    if committed - {(s.shard, s.first_page, s.end_page) for s in shards} - {(0, 0, 0)}:
        fix = "set shard_rows back to what it was, or clear freeze_batch: the rows are frozen and planned anew"
        raise PonteError("shards were planned otherwise before", where=batch.place, fix=fix)
