"""Fit and measure the model folder as it is now, as a training does; keep nothing but figures, for the next try.

What is compared with earlier tries is compared on the same rows and the same resamples, as with the champion.
"""

from __future__ import annotations

import datetime as dt
import html
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ponte.model.estimator import ESTIMATOR_FILE, load_suitable
from ponte.model.folders import ModelFolder
from ponte.model.spec import METRICS
from ponte.notebook import surroundings, tries
from ponte.notebook.showing import figures_table
from ponte.notebook.tries import Frozen
from ponte.pages.report import render
from ponte.quality.comparison import Measurable, beside_champion, champion_beside
from ponte.quality.figures import CANDIDATE, READABLE, Measured, difference_subject
from ponte.quality.measurement import compare
from ponte.snapshots.left_out import in_words
from ponte.training.candidate import Candidate, libraries_of, make_candidate, report_facts
from ponte.versions.predicting import Predictions, as_labels, predict, score_column
from ponte.versions.registry import Version

if TYPE_CHECKING:
    import pandas as pd

#: Earlier tries that a try is compared with, the latest.
COMPARED = 3


@dataclass(frozen=True, kw_only=True)
class Try:
    """What a model folder came to on frozen rows; nothing of it is registered. Shows itself in a notebook."""

    model: str
    #: From 1 on these rows.
    number: int
    version: Version
    folder: ModelFolder
    frozen: Frozen
    candidate: Candidate
    #: All figures: its own, those of the champion and of earlier tries, and the differences from them.
    measured: Sequence[Measured]
    #: Seconds: reading or freezing the rows, then fitting and measuring.
    seconds: Mapping[str, float]

    @property
    def estimator(self) -> Any:
        """The fitted estimator."""
        return self.candidate.fitted.estimator

    @property
    def figures(self) -> pd.DataFrame:
        """One row per figure: `subject`, `slice`, `name`, `value`, `low`, `high`, `rows`, as in `ponte.metric`."""
        import pandas as pd

        return pd.DataFrame([m.as_json() for m in self.measured])

    @property
    def report(self) -> str:
        """The page that a version of this would get, HTML."""
        facts = report_facts(self.version, self.folder, self.frozen.snapshot)
        return render(facts, self.candidate.figures, self.candidate.plots()).decode()

    def __str__(self) -> str:
        table = figures_table(self.folder.spec, self.measured, own="this try")
        return "\n\n".join([self._headline(), table, self._footer()])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        """Return the figures, and the report in a frame of its own, in which its style stays."""
        table = figures_table(self.folder.spec, self.measured, own="this try", style="html")
        return (
            f"<p>{html.escape(self._headline())}</p>{table}<p>{html.escape(self._footer())}</p>"
            f'<iframe srcdoc="{html.escape(self.report)}" style="width:100%;height:42em;border:0"></iframe>'
        )

    def _headline(self) -> str:
        snapshot, version = self.frozen.snapshot, self.version
        parts = {"fit": version.train_rows, "calibration": version.calibration_rows, "holdout": version.holdout_rows}
        rows = ", ".join(f"{name} {count:,}" for name, count in parts.items() if count)
        frozen = "just now" if self.frozen.new else f"at {self.frozen.frozen_at:%Y-%m-%d %H:%M} UTC"
        said = [f"{self.model}, try {self.number} on the rows as of {snapshot.as_of:%Y-%m-%d}, frozen {frozen}: {rows}"]
        if version.purged_rows:
            said.append(f"{version.purged_rows:,} left out: known too late for their part")
        return "; ".join([*said, *filter(None, [in_words(snapshot.left_out)])])

    def _footer(self) -> str:
        unreadable = [m.subject for m in self.measured if m.name == READABLE and not m.figure.value]
        said = [f"{subject.replace(':', ' ').capitalize()} cannot be measured on these rows." for subject in unreadable]
        took = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in self.seconds.items())
        return " ".join(["* the metric of the gate. Nothing was registered.", *said, f"{took.capitalize()}."])


def try_model(
    model: str,
    as_of: str | dt.date | dt.datetime | None = None,
    *,
    fresh: bool = False,
    now: dt.datetime | None = None,
) -> Try:
    """Fit and measure the model folder as it is now on the rows of a training; return what it came to.

    Fitted, calibrated and measured by the functions of a training, on its rows: the figures are those that a training
    as of the same moment would give. Compared with the champion, and with the latest tries, on the same rows. Nothing
    is registered, no version gets a number, and no row stays in the database; the rows and the figures are kept for
    14 days, so that the next try takes seconds.

    Raises what a training raises: ModelFolderError, TrainingRefused. Parameters are those of `frame`.
    """
    began = time.monotonic()
    place = surroundings.find(surroundings.require_name(model))
    now = now or dt.datetime.now(dt.UTC)
    frozen = tries.freeze(place, tries.moment_of(as_of, now=now), fresh=fresh, now=now)
    rows = frozen.rows
    read = time.monotonic()
    text = place.folder.text(ESTIMATOR_FILE)
    estimator = load_suitable(text, model=place.folder.name, spec=place.folder.spec)
    candidate = make_candidate(place.folder, frozen.snapshot, rows, estimator)
    earlier = _earlier(frozen)
    number = 1 + max((kept["number"] for kept in earlier), default=0)
    version = candidate.as_version(
        place.folder,
        frozen.snapshot,
        number=0,
        path="",
        train_key="",
        code_revision=None,
        libraries=libraries_of(place.folder),
        run_id="try",
    )
    measured = [
        *candidate.figures,
        *_beside_champion(place, frozen, version, candidate),
        *_beside_earlier(place.folder, frozen, candidate, earlier),
    ]
    seconds = {"rows": read - began, "fit and measure": time.monotonic() - read}
    done = Try(
        model=model,
        number=number,
        version=version,
        folder=place.folder,
        frozen=frozen,
        candidate=candidate,
        measured=measured,
        seconds=seconds,
    )
    _keep(done, now)
    return done


def _beside_champion(
    place: surroundings.Surroundings, frozen: Frozen, version: Version, candidate: Candidate
) -> list[Measured]:
    champion = champion_beside(place.db, version.model, version.version)
    if champion is None:
        return []
    fitted, signature = candidate.fitted, candidate.signature
    measurable = Measurable(
        version=version,
        snapshot=frozen.snapshot,
        store=frozen.store,
        holdout=candidate.parts.holdout,
        ask=lambda rows: predict(fitted.estimator, rows, signature, fitted.output),
    )
    return beside_champion(place.db, place.store, place.folder.spec, measurable, champion)


def earlier_subject(number: int) -> str:
    """Return the subject of the figures of an earlier try on the same rows."""
    return f"try:{number}"


def _beside_earlier(
    folder: ModelFolder, frozen: Frozen, candidate: Candidate, earlier: Sequence[Mapping[str, Any]]
) -> list[Measured]:
    """Return the figures of the latest tries, and the differences from them."""
    output = candidate.fitted.output
    alike = [kept for kept in earlier if (kept["task"], tuple(kept["classes"])) == (output.task, output.classes)]
    if not alike:
        return []
    said = {CANDIDATE: candidate.predictions}
    for kept in alike[-COMPARED:]:
        said[earlier_subject(kept["number"])] = _read_predictions(frozen, kept["number"])
    found = compare(folder.spec, output, candidate.parts.holdout, said)
    subjects = {name for subject in said if subject != CANDIDATE for name in (subject, difference_subject(subject))}
    return [m for m in found if m.subject in subjects]


# ---------------------------------------------------------------- what is kept of a try


def _keep(done: Try, now: dt.datetime) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    output, predictions = done.candidate.fitted.output, done.candidate.predictions
    signature = done.frozen.snapshot.signature
    columns = {"prediction": as_labels(predictions.prediction, signature, output.task)}
    columns |= dict([found] if (found := score_column(predictions)) is not None else [])
    pq.write_table(pa.table(columns), done.frozen.tries / f"{done.number}.parquet")
    facts = {
        "number": done.number,
        "at": now.isoformat(timespec="seconds"),
        "task": output.task,
        "classes": output.classes,
        "spec_digest": done.version.spec_digest,
        "estimator": done.folder.text(ESTIMATOR_FILE),
        "figures": {
            m.name: m.figure.value
            for m in done.candidate.figures
            if m.subject == CANDIDATE and not m.slice and m.name in METRICS[output.task]
        },
    }
    (done.frozen.tries / f"{done.number}.json").write_text(json.dumps(facts, indent=1), encoding="utf-8")


def _earlier(frozen: Frozen) -> list[dict[str, Any]]:
    """Return what was kept of the tries on these rows, in their order."""
    found = [json.loads(path.read_text(encoding="utf-8")) for path in frozen.tries.glob("*.json")]
    return sorted(found, key=lambda kept: kept["number"])


def _read_predictions(frozen: Frozen, number: int) -> Predictions:
    import numpy as np
    import pyarrow.parquet as pq

    table = pq.read_table(frozen.tries / f"{number}.parquet")
    prediction = table.column("prediction").to_pandas().to_numpy()
    if "score" in table.column_names:
        return Predictions(prediction, table.column("score").to_numpy())
    if "scores" in table.column_names:
        return Predictions(prediction, np.array(table.column("scores").to_pylist(), dtype=float))
    return Predictions(prediction, None)
