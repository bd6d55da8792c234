"""Score one shard, once.

Its predictions, its rows in quarantine and its row in `ponte.shard` commit together: killed half-way nothing is there,
run twice the second copy finds the committed row.
"""

from __future__ import annotations

import datetime as dt
import logging

import sqlalchemy as sa

from ponte.batches import lifecycle as batches
from ponte.batches.lifecycle import Batch
from ponte.checks import quarantine
from ponte.counting import reference
from ponte.counting.bins import Tallies
from ponte.errors import PonteError
from ponte.estimation.calibration import Calibration
from ponte.estimation.estimates import Estimation
from ponte.model.folders import ModelFolder
from ponte.scoring.flow import ShardFlow
from ponte.scoring.memory import keep_freed_memory
from ponte.scoring.plan import Shard
from ponte.scoring.scorer import Scorer
from ponte.storage.artifacts import ArtifactStore
from ponte.storage.database import Database, or_of_a_twin, quote
from ponte.storage.receipts import Receipt, recorded
from ponte.versions import registry
from ponte.versions.isolation import TooManyUnscored
from ponte.versions.loading import LoadedVersion, load_registered

log = logging.getLogger(__name__)

_COMMITTED = sa.text("""SELECT row_count, first_page, end_page FROM ponte.shard
    WHERE batch_id = :batch AND shard = :shard""")


def score_shard(
    db: Database,
    store: ArtifactStore,
    folder: ModelFolder,
    batch_id: int,
    shard: Shard,
    *,
    now: dt.datetime,
    threads: int = 1,
) -> int:
    """Score the rows of a shard and return how many predictions there are; does nothing when it was committed before.

    threads : how many OpenMP and Arrow may use. Rows that the estimator cannot score are set aside; with more of
    them than `[quarantine] budget` leaves, the batch is rejected.

    Raises Fenced when a newer run claimed the window, BatchRejected, ArtifactRefused when the version's files are not
    what was registered, RowsLost when fewer or more rows were written than read.
    """
    import pyarrow as pa

    batch = batches.get_batch(db, batch_id)
    batches.require(batch, "checked")
    done = _committed_rows(db, batch_id, shard)
    if done is not None:
        log.info("shard %d was committed before: %d rows", shard.shard, done)
        return done

    def committed() -> int | None:
        found = _committed_rows(db, batch_id, shard)
        if found is None:
            batches.require(batches.get_batch(db, batch_id), "checked")  # fenced off, and its tables swept away?
        return found

    pa.set_cpu_count(threads)
    keep_freed_memory()
    with recorded(db, Receipt(model=batch.model, step="score", batch_id=batch_id, version=batch.version)) as receipt:
        version = registry.get_version(db, batch.model, batch.version)
        loaded = load_registered(db, store, version)
        estimation = _estimation(folder, loaded)
        with db.begin() as connection:
            bins = reference.read_bins(connection, batch.model, batch.version)
        stream = ShardFlow(
            scorer=Scorer(loaded, expect_errors=estimation is not None),
            source=quote(*batches.frozen_name(batch)),
            condition=shard.condition,
            target=batches.prediction_name(batch),
            place=batch.place,
            batch=batch,
            shard=shard,
            chunk_rows=folder.spec.scoring.chunk_rows,
            threads=threads,
            now=now,
            allowed=_budget(db, folder, batch),
            features=Tallies("features", bins["features"], batch.as_of),
            answers=Tallies("answers", bins["answers"], batch.as_of),
            estimation=estimation,
        )
        try:
            receipt.row_count = or_of_a_twin(lambda: stream.run(db), committed)
        except TooManyUnscored as error:
            why = _too_many(error, batch, folder)
            raise batches.reject(db, batch, why, by="budget", at="checked") from error
    return receipt.row_count


def _estimation(folder: ModelFolder, loaded: LoadedVersion) -> Estimation | None:
    output = loaded.version.output
    known = output.task == "regression" or output.classes  # a version of revision 0001 does not name its classes
    if not folder.spec.estimates or loaded.estimation is None or not known:
        return None
    return Estimation(Calibration.from_json(dict(loaded.estimation)), output)


def _budget(db: Database, folder: ModelFolder, batch: Batch) -> int:
    """Return how many more rows of the batch may be set aside."""
    assert batch.row_count is not None
    with db.begin() as connection:
        used = quarantine.count_rows(connection, batch.batch_id)
    return quarantine.allowed_rows(folder.spec.quarantine.budget, batch.row_count) - used


def _too_many(error: Exception, batch: Batch, folder: ModelFolder) -> str:
    budget = folder.spec.quarantine.budget
    return f"more rows cannot be scored than [quarantine] budget = {budget:g} of {batch.row_count} rows leaves: {error}"


def _committed_rows(db: Database, batch_id: int, shard: Shard) -> int | None:
    with db.begin() as connection:
        row = connection.execute(_COMMITTED, {"batch": batch_id, "shard": shard.shard}).one_or_none()
    if row is None:
        return None
    if (row.first_page, row.end_page) != (shard.first_page, shard.end_page):
        got = f"pages {shard.first_page} to {shard.end_page}"
        expected = f"pages {row.first_page} to {row.end_page}, as committed before"
        raise PonteError(
            "a shard was planned anew", where=f"batch {batch_id}, shard {shard.shard}", got=got, expected=expected
        )
    return int(row.row_count)
