"""Can these rows support a version?"""

from __future__ import annotations

from ponte.errors import TrainingRefused
from ponte.model.folders import ModelFolder
from ponte.model.spec import Task
from ponte.quality.measurement import MINIMUM_UNITS, unit_count
from ponte.snapshots.lifecycle import Snapshot
from ponte.snapshots.parts import Part, Parts
from ponte.training.fitting import rows_for

#: A map from scores to probabilities, a threshold, or the width of an interval, of fewer rows is noise.
MINIMUM_CALIBRATION_ROWS = 100
BINARY, MULTICLASS = 2, 3
#: The usual share of rows with a label is that of the window so many windows before the latest.
BEFORE = 8
#: With less than this part of the usual share, most labels of a window are still to come.
ENOUGH_LABELS = 0.5


def require_enough(folder: ModelFolder, snapshot: Snapshot, parts: Parts) -> None:
    """Raise TrainingRefused unless every part has the rows, units and classes that it takes to learn and to measure."""
    needed = folder.spec.training.minimum_holdout_rows
    problems = [] if len(parts.fitting.labels) else ["the fitting windows have no labelled row"]
    if len(parts.holdout.labels) < needed:
        problems.append(f"the holdout has {len(parts.holdout.labels)} labelled rows, {needed} are needed")
    named = {"the fitting part": parts.fitting, "the holdout": parts.holdout}
    if snapshot.calibration_from is not None:  # an import measures on all windows, and calibrates on none
        named["the calibration part"] = parts.calibration
        found, share = len(parts.calibration.labels), folder.spec.training.interval
        least = max(MINIMUM_CALIBRATION_ROWS, rows_for(share) if share else 0)
        if found < least:
            problems.append(f"the calibration part has {found} labelled rows, {least} are needed")
    units = unit_count(folder.spec, parts.holdout)
    if folder.spec.evaluation.resample_by is not None and units < MINIMUM_UNITS:
        column = folder.spec.evaluation.resample_by
        problems.append(f"the holdout has {units} values of {column} to resample, {MINIMUM_UNITS} are needed")
    if folder.spec.task != "regression":
        problems += _class_problems(folder.spec.task, named)
    problems += _labels_to_come(folder, snapshot)
    if problems:
        raise TrainingRefused(
            "the snapshot cannot support a model",
            where=f"{snapshot.place}, holdout from {snapshot.holdout_from}",
            got="; ".join(problems) + (f" ({parts.purged_rows} rows were purged: their outcome was known too late)"
                                       if parts.purged_rows else ""),
            fix="train on more windows ([training] windows, holdout_windows), or look at labels.sql; "
            f"./ponte check {folder.name} says more",
        )  # fmt: skip


def _class_problems(task: Task, parts: dict[str, Part]) -> list[str]:
    """A part that lacks a class can neither teach nor measure it."""
    wanted, least = ("exactly 2", BINARY) if task == "binary" else ("at least 3", MULTICLASS)
    classes = {name: sorted({str(label) for label in part.labels}) for name, part in parts.items()}
    problems = [
        f"{name} has {len(found)} class(es), {found[:5]}; {wanted} are needed"
        for name, found in classes.items()
        if found and (len(found) < least or (task == "binary" and len(found) > BINARY))
    ]
    if not problems and len({tuple(found) for found in classes.values() if found}) > 1:
        problems.append(f"the parts have different classes: {classes}")
    return problems


def _labels_to_come(folder: ModelFolder, snapshot: Snapshot) -> list[str]:
    """The latest window is measured on the labels that came early, unless most are there: late ones differ."""
    windows = snapshot.windows
    latest, before = windows[-1], windows[max(len(windows) - 1 - BEFORE, 0)]
    if not all(window.get("features") for window in (latest, before)):  # none, or of before they were counted
        return []
    share, usual = (
        (window["rows"] + window["left_out"]["set_aside"]) / window["features"] for window in (latest, before)
    )
    if share >= ENOUGH_LABELS * usual:
        return []
    said = (
        f"{share:.0%} of the rows of window {latest['window_start']} have a label, and {usual:.0%} of "
        f"{before['window_start']}: [training] label_delay_days = {folder.spec.training.label_delay_days} is too short"
    )
    return [said]
