"""Freeze first: `features.sql` runs once, into a table; everything after reads that table.

What was checked is then exactly what is scored, shards see one set of rows, and a retry reads the same rows. The
CREATE is committed before the rows are loaded: a server crash inside one transaction that does both would leave a file
on disk that no catalog knows.
"""

from __future__ import annotations

import datetime as dt
import logging
from collections.abc import Callable

import sqlalchemy as sa

from ponte.batches import lifecycle as batches
from ponte.batches.lifecycle import Batch, Pin
from ponte.model.folders import ModelFolder
from ponte.model.inspection import inspect_features
from ponte.model.queries import AuthorQuery
from ponte.model.windows import Window
from ponte.storage.columns import Column
from ponte.storage.database import Database, make_empty_table, quote
from ponte.storage.receipts import Receipt, recorded
from ponte.storage.row_width import too_wide_explained
from ponte.storage.runs import Run
from ponte.versions import registry
from ponte.versions.choice import Choice, choose, choose_named
from ponte.versions.registry import Version
from ponte.versions.signature import require_same

log = logging.getLogger(__name__)

_MARK_FROZEN = sa.text("""UPDATE ponte.batch SET status = 'frozen', row_count = :rows,
    page_count = pg_relation_size(CAST(:table AS regclass)) / current_setting('block_size')::int
    WHERE batch_id = :id""")


def freeze_batch(
    db: Database,
    folder: ModelFolder,
    window: Window,
    *,
    run: Run,
    now: dt.datetime,
    allow_hindsight: bool = False,
    named: Version | None = None,
) -> Batch:
    """Claim the window and return its batch with the rows frozen; does nothing when this run froze it before.

    now : the moment of the call; tells whether the window is the newest. named : the version that a person has chosen;
    by default the champion, of now or of as_of (see `version_choice`).

    The rows come from the features.sql that the version was trained with, as kept with its snapshot: an edit of the
    folder takes effect with the version that is trained on it, and going back to a version goes back to its text.

    Raises NoChampion, VersionMarkedBad, HindsightRefused, ModelFolderError, SignatureMismatch before anything is
    claimed, BatchRejected when the window is empty (unless the model says `empty = "allow"`), Fenced when a newer run
    claimed the window.
    """

    def choose_version() -> Choice:
        if named is None:
            return choose(db, folder.name, window, now=now, allow_hindsight=allow_hindsight)
        return choose_named(named, window, allow_hindsight=allow_hindsight)

    batch = _claimed(db, folder, window, run=run, choose_version=choose_version)
    version = registry.get_version(db, folder.name, batch.version)
    text = registry.trained_sql(db, version)
    if batch.status == "freezing":
        with recorded(db, Receipt(model=folder.name, step="freeze", batch_id=batch.batch_id)) as receipt:
            receipt.row_count = _freeze_rows(db, batch, text, (*version.signature.key, *version.signature.features))
        batch = batches.get_batch(db, batch.batch_id)
    batches.require(batch, "frozen")
    if batch.row_count == 0 and folder.spec.scoring.empty == "reject":
        raise batches.reject(db, batch, "the window is empty: features.sql returned no row", by="empty")
    return batch


def _claimed(
    db: Database, folder: ModelFolder, window: Window, *, run: Run, choose_version: Callable[[], Choice]
) -> Batch:
    """Return the batch of this run, which has claimed the window by now.

    The author's SQL is inspected before anything is claimed: a table that it reads may be locked for hours, by a load
    of the night, and nobody could decide about the model meanwhile. When somebody has decided meanwhile, the version
    that is chosen then is inspected too, and the window claimed at the next try.
    """
    inspected: set[int] = set()

    def pin() -> Pin | None:
        choice = choose_version()
        if choice.version.version not in inspected:
            return None
        log.info("window %s is scored by version %d: %s", window, choice.version.version, choice.reason)
        return Pin(version=choice.version.version, reason=choice.reason, hindsight=choice.hindsight)

    batch = batches.find_batch(db, folder.name, window, run=run)
    while batch is None:
        version = choose_version().version
        _require_trained_columns(db, folder, version)
        inspected.add(version.version)
        batch = batches.claim(db, folder.name, window, run=run, choose=pin)
    return batch


def _require_trained_columns(db: Database, folder: ModelFolder, version: Version) -> None:
    """Raise SignatureMismatch unless the folder's query, and the version's own, return the version's columns now."""
    trained_text = registry.trained_sql(db, version)
    texts = dict.fromkeys([folder.text("features.sql"), trained_text])
    if len(texts) > 1:
        log.warning("features.sql was edited since version %d was trained; its own text is used", version.version)
    for text in texts:
        found = inspect_features(db, folder, text)
        for expected, got in ((version.signature.key, found.key), (version.signature.features, found.features)):
            require_same(expected, got, model=folder.name, version=version.version)


def _freeze_rows(db: Database, batch: Batch, text: str, columns: tuple[Column, ...]) -> int | None:
    query = f"SELECT * FROM (\n{AuthorQuery('features.sql', text).sql()}\n) AS features"
    table = quote(*batches.frozen_name(batch))
    parameters = batch.window.parameters()
    with db.begin() as connection:
        if batches.lock(connection, batch.batch_id).status != "freezing":
            return batch.row_count
        make_empty_table(connection, table, query, parameters)
        batches.store_columns(connection, batch.batch_id, columns)
    with db.begin() as connection:
        if batches.lock(connection, batch.batch_id).status != "freezing":
            return batch.row_count
        with too_wide_explained(batch.model):
            rows = connection.exec_driver_sql(f"INSERT INTO {table} {query}", parameters).rowcount
        connection.execute(_MARK_FROZEN, {"rows": rows, "table": table, "id": batch.batch_id})
    return int(rows)
