"""A whole window at once: frozen, checked, scored and staged, unseen."""

from __future__ import annotations

import datetime as dt

from ponte.batches import lifecycle as batches
from ponte.batches.checking import check_batch
from ponte.batches.freezing import freeze_batch
from ponte.batches.lifecycle import Batch
from ponte.model.folders import ModelFolder
from ponte.publishing.pointer import shown_window
from ponte.publishing.staging import guard_batch
from ponte.scoring.plan import plan_shards, threads_for
from ponte.scoring.shards import score_shard
from ponte.storage.artifacts import ArtifactStore
from ponte.storage.database import Database
from ponte.storage.runs import Run
from ponte.versions import registry


def stage_window(
    db: Database,
    store: ArtifactStore,
    folder: ModelFolder,
    version: int,
    window_start: dt.date,
    *,
    run: Run,
    now: dt.datetime,
    allow_hindsight: bool,
) -> Batch:
    """Freeze, check and score a window with the named version, and leave it staged: people do not see it yet.

    It has the bounds that people see it with, an edit of `[window]` notwithstanding.

    Can be repeated: every step finds what its run has done before.
    """
    with db.begin() as connection:
        window = shown_window(connection, folder.spec.window, folder.name, window_start)
    named = registry.get_version(db, folder.name, version)
    batch = freeze_batch(db, folder, window, run=run, now=now, allow_hindsight=allow_hindsight, named=named)
    check_batch(db, folder, batch.batch_id)
    for shard in plan_shards(db, folder, batch.batch_id):
        threads = threads_for(shard, slots=1)
        score_shard(db, store, folder, batch.batch_id, shard, now=now, threads=threads)
    guard_batch(db, folder, batch.batch_id, enforce=False)
    return batches.get_batch(db, batch.batch_id)
