"""The champion's own features of the holdout windows, kept beside a snapshot.

A version is measured on what it would have been asked in production: on features made by the features.sql that it was
trained with. So the text of the champion is run at the same moment, for the same windows with the same as_of, and its
rows are joined to those of the snapshot by window and key. Its rows go through no check: whatever the checks set aside
is not in the snapshot either. When the champion's text does not work any more, training goes on; the snapshot says why
nobody can tell which of the two is better.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from ponte.errors import PonteError
from ponte.model.queries import AuthorQuery, QueryRefused, columns_of
from ponte.model.windows import Window
from ponte.snapshots.files import copy_to_parquet, read_parquet
from ponte.snapshots.lifecycle import Snapshot, frozen_name
from ponte.storage.artifacts import ArtifactStore
from ponte.storage.columns import Column, select_list
from ponte.storage.database import DATA_SCHEMA, Database, is_transient, make_empty_table, quote
from ponte.storage.withholding import said_of
from ponte.versions import registry
from ponte.versions.registry import Version
from ponte.versions.signature import Signature, differences

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

    Array = np.ndarray[Any, Any]

log = logging.getLogger(__name__)

_GIVE_UP = sa.text("""UPDATE ponte.snapshot SET champion_table = NULL, champion_rows = NULL, champion_why = :why
    WHERE snapshot_id = :id""")

_COUNT = sa.text("UPDATE ponte.snapshot SET champion_rows = :rows WHERE snapshot_id = :id")


# ---------------------------------------------------------------- freezing


@dataclass(frozen=True, kw_only=True, slots=True)
class Beside:
    """How the champion's own features are frozen beside a snapshot."""

    snapshot: Snapshot
    #: The holdout windows.
    windows: Sequence[Window]
    #: Names the parameters of a window, like the author's text.
    query: str
    #: What is unique in each window.
    key: Sequence[Column]
    #: Why there is no query.
    why: str | None = None

    @property
    def table(self) -> str:
        return _table(self.snapshot)


def plan_beside(db: Database, snapshot: Snapshot, windows: Sequence[Window], key: Sequence[Column]) -> Beside | None:
    """Return how the champion's own features of the holdout are frozen; None when there is nothing to freeze.

    windows : all of the snapshot; key : that of the snapshot. Raises what says that the database is away.
    """
    if snapshot.champion_table is None or snapshot.champion_version is None:
        return None
    champion = registry.get_version(db, snapshot.model, snapshot.champion_version)
    query = AuthorQuery("features.sql", registry.trained_sql(db, champion))
    measured = [w for w in windows if w.start >= snapshot.holdout_from]
    why = _problem(db, champion, query, measured[0], key)
    return Beside(
        snapshot=snapshot,
        windows=measured,
        query="" if why else _of_window(query.sql(), snapshot, champion.signature),
        key=key,
        why=why,
    )


def _problem(db: Database, champion: Version, query: AuthorQuery, window: Window, key: Sequence[Column]) -> str | None:
    """Return what keeps the champion's text from being run, None for nothing. Scoring asks the same of it."""
    signature = champion.signature
    if differ := differences(signature.key, key):
        return f"its key is another one: {'; '.join(differ)}"
    if found := query.problems():
        return f"its features.sql does not work any more: {found[0]}"
    try:
        columns = columns_of(db, query, window.parameters())
    except (QueryRefused, sa.exc.DBAPIError) as error:
        if is_transient(error):
            raise
        return f"its features.sql does not work any more: {said_of(error)}"
    got = [Column(name=name, family=family) for name, _, family in columns if family is not None]
    differ = differences((*signature.key, *signature.features), got)
    return f"its features.sql returns other columns now: {'; '.join(differ)}" if differ else None


def _of_window(text: str, snapshot: Snapshot, signature: Signature) -> str:
    columns = ", ".join(f"f.{quote(c.name)}" for c in (*signature.key, *signature.features))
    same = " AND ".join(f"t.{quote(c.name)} = f.{quote(c.name)}" for c in signature.key)
    return (
        f"SELECT %(window_start)s AS window_start, {columns} FROM (\n{text}\n) AS f "
        f"WHERE EXISTS (SELECT FROM {frozen_name(snapshot)} AS t WHERE t.window_start = %(window_start)s AND {same})"
    )


def make_beside(connection: sa.Connection, beside: Beside | None) -> None:
    """Make the empty table, in the caller's transaction, which has made that of the snapshot and holds its lock."""
    if beside is None:
        return
    if beside.why is not None:
        _give_up(connection, beside.snapshot, beside.why)
        return
    make_empty_table(connection, beside.table, beside.query, beside.windows[0].parameters())


def load_beside(connection: sa.Connection, beside: Beside | None) -> None:
    """Fill the table, in the caller's transaction, which has loaded the rows of the snapshot: the same moment."""
    if beside is None or beside.why is not None:
        return
    rows = 0
    try:
        with connection.begin_nested():
            for window in beside.windows:
                done = connection.exec_driver_sql(f"INSERT INTO {beside.table} {beside.query}", window.parameters())
                rows += done.rowcount
            columns = ", ".join(quote(c.name) for c in beside.key)
            twice = f"SELECT EXISTS (SELECT FROM {beside.table} GROUP BY window_start, {columns} HAVING count(*) > 1)"
            why = "its features.sql returns a key twice" if connection.exec_driver_sql(twice).scalar_one() else None
    except sa.exc.DBAPIError as error:
        if is_transient(error):
            raise
        why = f"its features.sql does not work any more: {said_of(error)}"
    if why is not None:
        _give_up(connection, beside.snapshot, why)
        connection.exec_driver_sql(f"DROP TABLE IF EXISTS {beside.table}")
        return
    connection.execute(_COUNT, {"rows": rows, "id": beside.snapshot.snapshot_id})
    log.info("champion %s: its own features of %d holdout rows", beside.snapshot.champion_version, rows)


def _give_up(connection: sa.Connection, snapshot: Snapshot, why: str) -> None:
    log.warning("champion %s cannot be measured on these windows: %s", snapshot.champion_version, why)
    connection.execute(_GIVE_UP, {"why": why, "id": snapshot.snapshot_id})


def _table(snapshot: Snapshot) -> str:
    assert snapshot.champion_table is not None
    return quote(DATA_SCHEMA, snapshot.champion_table)


# ---------------------------------------------------------------- writing and reading


def write_beside(db: Database, store: ArtifactStore, snapshot: Snapshot) -> dict[str, Any]:
    """Write the champion's own features as a Parquet file named by its content.

    Return {champion_why, champion_path, champion_sha256, champion_bytes}; all None but the first when there is nothing
    to write. Raises PonteError when rows were lost, and what says that database or storage is away.
    """
    nothing = {"champion_path": None, "champion_sha256": None, "champion_bytes": None}
    if snapshot.champion_table is None or snapshot.champion_version is None:
        return {**nothing, "champion_why": snapshot.champion_why}
    champion = registry.get_version(db, snapshot.model, snapshot.champion_version)
    signature = champion.signature
    key = (Column(name="window_start", family="date"), *signature.key)
    order = ", ".join(quote(c.name) for c in key)
    query = f"SELECT {select_list((*key, *signature.features))} FROM {_table(snapshot)} ORDER BY {order}"
    description = {
        "model": snapshot.model,
        "champion": champion.version,
        "columns": signature.as_json(),
        "features_sql": registry.trained_sql(db, champion),
    }
    try:
        with store.content_addressed(f"{snapshot.model}/snapshots", "-champion.parquet") as file:
            rows = copy_to_parquet(db, query, description, file.local)
    except Exception as error:
        if is_transient(error) or not type(error).__module__.startswith(("adbc_driver_manager", "pyarrow")):
            raise
        why = f"the values of its features.sql cannot be read any more: {type(error).__name__}"
        log.warning("champion %d cannot be measured: %s", champion.version, why)
        return {**nothing, "champion_why": why}
    if rows != snapshot.champion_rows:
        got, expected = f"{rows} rows", f"{snapshot.champion_rows} rows"
        what = "the champion's features changed while they were read"
        raise PonteError(what, where=snapshot.place, got=got, expected=expected)
    return {
        "champion_why": None,
        "champion_path": file.path,
        "champion_sha256": file.sha256,
        "champion_bytes": file.byte_count,
    }


def why_not_comparable(db: Database, snapshot: Snapshot, candidate: Version, champion: Version) -> str | None:
    """Return why a champion cannot be measured on the snapshot that the candidate was trained on; None when it can.

    Says nothing about the champion's files, which only `evaluate` reads.
    """
    if why := why_another_question(candidate, champion):
        return why
    return None if _is_same_text(db, snapshot, champion) else _why_no_own_features(db, snapshot, champion)


def why_another_question(candidate: Version, champion: Version) -> str | None:
    """Return why the answers of the two cannot be compared, whatever rows they are asked about; None when they can."""
    if champion.task != candidate.task:
        return f"its task is {champion.task}"
    if differ := differences(champion.signature.key, candidate.signature.key):
        return f"its key is another one: {'; '.join(differ)}"
    if (champion.classes or candidate.classes) != candidate.classes:
        if candidate.task == "binary" and champion.classes[::-1] == candidate.classes:
            return f"its score is the probability of {champion.classes[-1]}, the candidate's of {candidate.classes[-1]}"
        return f"it knows other classes: {', '.join(map(str, champion.classes))}"
    return None


def _why_no_own_features(db: Database, snapshot: Snapshot, champion: Version) -> str | None:
    text, frozen = registry.trained_sql(db, champion), None
    if snapshot.champion_version is not None:
        frozen = registry.trained_sql(db, registry.get_version(db, snapshot.model, snapshot.champion_version))
    if frozen != text:
        return "it became champion after the windows were frozen, and its features.sql is another text"
    if snapshot.champion_path is None:
        return snapshot.champion_why or "its own features were not kept"
    return None


def _is_same_text(db: Database, snapshot: Snapshot, champion: Version) -> bool:
    return registry.trained_sql(db, champion) == snapshot.features_sql


@dataclass(frozen=True, slots=True)
class OwnRows:
    """What a champion is asked about rows of a snapshot."""

    #: Which of them its own features.sql returns too, by place, ascending.
    kept: Array
    #: Its own features of these, in the same order.
    rows: pa.Table


def own_rows(db: Database, store: ArtifactStore, snapshot: Snapshot, champion: Version, rows: pa.Table) -> OwnRows:
    """Return the champion's own features of `rows`, which are of the snapshot; only where `why_not_comparable` is None.

    Raises ArtifactRefused when the stored file is not what was registered.
    """
    import numpy as np
    import pyarrow as pa

    if _is_same_text(db, snapshot, champion):
        return OwnRows(np.arange(rows.num_rows), rows)
    assert snapshot.champion_path is not None
    assert snapshot.champion_sha256 is not None
    theirs = read_parquet(store.read_verified(snapshot.champion_path, snapshot.champion_sha256))
    keys = ["window_start", *(c.name for c in champion.signature.key)]
    # No column of a model has such a name.
    ours = rows.select(keys).append_column("#ours", pa.array(np.arange(rows.num_rows)))
    place = theirs.select(keys).append_column("#theirs", pa.array(np.arange(theirs.num_rows)))
    joined = ours.join(place, keys, join_type="inner").sort_by("#ours")
    return OwnRows(joined.column("#ours").to_numpy(), theirs.take(joined.column("#theirs")))
