"""Hold a version against the champion of the day, on the same rows, and keep every figure in `ponte.metric`."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from ponte.errors import ArtifactRefused
from ponte.model.folders import ModelFolder
from ponte.model.spec import ModelSpec
from ponte.quality.figures import (
    CANDIDATE,
    OF_FEATURES,
    READABLE,
    Figure,
    Measured,
    champion_subject,
    difference_subject,
    from_json,
)
from ponte.quality.measurement import MINIMUM_UNITS, compare, unit_count
from ponte.snapshots.champion import own_rows, why_not_comparable
from ponte.snapshots.lifecycle import Snapshot, get_snapshot, lock_snapshot
from ponte.snapshots.parquet import read_snapshot
from ponte.snapshots.parts import Part, split
from ponte.storage.artifacts import ArtifactStore
from ponte.storage.database import Database, insert_rows
from ponte.storage.receipts import Receipt, recorded
from ponte.versions import aliases, marks, registry
from ponte.versions.loading import METRICS_FILE, load_files, load_registered, read_files
from ponte.versions.predicting import Predictions
from ponte.versions.registry import Version

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

    Array = np.ndarray[Any, Any]

log = logging.getLogger(__name__)

_FORGET = sa.text("""DELETE FROM ponte.metric
    WHERE model = :model AND version = :version AND snapshot_id = :snapshot_id""")


def evaluate(
    db: Database, store: ArtifactStore, folder: ModelFolder, version_number: int, snapshot_id: int
) -> dict[str, Mapping[str, float]]:
    """Return the values of candidate, champion and baselines on the holdout rows of the snapshot, by subject.

    Stored in `ponte.metric`, with intervals: what the version's own folder says of it, and the champion's figures and
    "candidate minus champion" from paired resamples of the same rows, each version on its own features, without rows
    that the champion has learned from. A repetition replaces what it stored before. A champion that cannot predict
    these rows (its SQL or its files do not work any more) gets only `readable` = 0.
    """
    version = registry.get_version(db, folder.name, version_number)
    with recorded(db, Receipt(model=folder.name, step="evaluate", snapshot_id=snapshot_id)) as receipt:
        receipt.version = version_number
        figures = from_json(read_files(store, version)[METRICS_FILE])
        champion = champion_beside(db, folder.name, version_number)
        if champion is not None:
            candidate = _registered(db, store, version, get_snapshot(db, snapshot_id))
            figures += beside_champion(db, store, folder.spec, candidate, champion)
        receipt.row_count = version.holdout_rows
        _store(db, version, snapshot_id, figures)
    return _summary(figures)


def _registered(db: Database, store: ArtifactStore, version: Version, snapshot: Snapshot) -> Measurable:
    return Measurable(
        version=version,
        snapshot=snapshot,
        store=store,
        holdout=split(read_snapshot(store, snapshot), snapshot).holdout,
        ask=lambda rows: load_registered(db, store, version).predictions(rows),
    )


@dataclass(frozen=True, kw_only=True)
class Measurable:
    """A candidate on the rows of a snapshot, before it is held against the champion."""

    #: Registered, or of number 0: a try.
    version: Version
    snapshot: Snapshot
    #: Holds the snapshot's files.
    store: ArtifactStore
    holdout: Part
    #: Says what the candidate predicts of rows of the holdout; asked only when the champion has been.
    ask: Callable[[pa.Table], Predictions]


def champion_beside(db: Database, model: str, version_number: int) -> Version | None:
    """Return the champion of the day; None when there is none, or it is the version itself."""
    alias = aliases.current_alias(db, model)
    return None if alias is None or alias.version == version_number else registry.get_version(db, model, alias.version)


def beside_champion(
    db: Database, store: ArtifactStore, spec: ModelSpec, candidate: Measurable, champion: Version
) -> list[Measured]:
    """Return what is known of the champion on the candidate's holdout.

    Each is asked with features that its own features.sql has made, on the rows that both texts return.

    store : of the versions.
    """
    version, snapshot = candidate.version, candidate.snapshot
    holdout = candidate.holdout
    learned_until = get_snapshot(db, champion.snapshot_id).holdout_from
    if learned_until > snapshot.holdout_from:
        # Figures on rows that it was fitted on would keep every honest successor out.
        holdout = holdout.since(learned_until)
        log.warning(
            "champion %d has learned from windows of before %s: compared on the %d rows since then",
            champion.version,
            learned_until,
            len(holdout.labels),
        )
    # That none of these rows is left to compare on does not mean that it cannot predict them.
    asked = holdout if len(holdout.labels) else candidate.holdout
    why = why_not_comparable(db, snapshot, version, champion)
    if why is not None:
        log.warning("champion %d cannot be measured: %s", champion.version, why)
    said = None if why is not None else _predictions_of(db, store, candidate, champion, asked)
    subject = champion_subject(champion.version)
    if said is None:
        return [_readable(subject, 0.0, len(holdout.labels))]
    kept, predictions = said
    holdout = holdout.take(kept) if asked is holdout else holdout
    rows = len(holdout.labels)
    readable = _readable(subject, 1.0, rows)
    if rows < spec.training.minimum_holdout_rows or unit_count(spec, holdout) < MINIMUM_UNITS:
        return [readable]
    own = candidate.ask(holdout.rows)
    found = compare(spec, version.output, holdout, {CANDIDATE: own, subject: predictions})
    return [readable, *(m for m in found if m.subject in (subject, difference_subject(subject)))]


def _readable(subject: str, value: float, rows: int) -> Measured:
    return Measured(subject=subject, name=READABLE, figure=Figure(value), row_count=rows)


def _predictions_of(
    db: Database, store: ArtifactStore, candidate: Measurable, champion: Version, holdout: Part
) -> tuple[Array, Predictions] | None:
    """Return which of the rows the champion's own text returns too, by place, and what it predicts of these.

    None when its files do not work any more.
    """
    allowed = marks.allows_other_libraries(db, champion)
    try:
        files = read_files(store, champion)
        own = own_rows(db, candidate.store, candidate.snapshot, champion, holdout.rows)
    except ArtifactRefused as error:  # and nothing else: a storage that is away says nothing about the champion
        log.warning("champion %d cannot be read: %s", champion.version, error)
        return None
    if len(own.kept) < len(holdout.labels):
        found, all_rows = len(own.kept), len(holdout.labels)
        log.warning("champion %d: its features.sql returns %d of the %d rows", champion.version, found, all_rows)
    try:
        said = load_files(champion, files, other_libraries_allowed=allowed).predictions(own.rows)
    except MemoryError:
        raise  # of this moment, not of the champion
    except Exception as error:  # noqa: BLE001 - whatever is wrong with the champion is for a person to decide about
        log.warning("champion %d cannot predict these rows: %s", champion.version, error)
        return None
    return own.kept, said


def _summary(figures: Sequence[Measured]) -> dict[str, Mapping[str, float]]:
    """Return the figures of the whole holdout by subject, without those of single features; logged too."""
    found: dict[str, dict[str, float]] = {}
    for m in figures:
        if not m.slice and not m.subject.startswith(OF_FEATURES):
            found.setdefault(m.subject, {})[m.name] = m.figure.value
    for subject, values in found.items():
        log.info("%-30s %s", subject, "  ".join(f"{name} {value:.4f}" for name, value in values.items()))
    return dict(found)


def _store(db: Database, version: Version, snapshot_id: int, figures: Sequence[Measured]) -> None:
    place = {"model": version.model, "version": version.version, "snapshot_id": snapshot_id}
    rows = [
        {
            **place,
            "subject": m.subject,
            "slice": m.slice,
            "name": m.name,
            "value": m.figure.value,
            "low": m.figure.low,
            "high": m.figure.high,
            "row_count": m.row_count,
        }
        for m in figures
    ]
    with db.begin() as connection:
        lock_snapshot(connection, snapshot_id)  # two copies of one run take turns
        connection.execute(_FORGET, place)
        insert_rows(connection, "ponte.metric", rows)
