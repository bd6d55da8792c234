"""The files with which a version estimates its quality before labels come."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, Any

from ponte.estimation.calibration import CalibratedOn, calibrate
from ponte.estimation.errors import fit_error_model
from ponte.model.estimator import dump
from ponte.model.spec import ModelSpec
from ponte.training.candidate import Candidate
from ponte.versions.loading import ERRORS, ESTIMATION
from ponte.versions.predicting import predict

if TYPE_CHECKING:
    from ponte.snapshots.parts import Part

log = logging.getLogger(__name__)


def estimation_files(made: Candidate, spec: ModelSpec) -> dict[str, bytes]:
    """Return the files by name; none when the model does not estimate, or has too few rows that were not fitted on.

    They are learned from the calibration part when the model has one, else from the holdout.
    """
    if not spec.estimates:
        return {}
    fitted, signature = made.fitted, made.signature
    on: CalibratedOn = "calibration" if len(made.parts.calibration.labels) else "holdout"
    part: Part = made.parts.calibration if on == "calibration" else made.parts.holdout
    said = made.predictions
    if on == "calibration":
        said = predict(fitted.estimator, part.rows, signature, fitted.output)
    windows: Any = part.rows.column("window_start").to_numpy()
    files: dict[str, bytes] = {}
    if spec.task == "regression":
        found = fit_error_model(
            part.rows, signature, part.labels, said.prediction, windows, seed=spec.training.seed, calibrated_on=on
        )
        known = None if found is None else found[1]
        if found is not None:
            files[ERRORS] = dump(found[0])
    else:
        known = calibrate(fitted.output, part.labels, said, windows, calibrated_on=on)
    if known is None:
        log.warning("the quality of batches will not be estimated: no scores, or too few rows of the %s", on)
        return {}
    return {**files, ESTIMATION: json.dumps(known.as_json(), allow_nan=False).encode()}
