"""The rows of a training, frozen to try ideas on: once with the queries of a training, then read from Parquet.

They lie below `tries/<model>/<digest>`, readable by this user alone, because they are rows of the sources. The digest
is of all that decides which rows they are, so an edit of the estimator finds them again and one of the SQL does not.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import logging
import shutil
import tempfile
import uuid
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ponte.model.windows import Window, matured_windows, midnight, parse_day, require_past
from ponte.notebook.scratch import scratch
from ponte.notebook.surroundings import Surroundings, find, require_name
from ponte.snapshots.checking import check_snapshot
from ponte.snapshots.freezing import freeze_snapshot
from ponte.snapshots.lifecycle import Snapshot
from ponte.snapshots.parquet import read_snapshot, write_snapshot
from ponte.snapshots.parts import split
from ponte.storage.artifacts import ArtifactStore
from ponte.storage.runs import Run
from ponte.versions import aliases

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

log = logging.getLogger(__name__)

#: Names of the parts in the column `part`.
FIT, CALIBRATION, HOLDOUT = "fit", "calibration", "holdout"
#: Rows that were frozen longer ago are removed when somebody tries something.
KEPT = dt.timedelta(days=14)
_SNAPSHOT, _ROWS, _TRIES = "snapshot.json", "rows", "tries"
_MOMENTS, _DAYS = ("as_of",), ("holdout_from", "calibration_from")


@dataclass(frozen=True, kw_only=True)
class Frozen:
    """Rows that were frozen for tries, and where they lie."""

    path: Path
    snapshot: Snapshot
    #: When they were read from the database, UTC.
    frozen_at: dt.datetime
    #: True when this call has done so.
    new: bool = False

    @property
    def store(self) -> ArtifactStore:
        """Holds the rows, and the champion's own features of the holdout."""
        return _store(self.path)

    @property
    def tries(self) -> Path:
        """Folder of what was tried on these rows."""
        return self.path / _TRIES

    @cached_property
    def rows(self) -> pa.Table:
        """All rows; raises ArtifactRefused when the file was changed."""
        return read_snapshot(self.store, self.snapshot)


def moment_of(as_of: str | dt.date | dt.datetime | None, *, now: dt.datetime) -> dt.datetime:
    """Return 00:00 UTC of the day that is meant, of today when none is; raises WindowError for a day to come."""
    if isinstance(as_of, dt.datetime):  # one without a zone is UTC, wherever the notebook runs
        as_of = (as_of.astimezone(dt.UTC) if as_of.tzinfo else as_of).date()
    day = parse_day(as_of) if isinstance(as_of, str) else (as_of or now.date())
    moment = midnight(day)
    require_past(moment, now, "try")
    return moment


def freeze(place: Surroundings, as_of: dt.datetime, *, fresh: bool = False, now: dt.datetime) -> Frozen:
    """Return the rows that a training as of this moment would freeze, check and keep.

    Read from the folder that they lie in, if they were frozen before and not `fresh`. Raises what a training raises:
    ModelFolderError, TrainingRefused.
    """
    spec = place.folder.spec
    windows = matured_windows(
        spec.window, as_of=as_of, count=spec.training.windows, label_delay_days=spec.training.label_delay_days
    )
    forget(place.tries, older_than=now - KEPT)
    path = place.tries / place.folder.name / digest(place, windows, as_of)
    if not fresh and (found := _found(path)) is not None:
        log.info("rows as frozen at %s; --fresh freezes them again", found.frozen_at.isoformat(timespec="seconds"))
        return found
    _private(place.tries, path.parent)
    with tempfile.TemporaryDirectory(prefix=".new-", dir=path.parent) as scrap:  # mode 0700
        made = Path(scrap) / "rows"
        made.mkdir(mode=0o700)
        snapshot = _freeze(place, windows, as_of, _store(made))
        content = {"frozen_at": now.isoformat(), "snapshot": asdict(snapshot)}
        (made / _SNAPSHOT).write_text(json.dumps(content, indent=1, default=str), encoding="utf-8")
        (made / _TRIES).mkdir(mode=0o700)
        _put(made, path)
    return Frozen(path=path, snapshot=snapshot, frozen_at=now, new=True)


def _freeze(place: Surroundings, windows: list[Window], as_of: dt.datetime, store: ArtifactStore) -> Snapshot:
    """Do what the tasks freeze_windows, check and snapshot of a training do, where nothing stays."""
    with scratch(place.db) as db:
        frozen = freeze_snapshot(db, place.folder, windows, as_of=as_of, run=Run("try", f"try@{uuid.uuid4().hex}"))
        check_snapshot(db, place.folder, frozen.snapshot_id)
        return write_snapshot(db, store, frozen.snapshot_id)


def digest(place: Surroundings, windows: list[Window], as_of: dt.datetime) -> str:
    """Return the SHA-256 (hex, 16 digits) of all that decides which rows are frozen, and in which parts.

    Both SQL texts, the windows and the moment; of `model.toml` what sets rows aside, and how integers are read; and
    which champion's own features of the holdout lie beside the rows.
    """
    folder, training = place.folder, place.folder.spec.training
    champion = aliases.current_alias(place.db, folder.name)
    facts = [
        *(folder.text(file) for file in ("features.sql", "labels.sql")),
        [[w.start, w.end, w.as_of] for w in windows],
        [training.calibration_windows, training.holdout_windows, training.nullable_integers],
        as_of,
        folder.spec.key,
        [check.model_dump() for check in folder.spec.checks],
        folder.spec.quarantine.budget,
        None if champion is None else champion.version,
    ]
    return hashlib.sha256(json.dumps(facts, default=str).encode()).hexdigest()[:16]


def forget(root: Path, model: str | None = None, *, older_than: dt.datetime | None = None) -> int:
    """Remove frozen rows and what was tried on them, of a model or of all, all or old ones; return how many folders."""
    removed = 0
    for path in sorted(root.glob("*/*" if model is None else f"{require_name(model)}/*")):
        at = dt.datetime.fromtimestamp(path.stat().st_mtime, dt.UTC)
        if older_than is None or at < older_than:
            shutil.rmtree(path)
            removed += 1
    return removed


def _found(path: Path) -> Frozen | None:
    try:
        content = json.loads((path / _SNAPSHOT).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    values: dict[str, Any] = content["snapshot"]
    values |= {name: dt.datetime.fromisoformat(values[name]) for name in _MOMENTS}
    values |= {name: values[name] and dt.date.fromisoformat(values[name]) for name in _DAYS}
    return Frozen(
        path=path, snapshot=Snapshot(**values), frozen_at=dt.datetime.fromisoformat(content["frozen_at"]), new=False
    )


def _store(path: Path) -> ArtifactStore:
    from upath import UPath

    return ArtifactStore(UPath(path / _ROWS))


def _private(*folders: Path) -> None:
    for folder in folders:
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o700)


def _put(made: Path, path: Path) -> None:
    """Let a folder appear under its name whole; one that is there, with what was tried on it, gives way."""
    if path.exists():
        path.rename(made.parent / "old")
    made.rename(path)


# ---------------------------------------------------------------- as a DataFrame


def frame(
    model: str,
    as_of: str | dt.date | dt.datetime | None = None,
    *,
    fresh: bool = False,
    now: dt.datetime | None = None,
) -> pd.DataFrame:
    """Return the rows that a training of the model would use, as of 00:00 UTC of a day, by default today.

    One row per row of the three parts: `window_start`, the first day of its window; `part`, "fit", "calibration" or
    "holdout" (`part_` when a column of the model is called `part`); the key; the features as the estimator gets them;
    and `label`. In `attrs`: the names `key` and `features`, and `purged_rows`, how many rows are in no part because
    their outcome was known too late.

    Parameters
    ----------
    model : str
        Name of the model folder.
    as_of : str, date or datetime, optional
        "2013-09-30", say: what became known later is not used.
    fresh : bool
        Ask the database again, although the rows were frozen before.
    now : datetime, optional
        The moment that is taken for the present.
    """
    place = find(require_name(model))
    now = now or dt.datetime.now(dt.UTC)
    frozen = freeze(place, moment_of(as_of, now=now), fresh=fresh, now=now)
    return frame_of(frozen.rows, frozen.snapshot)


def frame_of(rows: pa.Table, snapshot: Snapshot) -> pd.DataFrame:
    """Return the rows of a snapshot that are in one of its parts; see `frame`."""
    import pandas as pd

    parts, signature = split(rows, snapshot), snapshot.signature
    named = {FIT: parts.fitting, CALIBRATION: parts.calibration, HOLDOUT: parts.holdout}
    keys, features = ([c.name for c in columns] for columns in (signature.key, signature.features))
    part_name = "part"
    while part_name in (*keys, *features):
        part_name += "_"
    frames = []
    for name, part in named.items():
        known = part.rows.select(["window_start", *keys]).to_pandas(date_as_object=False)
        known.insert(1, part_name, name)
        frames.append(pd.concat([known, part.features], axis=1).assign(label=part.labels))
    found = pd.concat(frames, ignore_index=True)
    found.attrs = {"key": keys, "features": features, "purged_rows": parts.purged_rows}
    return found
