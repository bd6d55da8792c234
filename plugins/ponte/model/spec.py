"""`ModelSpec`: all that `model.toml` can say, with types, ranges and defaults.

DAG files import this module, so it needs nothing heavier than pydantic (which Airflow has loaded already).
"""

from __future__ import annotations

import datetime as dt
import json
import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

#: Longer names would push `prediction_<model>` and its partitions over PostgreSQL's 63 bytes, which are cut silently.
MODEL_NAME = re.compile(r"^[a-z][a-z0-9_]{0,39}$")
COLUMN_NAME = re.compile(r"^[a-z_][a-z0-9_]{0,62}$")

Task = Literal["binary", "multiclass", "regression"]
Weekday = Literal["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"]

#: Schedule of a DAG that runs only when somebody triggers it.
ON_DEMAND = "on demand"

#: Metrics per task; True where higher is better.
METRICS: dict[Task, dict[str, bool]] = {
    "binary": {
        "roc_auc": True, "average_precision": True, "brier": False, "log_loss": False, "calibration_error": False,
        "accuracy": True, "precision": True, "recall": True, "f1": True,
    },
    "multiclass": {
        "roc_auc": True, "log_loss": False, "calibration_error": False, "accuracy": True, "balanced_accuracy": True,
        "f1": True,
    },
    "regression": {"mae": False, "rmse": False, "r2": True, "pinball": False},
}  # fmt: skip

#: Figures of the intervals of a regression, of which there is no better and worse: the share of outcomes that they
#: hold, and how wide they are on average.
COVERAGE, WIDTH = "interval_coverage", "interval_width"
OF_INTERVALS = (COVERAGE, WIDTH)
#: Metrics that look at the predicted labels and not at the scores: all there is without probabilities.
OF_LABELS = frozenset({"accuracy", "balanced_accuracy", "precision", "recall", "f1"})


class Table(BaseModel):
    """A table of `model.toml`: unknown keys are errors, values never change."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Schedule(Table):
    """When the three DAGs run: cron expressions in UTC, or ON_DEMAND."""

    score: str = "0 6 * * 1"
    train: str = "0 5 1 * *"
    monitor: str = "0 7 * * *"
    #: First and last day of scheduled runs and backfills; no `end` means for ever.
    start: dt.date = dt.date(2020, 1, 6)
    end: dt.date | None = None


class WindowRule(Table):
    """Which days one batch covers."""

    days: Annotated[int, Field(ge=1, le=366)] = 7
    starts_on: Weekday = "monday"
    #: "coming": the window that holds the run's day, its first day as a rule; "past": the last one that has ended.
    covers: Literal["coming", "past"] = "coming"


class Training(Table):
    """Which past windows a version learns from."""

    windows: Annotated[int, Field(ge=2)] = 52
    #: The latest windows: they only measure.
    holdout_windows: Annotated[int, Field(ge=1)] = 4
    #: The windows before those: they calibrate the probabilities and set the threshold.
    calibration_windows: Annotated[int, Field(ge=0)] = 0
    #: A window is mature, and can train, this many days after its last one: by then its outcomes are known.
    label_delay_days: Annotated[int, Field(ge=0, le=3660)] = 0
    #: Fewer holdout rows than this refuse the training.
    minimum_holdout_rows: Annotated[int, Field(ge=2)] = 200
    calibration: Literal["none", "sigmoid", "isotonic"] = "none"
    #: Score from which the positive class is predicted, or what the threshold shall be best at on the calibration
    #: windows; None leaves it to the estimator's own predict().
    threshold: Annotated[float, Field(gt=0, lt=1)] | Literal["f1", "balanced_accuracy"] | None = None
    #: Of a regression: every prediction comes with an interval that holds this share of outcomes, on average over rows;
    #: its width is set on the calibration windows.
    interval: Annotated[float, Field(ge=0.5, lt=1)] | None = None
    #: The value of the label whose probability the score is; None: the greater one.
    positive: bool | int | str | None = None
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    #: Integer columns reach the estimator as pandas Int64, exact and with <NA>, instead of float64 with NaN. Not every
    #: step of scikit-learn takes that.
    nullable_integers: bool = False

    @model_validator(mode="after")
    def _parts_leave_training_windows(self) -> Training:
        if self.holdout_windows + self.calibration_windows >= self.windows:
            raise ValueError(
                f"holdout_windows = {self.holdout_windows} and calibration_windows = {self.calibration_windows} "
                f"leave no window of {self.windows} to train on"
            )
        return self


class Scoring(Table):
    """How a batch is scored."""

    #: Rows per shard; a larger batch becomes several mapped tasks.
    shard_rows: Annotated[int, Field(ge=1)] = 1_000_000
    #: Rows per step of reading, predicting and writing; fewer where rows are long, see scoring.CHUNK_BYTES.
    chunk_rows: Annotated[int, Field(ge=1)] = 65_536
    #: What an empty window means: a fault, or a batch of no rows.
    empty: Literal["reject", "allow"] = "reject"


class Evaluation(Table):
    """How a candidate is measured on the holdout windows."""

    #: Column whose mean label per value is the second baseline, beside the constant.
    baseline_by: str | None = None
    #: Columns by whose values the figures are also given.
    slices: tuple[str, ...] = ()
    #: Slices with fewer holdout rows are neither measured nor judged.
    slice_rows: Annotated[int, Field(ge=2)] = 200
    #: Column whose values are resampled as a whole (a customer with many rows, say); None: row by row.
    resample_by: str | None = None
    resamples: Annotated[int, Field(ge=100, le=100_000)] = 1_000
    confidence: Annotated[float, Field(gt=0.5, lt=1)] = 0.95
    #: How long, at most, it is measured what shuffling each feature costs; 0: not at all.
    importance_seconds: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 30.0
    #: Quantile that a regression predicts; gives the metric `pinball`.
    quantile: Annotated[float, Field(gt=0, lt=1)] | None = None


Consequence = Literal["promote", "keep"]
ColumnRule = Literal["reject", "warn", "off"]
Reaction = Literal["tell", "retrain", "stop"]
Bound = Annotated[float, Field(allow_inf_nan=False)]


class Gate(Table):
    """What a challenger must reach on the holdout windows."""

    metric: str
    minimum: Bound | None = None
    maximum: Bound | None = None
    #: Better than the constant, and than `baseline_by`, beyond doubt.
    beats_baseline: bool = True
    #: What follows from the comparison with the champion on the same rows.
    champion_better: Consequence = "promote"
    champion_indistinguishable: Consequence = "keep"
    champion_worse: Consequence = "keep"
    #: Differences up to this much do not count as better or worse, in units of the metric; None: the gate's
    #: MARGIN_SHARE of the champion's own figure.
    champion_margin: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    #: When the champion itself misses minimum or maximum on these rows: "keep" it until a version meets the bound;
    #: "replace": what is better than it passes the bound too.
    champion_below_bound: Literal["keep", "replace"] = "keep"
    #: What every slice must meet, like minimum and maximum for the whole.
    slice_bound: Bound | None = None
    #: Windows after which a duel may be decided; after twice as many it ends.
    duel_windows: Annotated[int, Field(ge=1, le=520)] = 4
    calibration_maximum: Annotated[float, Field(gt=0, le=1)] | None = None
    rows_per_second_minimum: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    #: A feature that alone reaches this ROC AUC (R2 in a regression) probably knows the outcome.
    leakage_alarm: Annotated[float, Field(gt=0.5, le=1)] = 0.95
    #: Features that may.
    leakage_allowed: tuple[str, ...] = ()


class Approval(Table):
    """Who is asked, and for how long, when `promotion = "approval"`."""

    timeout_hours: Annotated[int, Field(ge=1, le=8760)] = 72
    #: Airflow user names; empty: everybody who may answer for the DAG.
    approvers: tuple[str, ...] = ()


class Quarantine(Table):
    """How many rows of a batch may be set aside instead of being scored."""

    #: Share of the frozen rows; with more the batch is rejected.
    budget: Annotated[float, Field(ge=0, lt=1)] = 0.02


class Guard(Table):
    """What a scored batch must look like, beside the batches that people see for the windows before it."""

    #: Earlier windows compared with, at most.
    batches: Annotated[int, Field(ge=1)] = 8
    #: With fewer earlier windows nothing is compared.
    minimum_batches: Annotated[int, Field(ge=1)] = 3
    #: How long to wait for batches of earlier windows that are still being scored; 0: judge beside what people see now.
    wait_minutes: Annotated[int, Field(ge=0, le=10_080)] = 60
    #: Rows frozen, as multiples of the median of the earlier batches.
    row_count_minimum: Annotated[float, Field(ge=0, le=1)] = 0.5
    row_count_maximum: Annotated[float, Field(ge=1, allow_inf_nan=False)] = 2.0
    #: How far outside the range of the earlier windows it may lie, in multiples of that range, beyond chance; 0: not
    #: looked at.
    row_count_ranges: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 3.0
    #: What it means when a column is all NULL, constant, or far from what it was in every window before.
    columns: ColumnRule = "reject"
    #: Columns for which it means something else.
    column_overrides: Mapping[str, ColumnRule] = Field(default={}, validate_default=True)
    #: Share of rows for which the estimator raised, or returned NaN.
    unscored_maximum: Annotated[float, Field(ge=0, le=1)] = 0.01
    #: What it means when every row gets the same score.
    constant_score: Literal["reject", "allow"] = "reject"
    #: How far the mean score may be from the median of the earlier means, in standard deviations of their scores.
    mean_score_jump: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1.0
    #: How far the share of any predicted class may be from the median of its earlier shares.
    class_share_jump: Annotated[float, Field(gt=0, le=1)] = 0.25
    #: Date or timestamp column of features.sql whose newest value tells how old the features are.
    freshness_column: str | None = None
    #: How old it may be at as_of.
    freshness_hours: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None

    @model_validator(mode="after")
    def _freshness_is_whole(self) -> Guard:
        if (self.freshness_column is None) != (self.freshness_hours is None):
            raise ValueError("freshness_column and freshness_hours belong together: give both or none")
        return self


class Retention(Table):
    """How long predictions are kept; what people see for the newest window is never dropped."""

    #: Batches kept per window that another has replaced, the newest; None keeps all.
    replaced_batches: Annotated[int, Field(ge=0)] | None = None
    #: Windows that begin more than this many weeks before the newest published one are dropped whole; None: never.
    weeks: Annotated[int, Field(ge=1)] | None = None


class Monitoring(Table):
    """What is looked at after a batch was published."""

    #: Ages of labels, in days since the window's end, at which quality is measured.
    maturities: Annotated[tuple[Annotated[int, Field(ge=0, le=3660)], ...], Field(min_length=1)] = (7, 28, 84)
    #: Labels are looked for until the window's end plus the largest maturity plus this many days.
    corrections_days: Annotated[int, Field(ge=0, le=3660)] = 28
    #: Whether a correction that people gave counts as a label.
    corrections: Literal["count", "ignore"] = "ignore"
    #: Whether quality is estimated before labels come; None: for classifiers.
    estimate: bool | None = None
    #: What follows from an alarm.
    on_quality: Reaction = "tell"
    on_drift: Reaction = "tell"
    #: How long after its due time a window that nobody sees is late.
    late_hours: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 6.0


class Serving(Table):
    """How the model answers one by one: the live API, the web form, the queue."""

    #: Whether the API serves the champion, and the queue takes requests for it.
    api: bool = False
    #: The page /form/<model>: "key": an API key is typed once; "public": whoever reaches the page, limited per address.
    form: Literal["off", "key", "public"] = "off"
    #: Of a regression: from this prediction on the form says yes, below it no.
    decision: Annotated[float, Field(allow_inf_nan=False)] | None = None
    #: Whether the features of live rows are kept, for the steps of the platform only, until retention.
    log_features: bool = False
    #: Live rows are dropped by the month when all of it is older.
    keep_days: Annotated[int, Field(ge=31, le=36_600)] = 365


class Check(BaseModel):
    """One Great Expectations expectation; every key but these two is passed on to it."""

    model_config = ConfigDict(extra="allow", frozen=True)

    expectation: str
    #: stop: the batch is rejected; quarantine: the rows that fail are set aside; warn: it is recorded.
    on_failure: Literal["stop", "quarantine", "warn"] = "stop"

    @model_validator(mode="after")
    def _arguments_can_be_kept(self) -> Check:
        for name, value in self.arguments.items():
            try:
                kept = "\\u0000" not in json.dumps(value, default=str, allow_nan=False)
            except ValueError:
                kept = False
            if not kept:
                raise ValueError(f"{name}: nan, inf and the character NUL cannot be kept in ponte.check_result")
        return self

    @model_validator(mode="after")
    def _quarantine_means_every_row(self) -> Check:
        if self.on_failure == "quarantine":
            for name in ("mostly", "row_condition"):
                if name in self.arguments:
                    raise ValueError(
                        f'on_failure = "quarantine" sets aside every row that fails, so {name} has no meaning here; '
                        "[quarantine] budget bounds how many"
                    )
        return self

    @property
    def arguments(self) -> dict[str, Any]:
        """Arguments of the expectation itself."""
        return dict(self.__pydantic_extra__ or {})


class ModelSpec(Table):
    """The whole of `model.toml`."""

    description: str
    owner: str
    task: Task
    key: Annotated[tuple[str, ...], Field(min_length=1)]
    #: Airflow refuses a longer one, and with it the whole DAG file.
    tags: tuple[Annotated[str, Field(min_length=1, max_length=100)], ...] = ()
    #: "approval": a version that passed the gate becomes champion when a person agrees; silence is no consent.
    #: "after_duel": it becomes challenger, and champion when weeks after that have shown that it is not worse.
    promotion: Literal["auto", "approval", "after_duel"] = "auto"
    schedule: Schedule = Schedule()
    window: WindowRule = WindowRule()
    training: Training = Training()
    scoring: Scoring = Scoring()
    evaluation: Evaluation = Evaluation()
    gate: Gate
    approval: Approval = Approval()
    quarantine: Quarantine = Quarantine()
    guard: Guard = Guard()
    retention: Retention = Retention()
    monitoring: Monitoring = Monitoring()
    serving: Serving = Serving()
    checks: tuple[Check, ...] = ()

    @property
    def estimates(self) -> bool:
        """Whether the quality of batches is estimated before their labels come."""
        return self.task != "regression" if self.monitoring.estimate is None else self.monitoring.estimate
