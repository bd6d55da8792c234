"""From the rows of a snapshot to a fitted estimator that is measured: a version without a number, or a try."""

from __future__ import annotations

import datetime as dt
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from ponte.errors import RowsLost
from ponte.model.estimator import ESTIMATOR_FILE, imported_libraries
from ponte.model.folders import ModelFolder
from ponte.packages.folder_requirements import named_versions
from ponte.pages.plots import Plot, draw
from ponte.pages.report import ReportFacts
from ponte.quality.figures import Measured
from ponte.quality.measurement import measure
from ponte.snapshots.left_out import REASONS
from ponte.snapshots.lifecycle import Snapshot
from ponte.snapshots.parts import Parts, split
from ponte.training.fitting import fit
from ponte.training.splits import require_same_in_pieces
from ponte.training.sufficiency import require_enough
from ponte.versions.loading import LIBRARIES, current_libraries
from ponte.versions.predicting import Fitted, Predictions
from ponte.versions.registry import Version
from ponte.versions.signature import Signature

if TYPE_CHECKING:
    import pyarrow as pa

log = logging.getLogger(__name__)

#: Holdout rows kept with their predictions; re-predicted whenever the version is loaded.
GOLDEN_ROWS = 200


@dataclass(frozen=True, kw_only=True, slots=True)
class Candidate:
    """What a model folder makes of the rows of a snapshot."""

    parts: Parts
    fitted: Fitted
    #: That of the snapshot, with the categories that its frames were made with.
    signature: Signature
    #: On the holdout; those of the champion are not among them.
    figures: list[Measured]
    #: Of the holdout rows.
    predictions: Predictions

    def plots(self) -> Sequence[Plot]:
        """Return the plots of its report."""
        return draw(self.fitted.output, self.parts.holdout.labels, self.predictions, self.figures)

    def as_version(
        self,
        folder: ModelFolder,
        snapshot: Snapshot,
        *,
        number: int,
        path: str,
        train_key: str,
        code_revision: str | None,
        libraries: dict[str, str],
        run_id: str,
        import_id: int | None = None,
    ) -> Version:
        """Return the version that it becomes; what is known of its files only is empty.

        import_id : the file that its estimator came from, fitted elsewhere on nobody knows how many rows.
        """
        return Version(
            model=folder.name,
            version=number,
            snapshot_id=snapshot.snapshot_id,
            train_key=train_key,
            task=folder.spec.task,
            path=path,
            manifest_sha256="",
            signature=snapshot.signature,
            classes=self.fitted.output.classes,
            threshold=self.fitted.output.threshold,
            interval=self.fitted.output.interval,
            half_width=self.fitted.output.half_width,
            spec_digest=folder.digest(),
            code_revision=code_revision or None,
            libraries=libraries,
            train_cutoff=snapshot.as_of,
            train_rows=0 if import_id else len(self.parts.fitting.labels),
            calibration_rows=len(self.parts.calibration.labels),
            holdout_rows=len(self.parts.holdout.labels),
            purged_rows=self.parts.purged_rows,
            byte_count=0,
            run_id=run_id,
            origin="imported" if import_id else "trained",
            import_id=import_id,
        )


def libraries_of(folder: ModelFolder) -> dict[str, str]:
    """Return the versions of all libraries that the folder's estimator is made of; call it when that was built."""
    imported = imported_libraries(folder.text(ESTIMATOR_FILE), known=LIBRARIES)
    return {**named_versions(folder.path), **imported, **current_libraries()}


def make_candidate(folder: ModelFolder, snapshot: Snapshot, rows: pa.Table, estimator: Any) -> Candidate:
    """Return the folder's estimator fitted on the rows of a snapshot, and measured.

    estimator : from `load_suitable`, not fitted yet.

    Raises TrainingRefused when fitting rows or holdout cannot support a model, or when what is predicted of a row
    depends on the rows beside it; RowsLost unless every row is in one part or was purged.
    """
    parts = split(rows, snapshot)
    _require_all(snapshot, parts)
    require_enough(folder, snapshot, parts)
    signature = replace(snapshot.signature, categories=parts.categories)
    return measured_candidate(folder, snapshot, parts, fit(folder.spec, estimator, parts), signature)


def measured_candidate(
    folder: ModelFolder, snapshot: Snapshot, parts: Parts, fitted: Fitted, signature: Signature
) -> Candidate:
    """Return a fitted estimator measured on the holdout; raises TrainingRefused when its neighbours change a row."""
    require_same_in_pieces(fitted, parts.holdout.rows.slice(0, GOLDEN_ROWS), signature, where=snapshot.place)
    log.info("fitted on %d rows; measuring on %d", len(parts.fitting.labels), len(parts.holdout.labels))
    figures, predictions = measure(folder.spec, fitted, signature, parts)
    return Candidate(parts=parts, fitted=fitted, signature=signature, figures=figures, predictions=predictions)


def _require_all(snapshot: Snapshot, parts: Parts) -> None:
    kept = {"fitting": parts.fitting, "calibration": parts.calibration, "holdout": parts.holdout}
    counts = {**{name: len(part.labels) for name, part in kept.items()}, "purged": parts.purged_rows}
    if sum(counts.values()) != snapshot.row_count:
        raise RowsLost(
            "the rows of the parts are not those of the snapshot",
            where=snapshot.place,
            got=", ".join(f"{name} {rows}" for name, rows in counts.items()),
            expected=f"{snapshot.row_count} rows",
            fix="clear freeze_windows: the rows are frozen anew",
        )


def report_facts(version: Version, folder: ModelFolder, snapshot: Snapshot) -> ReportFacts:
    """Return what the report says of a version beside its figures; of number 0, a try."""
    windows, spec = snapshot.windows, folder.spec
    return ReportFacts(
        model=version.model,
        version=version.version,
        description=spec.description,
        owner=spec.owner,
        task=spec.task,
        metric=spec.gate.metric,
        as_of=snapshot.as_of,
        fitting_from=dt.date.fromisoformat(windows[0]["window_start"]),
        calibration_from=snapshot.calibration_from,
        holdout_from=snapshot.holdout_from,
        holdout_end=dt.date.fromisoformat(windows[-1]["window_end"]),
        fitting_rows=version.train_rows,
        calibration_rows=version.calibration_rows,
        holdout_rows=version.holdout_rows,
        purged_rows=version.purged_rows,
        imported=version.origin == "imported",
        feature_rows=snapshot.feature_rows,
        left_out={said: snapshot.left_out[reason] or 0 for reason, said in REASONS.items()},
        classes=version.classes,
        threshold=version.threshold,
        interval=version.interval,
        half_width=version.half_width,
        confidence=spec.evaluation.confidence,
        resamples=spec.evaluation.resamples,
        snapshot_sha256=snapshot.sha256 or "",
        spec_digest=version.spec_digest,
        code_revision=version.code_revision,
        libraries=version.libraries,
    )
