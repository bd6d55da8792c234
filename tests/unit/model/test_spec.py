"""`model.toml`: every problem is named, with file, field and a way out, and all at once."""

from __future__ import annotations

import datetime as dt
import tomllib
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ponte.errors import ModelFolderError
from ponte.model.spec import METRICS, ModelSpec
from ponte.model.toml import expectation_names, parse_spec
from ponte.storage.prediction_columns import LIVE_COLUMNS, RESERVED_COLUMNS


def problems_of(text: str) -> list[str]:
    with pytest.raises(ModelFolderError) as caught:
        parse_spec(text, model="churn")
    return [str(replace(p, line=0)) for p in caught.value.problems]


def test_only_what_is_required_gives_the_documented_defaults(model_toml: str) -> None:
    spec = parse_spec(model_toml, model="churn")
    assert (spec.key, spec.tags, spec.checks) == (("customer_id",), (), ())
    assert (spec.window.days, spec.window.starts_on, spec.window.covers) == (7, "monday", "coming")
    assert (spec.schedule.score, spec.schedule.train, spec.schedule.end) == ("0 6 * * 1", "0 5 1 * *", None)
    assert spec.promotion == "auto"
    assert spec.training.model_dump() == {
        "windows": 52, "holdout_windows": 4, "calibration_windows": 0, "label_delay_days": 0, "positive": None,
        "minimum_holdout_rows": 200, "calibration": "none", "threshold": None, "seed": 0, "nullable_integers": False,
        "interval": None,
    }  # fmt: skip
    assert spec.evaluation.model_dump() == {
        "baseline_by": None, "slices": (), "slice_rows": 200, "resample_by": None, "resamples": 1_000,
        "confidence": 0.95, "quantile": None, "importance_seconds": 30.0,
    }  # fmt: skip
    assert spec.gate.model_dump() == {
        "metric": "roc_auc", "minimum": 0.6, "maximum": None, "beats_baseline": True, "champion_better": "promote",
        "champion_indistinguishable": "keep", "champion_worse": "keep", "champion_below_bound": "keep",
        "champion_margin": None, "slice_bound": None, "duel_windows": 4,
        "calibration_maximum": None, "rows_per_second_minimum": None, "leakage_alarm": 0.95, "leakage_allowed": (),
    }  # fmt: skip
    assert spec.approval.model_dump() == {"timeout_hours": 72, "approvers": ()}
    assert spec.scoring.model_dump() == {"shard_rows": 1_000_000, "chunk_rows": 65_536, "empty": "reject"}
    assert spec.quarantine.model_dump() == {"budget": 0.02}
    assert spec.guard.model_dump() == {
        "batches": 8, "minimum_batches": 3, "wait_minutes": 60, "row_count_minimum": 0.5, "row_count_maximum": 2.0,
        "row_count_ranges": 3.0, "columns": "reject", "column_overrides": {}, "unscored_maximum": 0.01,
        "constant_score": "reject", "mean_score_jump": 1.0, "class_share_jump": 0.25, "freshness_column": None,
        "freshness_hours": None,
    }  # fmt: skip
    assert spec.retention.model_dump() == {"replaced_batches": None, "weeks": None}


FULL = """\
promotion = "approval"
description = "d"
owner = "o"
task = "binary"
key = ["id"]

[training]
windows = 10
holdout_windows = 2
calibration_windows = 3
label_delay_days = 30
minimum_holdout_rows = 50
calibration = "sigmoid"
threshold = "f1"
seed = 7

[evaluation]
baseline_by = "region"
slices = ["region", "plan"]
slice_rows = 60
resample_by = "customer_id"
resamples = 200
confidence = 0.9

[gate]
metric = "brier"
maximum = 0.2
beats_baseline = false
champion_better = "keep"
champion_indistinguishable = "promote"
champion_worse = "promote"
champion_margin = 0.01
slice_bound = 0.3
calibration_maximum = 0.05
rows_per_second_minimum = 1000
leakage_alarm = 0.9
leakage_allowed = ["visits"]

[approval]
timeout_hours = 24
approvers = ["ada", "grace"]

[quarantine]
budget = 0.0

[guard]
batches = 1
minimum_batches = 1
row_count_minimum = 1.0
row_count_maximum = 1.0
unscored_maximum = 0.0
constant_score = "allow"
mean_score_jump = 0.1
class_share_jump = 1.0
freshness_column = "seen_at"
freshness_hours = 0.5

[retention]
replaced_batches = 0
weeks = 1
"""


def test_everything_that_can_be_said_is_kept() -> None:
    spec, said = parse_spec(FULL, model="churn"), tomllib.loads(FULL)
    assert (spec.promotion, spec.approval.approvers) == ("approval", ("ada", "grace"))
    for table in ("training", "evaluation", "gate", "approval", "quarantine", "guard", "retention"):
        found = getattr(spec, table).model_dump()
        assert {k: list(v) if isinstance(v, tuple) else v for k, v in found.items() if k in said[table]} == said[table]


@pytest.mark.parametrize(
    ("task", "training"),
    [
        ("binary", 'calibration = "isotonic"\ncalibration_windows = 1'),
        ("binary", 'threshold = "balanced_accuracy"\ncalibration_windows = 1'),
        ("binary", "threshold = 0.3"),
        ("binary", "threshold = 0.3\ncalibration = 'sigmoid'\ncalibration_windows = 1"),
        ("multiclass", 'calibration = "sigmoid"\ncalibration_windows = 1'),
        ("binary", "windows = 3\nholdout_windows = 1\ncalibration_windows = 1\ncalibration = 'sigmoid'"),
        ("binary", "windows = 2\nholdout_windows = 1"),
    ],
    ids=[
        "isotonic", "best balanced accuracy", "a number needs no rows", "a number after calibration", "three classes",
        "one window per part", "one window to fit on",
    ],
)  # fmt: skip
def test_calibration_and_threshold_are_accepted_where_they_mean_something(
    model_toml: str, task: str, training: str
) -> None:
    parse_spec(model_toml.replace('"binary"', f'"{task}"') + f"[training]\n{training}\n", model="churn")


@pytest.mark.parametrize("on_failure", ["stop", "warn"])
def test_a_check_that_sets_no_row_aside_may_ask_for_most_rows(model_toml: str, on_failure: str) -> None:
    text = model_toml + (
        '[[checks]]\nexpectation = "expect_column_values_to_not_be_null"\ncolumn = "visits"\nmostly = 0.9\n'
        f'on_failure = "{on_failure}"\n'
    )
    (check,) = parse_spec(text, model="churn").checks
    assert check.arguments == {"column": "visits", "mostly": 0.9}


def test_arguments_of_a_check_are_every_key_but_expectation_and_on_failure(model_toml: str) -> None:
    text = model_toml + (
        '[[checks]]\nexpectation = "expect_column_values_to_be_between"\n'
        'column = "visits"\nmin_value = 0\non_failure = "warn"\n'
    )
    (check,) = parse_spec(text, model="churn").checks
    assert check.on_failure == "warn"
    assert check.arguments == {"column": "visits", "min_value": 0}


#: id → (text to replace in the valid file or "" to append, replacement, beginning of the problem, part of its end)
BROKEN = {
    "typo in a key": ("owner =", "ownr =", "model.toml: ownr: unknown key → did you mean 'owner'? Known: ", "window"),
    "typo in a table": ("", "[traning]\nwindows = 9", "model.toml: traning: unknown key → did you mean 'training'", ""),
    "typo in a key of a table": (
        "minimum =", "minimun =", "model.toml: gate.minimun: unknown key → did you mean 'minimum'?", "slice_bound"),
    "missing key": ('owner = "retention"', "", "model.toml: owner: is missing → add it", "model-folder.md"),
    "missing table": (
        '[gate]\nmetric = "roc_auc"\nminimum = 0.6', "", "model.toml: gate: is missing → add it", ""),
    "wrong type": ("", '[window]\ndays = "week"', "model.toml: window.days: Input should be a valid integer", "'week'"),
    "text where a list belongs": (
        '["customer_id"]', '"customer_id"', "model.toml: key: Input should be a valid tuple", "got 'customer_id'"),
    "number out of range": ("", "[window]\ndays = 0", "model.toml: window.days: Input should be greater", "got 0"),
    "unknown weekday": ("", '[window]\nstarts_on = "mon"', "model.toml: window.starts_on: Input should be", "'mon'"),
    "unknown task": (
        '"binary"', '"ranking"', "model.toml: task: Input should be 'binary', 'multiclass' or 'regression'", ""),
    "unknown expectation": (
        "", '[[checks]]\nexpectation = "expect_column_values_to_be_nul"',
        "model.toml: checks.0.expectation: unknown expectation 'expect_column_values_to_be_nul' → did you mean", ""),
    "unknown expectation after something else": (
        'tags = []', 'checks = [1, {expectation = "expect_nothing"}]',
        "model.toml: checks.1.expectation: unknown expectation 'expect_nothing'", ""),
    "expectation that is no text": ("", "[[checks]]\nexpectation = 7", "model.toml: checks.0.expectation: Input", "7"),
    "checks that are no list": ('tags = []', 'checks = "all"', "model.toml: checks: Input should be a valid tuple", ""),
    "checks that are a number": ("tags = []", "checks = 7", "model.toml: checks: Input should be a valid", "got 7"),
    "unknown on_failure": (
        "", '[[checks]]\nexpectation = "expect_column_to_exist"\non_failure = "mail"',
        "model.toml: checks.0.on_failure: Input should be 'stop', 'quarantine' or 'warn'", "'mail'"),
    "argument that jsonb refuses": (
        "", '[[checks]]\nexpectation = "expect_column_max_to_be_between"\ncolumn = "visits"\nmax_value = inf',
        "model.toml: checks.0: Value error, max_value: nan, inf and the character NUL cannot be kept", "inf}"),
    "quarantine of most rows": (
        "", ('[[checks]]\nexpectation = "expect_column_values_to_not_be_null"\ncolumn = "visits"\nmostly = 0.9\n'
        'on_failure = "quarantine"'),
        ('model.toml: checks.0: Value error, on_failure = "quarantine" sets aside every row that fails, so mostly has '
        "no meaning here; [quarantine] budget bounds how many"), "'on_failure': 'quarantine'}"),
    "quarantine of some rows": (
        "", ('[[checks]]\nexpectation = "expect_column_values_to_not_be_null"\ncolumn = "visits"\n'
        'row_condition = "visits > 3"\non_failure = "quarantine"'),
        ('model.toml: checks.0: Value error, on_failure = "quarantine" sets aside every row that fails, so '
        "row_condition has no meaning here"), "'on_failure': 'quarantine'}"),
    "budget of all rows": (
        "", "[quarantine]\nbudget = 1.0", "model.toml: quarantine.budget: Input should be less", "1.0"),
    "negative budget": ("", "[quarantine]\nbudget = -0.1", "model.toml: quarantine.budget: Input should be g", "-0.1"),
    "budget that is no number": (
        "", "[quarantine]\nbudget = nan", "model.toml: quarantine.budget: Input should be ", "nan"),
    "typo in quarantine": (
        "", "[quarantine]\nbudgt = 0.1",
        "model.toml: quarantine.budgt: unknown key → did you mean 'budget'? Known: budget", "budget"),
    "typo in guard": (
        "", "[guard]\nrow_count_minimun = 0.1",
        "model.toml: guard.row_count_minimun: unknown key → did you mean 'row_count_minimum'? Known: batches",
        "wait_minutes"),
    "typo in retention": (
        "", "[retention]\nreplaced_batch = 1",
        "model.toml: retention.replaced_batch: unknown key → did you mean 'replaced_batches'? Known: repl", "weeks"),
    "typo in the name of the guard": (
        "", "[guards]\nbatches = 3", "model.toml: guards: unknown key → did you mean 'guard'? Known: ", "window"),
    "guard that compares with nothing": (
        "", "[guard]\nbatches = 0", "model.toml: guard.batches: Input should be greater", "got 0"),
    "guard that needs no batch": (
        "", "[guard]\nminimum_batches = 0", "model.toml: guard.minimum_batches: Input should be greater", "got 0"),
    "row count that is usual and too few": (
        "", "[guard]\nrow_count_minimum = 1.1", "model.toml: guard.row_count_minimum: Input should be less", "1.1"),
    "row count that is usual and too many": (
        "", "[guard]\nrow_count_maximum = 0.9", "model.toml: guard.row_count_maximum: Input should be greater", "0.9"),
    "infinite row count": (
        "", "[guard]\nrow_count_maximum = inf", "model.toml: guard.row_count_maximum: Input should be a finite", "inf"),
    "more unscored than all": (
        "", "[guard]\nunscored_maximum = 1.1", "model.toml: guard.unscored_maximum: Input should be less", "got 1.1"),
    "unknown meaning of a constant score": (
        "", '[guard]\nconstant_score = "warn"',
        "model.toml: guard.constant_score: Input should be 'reject' or 'allow'", "'warn'"),
    "no jump of the mean at all": (
        "", "[guard]\nmean_score_jump = 0", "model.toml: guard.mean_score_jump: Input should be greater", "got 0"),
    "jump of the mean that is no number": (
        "", "[guard]\nmean_score_jump = nan", "model.toml: guard.mean_score_jump: Input should be ", "got nan"),
    "jump of a share over one": (
        "", "[guard]\nclass_share_jump = 1.1", "model.toml: guard.class_share_jump: Input should be less", "got 1.1"),
    "freshness without hours": (
        "", '[guard]\nfreshness_column = "seen_at"',
        "model.toml: guard: Value error, freshness_column and freshness_hours belong together: give both or none", "}"),
    "freshness without a column": (
        "", "[guard]\nfreshness_hours = 24",
        "model.toml: guard: Value error, freshness_column and freshness_hours belong together: give both or none", "}"),
    "freshness of no hours": (
        "", '[guard]\nfreshness_column = "seen_at"\nfreshness_hours = 0',
        "model.toml: guard.freshness_hours: Input should be greater than 0", "got 0"),
    "fewer than no batches kept": (
        "", "[retention]\nreplaced_batches = -1",
        "model.toml: retention.replaced_batches: Input should be greater", "got -1"),
    "no week kept": ("", "[retention]\nweeks = 0", "model.toml: retention.weeks: Input should be greater", "got 0"),
    "unknown metric": (
        '"roc_auc"', '"roc_acu"',
        "model.toml: gate.metric: unknown metric 'roc_acu' for task 'binary' → did you mean 'roc_auc'?", "roc_auc"),
    "metric of the other task": (
        '"roc_auc"', '"mae"', "model.toml: gate.metric: unknown metric 'mae' for task 'binary' → Known: ", "roc_auc"),
    "maximum where higher is better": (
        "minimum =", "maximum =",
        "model.toml: gate: roc_auc is better when higher → set minimum, leave out maximum", ""),
    "minimum where lower is better": (
        '"roc_auc"', '"brier"', "model.toml: gate: brier is better when lower → set maximum, leave out minimum", ""),
    "both bounds": ("minimum = 0.6", "minimum = 0.6\nmaximum = 0.9", "model.toml: gate: roc_auc is better when", ""),
    "no bound": ("minimum = 0.6", "", "model.toml: gate: roc_auc is better when higher → set minimum", ""),
    "holdout takes every window": (
        "", "[training]\nwindows = 4\nholdout_windows = 4",
        "model.toml: training: Value error, holdout_windows = 4 and calibration_windows = 0 leave no window of 4", ""),
    "holdout and calibration take every window": (
        "", '[training]\nwindows = 7\nholdout_windows = 4\ncalibration_windows = 3\ncalibration = "sigmoid"',
        "model.toml: training: Value error, holdout_windows = 4 and calibration_windows = 3 leave no window of 7", ""),
    "calibration without rows": (
        "", '[training]\ncalibration = "sigmoid"',
        "model.toml: training.calibration_windows: no rows to calibrate or to set the threshold on → set ",
        "calibration_windows, at least 1: the parts that fit and that measure must not overlap"),
    "best threshold without rows": (
        "", '[training]\nthreshold = "f1"',
        "model.toml: training.calibration_windows: no rows to calibrate or to set the threshold on", "not overlap"),
    "calibration windows that nothing uses": (
        "", "[training]\ncalibration_windows = 2",
        "model.toml: training.calibration_windows: nothing uses them → set calibration, threshold or interval, ",
        "or leave it out"),
    "interval of classes": (
        "", "[training]\ninterval = 0.8\ncalibration_windows = 1",
        "model.toml: training.interval: task 'binary' has no interval → leave it out", "out"),
    "calibration windows beside a threshold given as a number": (
        "", "[training]\ncalibration_windows = 2\nthreshold = 0.5",
        "model.toml: training.calibration_windows: nothing uses them", "leave it out"),
    "threshold of three classes": (
        'task = "binary"', 'task = "multiclass"\ntraining = {threshold = 0.5}',
        "model.toml: training.threshold: task 'multiclass' has no threshold → leave it out", "out"),
    "quantile of classes": (
        "", "[evaluation]\nquantile = 0.9",
        "model.toml: evaluation.quantile: task 'binary' predicts no quantile → leave it out", "out"),
    "slice bound without slices": (
        "minimum = 0.6", "minimum = 0.6\nslice_bound = 0.5",
        "model.toml: evaluation.slices: slice_bound needs slices to judge → for example slices = [\"region\"]", "]"),
    "unknown calibration": (
        "", '[training]\ncalibration = "platt"',
        "model.toml: training.calibration: Input should be 'none', 'sigmoid' or 'isotonic'", "'platt'"),
    "negative calibration windows": (
        "", "[training]\ncalibration_windows = -1",
        "model.toml: training.calibration_windows: Input should be greater than or equal to 0", "got -1"),
    "threshold of one": (
        "", "[training]\nthreshold = 1.0", "model.toml: training.threshold.constrained-float: Input should be", "1.0"),
    "threshold of nought": (
        "", "[training]\nthreshold = 0", "model.toml: training.threshold.constrained-float: Input should be g", "0"),
    "unknown goal of the threshold": (
        "", '[training]\nthreshold = "recall"',
        "model.toml: training.threshold.literal['f1','balanced_accuracy']: Input should be 'f1' or", "got 'recall'"),
    "negative seed": ("", "[training]\nseed = -1", "model.toml: training.seed: Input should be greater", "got -1"),
    "seed over 32 bits": (
        "", "[training]\nseed = 4294967296", "model.toml: training.seed: Input should be less", "got 4294967296"),
    "label delay over ten years": (
        "", "[training]\nlabel_delay_days = 3661", "model.toml: training.label_delay_days: Input should be le", "3661"),
    "one holdout row": (
        "", "[training]\nminimum_holdout_rows = 1", "model.toml: training.minimum_holdout_rows: Input should be", "1"),
    "no holdout window": (
        "", "[training]\nholdout_windows = 0", "model.toml: training.holdout_windows: Input should be greater", "0"),
    "too few resamples": (
        "", "[evaluation]\nresamples = 99", "model.toml: evaluation.resamples: Input should be greater", "got 99"),
    "too many resamples": (
        "", "[evaluation]\nresamples = 100001", "model.toml: evaluation.resamples: Input should be less", "got 100001"),
    "certainty": ("", "[evaluation]\nconfidence = 1.0", "model.toml: evaluation.confidence: Input should be", "1.0"),
    "confidence of a coin": (
        "", "[evaluation]\nconfidence = 0.5", "model.toml: evaluation.confidence: Input should be greater", "0.5"),
    "slice of one row": (
        "", "[evaluation]\nslice_rows = 1", "model.toml: evaluation.slice_rows: Input should be greater", "got 1"),
    "slices that are no list": (
        "", '[evaluation]\nslices = "region"', "model.toml: evaluation.slices: Input should be a valid", "'region'"),
    "typo in evaluation": (
        "", '[evaluation]\nslice = ["a"]',
        "model.toml: evaluation.slice: unknown key → did you mean 'slices'? Known: baseline_by, ", "slices"),
    "unknown decision": (
        "minimum = 0.6", 'minimum = 0.6\nchampion_worse = "retire"',
        "model.toml: gate.champion_worse: Input should be 'promote' or 'keep'", "got 'retire'"),
    "negative margin": (
        "minimum = 0.6", "minimum = 0.6\nchampion_margin = -0.1",
        "model.toml: gate.champion_margin: Input should be greater than or equal to 0", "got -0.1"),
    "bound that is no number": (
        "minimum = 0.6", "minimum = nan", "model.toml: gate.minimum: Input should be a finite number", "got nan"),
    "infinite bound of slices": (
        "minimum = 0.6", "minimum = 0.6\nslice_bound = -inf", "model.toml: gate.slice_bound: Input should be ", "-inf"),
    "alarm that every feature sets off": (
        "minimum = 0.6", "minimum = 0.6\nleakage_alarm = 0.5", "model.toml: gate.leakage_alarm: Input should", "0.5"),
    "calibration error over one": (
        "minimum = 0.6", "minimum = 0.6\ncalibration_maximum = 1.1",
        "model.toml: gate.calibration_maximum: Input should be less than or equal to 1", "got 1.1"),
    "speed of nought": (
        "minimum = 0.6", "minimum = 0.6\nrows_per_second_minimum = 0",
        "model.toml: gate.rows_per_second_minimum: Input should be greater than 0", "got 0"),
    "unknown promotion": (
        "tags = []",
        'promotion = "manual"',
        "model.toml: promotion: Input should be 'auto', 'approval' or 'after_duel'",
        "'manual'",
    ),
    "approval within no time": (
        "", "[approval]\ntimeout_hours = 0", "model.toml: approval.timeout_hours: Input should be greater", "got 0"),
    "approval within more than a year": (
        "", "[approval]\ntimeout_hours = 8761", "model.toml: approval.timeout_hours: Input should be less", "got 8761"),
    "one approver that is no list": (
        "", '[approval]\napprovers = "ada"', "model.toml: approval.approvers: Input should be a valid tuple", "'ada'"),
    "typo in approval": (
        "", "[approval]\ntimeout = 3",
        "model.toml: approval.timeout: unknown key → did you mean 'timeout_hours'? Known: approvers", "timeout_hours"),
    "bad cron": (
        "", '[schedule]\nscore = "every monday"',
        "model.toml: schedule.score: 'every monday' is no cron expression → for example \"0 6 * * 1\"", ""),
    "cron preset": (
        "", '[schedule]\nscore = "@weekly"', "model.toml: schedule.score: '@weekly' is no cron expression → for", ""),
    "cron of Jenkins": ("", '[schedule]\nscore = "H 6 * * 1"', "model.toml: schedule.score: 'H 6 * * 1' is no", ""),
    "cron of a day that never comes": (
        "", '[schedule]\ntrain = "0 0 30 2 *"', "model.toml: schedule.train: '0 0 30 2 *' is no cron", ""),
    "cron with seconds": (
        "", '[schedule]\nscore = "0 6 * * 1 0"', "model.toml: schedule.score: '0 6 * * 1 0' is no cron", ""),
    "cron with four fields": ("", '[schedule]\nscore = "0 6 * *"', "model.toml: schedule.score: '0 6 * *' is no", ""),
    "empty tag": ("tags = []", 'tags = ["a", ""]', "model.toml: tags.1: String should have at least 1 char", "got ''"),
    "tag too long": (
        "tags = []", f'tags = ["{"a" * 101}"]', "model.toml: tags.0: String should have at most 100 characters", ""),
    "bad cron of training": ("", '[schedule]\ntrain = "61 * * * *"', "model.toml: schedule.train: '61 * * * *' is", ""),
    "end before start": (
        "", "[schedule]\nstart = 2020-02-01\nend = 2020-01-01",
        "model.toml: schedule.end: 2020-01-01 is not after start 2020-02-01", ""),
    "end on the start": (
        "", "[schedule]\nstart = 2020-02-01\nend = 2020-02-01",
        "model.toml: schedule.end: 2020-02-01 is not after start 2020-02-01", ""),
    "no key column": ('["customer_id"]', "[]", "model.toml: key: Tuple should have at least 1 item", ""),
    "reserved key column": (
        '["customer_id"]', '["score"]', "model.toml: key: 'score' is reserved → rename the column in the SQL", "AS"),
    "key column twice": (
        '["customer_id"]', '["a", "a"]', "model.toml: key: names a column twice: ['a', 'a']", ""),
    "key column with a capital": (
        '["customer_id"]', '["Id"]', "model.toml: key: 'Id' is no column name → use a-z, 0-9 and _", "63 characters"),
    "key column too long": ('["customer_id"]', f'["{"a" * 64}"]', f"model.toml: key: '{'a' * 64}' is no column", ""),
    "key column with a line end": ('["customer_id"]', '["id\\n"]', "model.toml: key: 'id\\n' is no column name", ""),
    "bad TOML": ('owner = "retention"', "owner = ", "model.toml: is not valid TOML: Invalid value (at line 3", ""),
    "key twice": ('owner =', 'task = "binary"\nowner =', "model.toml: is not valid TOML: Cannot overwrite", ""),
}  # fmt: skip


REGRESSION = """\
tags = []
description = "d"
owner = "o"
task = "regression"
key = ["id"]
[gate]
metric = "mae"
maximum = 3
"""
#: The same for what is wrong in a regression only.
BROKEN_REGRESSION = {
    "calibration of a regression": (
        "", '[training]\ncalibration = "sigmoid"\ncalibration_windows = 1',
        "model.toml: training.calibration: a regression has no probabilities → leave it out"),
    "threshold of a regression": (
        "", "[training]\nthreshold = 0.5",
        "model.toml: training.threshold: task 'regression' has no threshold → leave it out"),
    "best threshold of a regression": (
        "", '[training]\nthreshold = "f1"\ncalibration_windows = 1',
        "model.toml: training.threshold: task 'regression' has no threshold → leave it out"),
    "interval without rows": (
        "", "[training]\ninterval = 0.8",
        ("model.toml: training.calibration_windows: no rows to set the width of the interval on → set "
         "calibration_windows, at least 1: the parts that fit and that measure must not overlap")),
    "interval of less than half of the outcomes": (
        "", "[training]\ninterval = 0.49",
        "model.toml: training.interval: Input should be greater than or equal to 0.5, got 0.49"),
    "interval of all outcomes": (
        "", "[training]\ninterval = 1.0",
        "model.toml: training.interval: Input should be less than 1, got 1.0"),
    "key with the name of an end of the interval": (
        '["id"]', '["low"]',
        "model.toml: key: 'low' is reserved → rename the column in the SQL, with AS"),
    "calibration maximum of a regression": (
        "maximum = 3", "maximum = 3\ncalibration_maximum = 0.1",
        "model.toml: gate.calibration_maximum: a regression has no probabilities → leave it out"),
    "pinball without a quantile": (
        '"mae"', '"pinball"',
        "model.toml: evaluation.quantile: the metric pinball needs it → for example quantile = 0.9"),
}  # fmt: skip


@pytest.mark.parametrize(("old", "new", "problem"), BROKEN_REGRESSION.values(), ids=BROKEN_REGRESSION)
def test_regression_is_refused_for_what_only_classes_have(old: str, new: str, problem: str) -> None:
    assert isinstance(parse_spec(REGRESSION, model="churn"), ModelSpec)
    assert old in REGRESSION
    assert problems_of(REGRESSION.replace(old, new) if old else REGRESSION + new) == [problem]


@pytest.mark.parametrize("quantile", ["0.0", "1.0", "nan"])
def test_quantile_lies_between_nought_and_one(quantile: str) -> None:
    (problem,) = problems_of(f"{REGRESSION}[evaluation]\nquantile = {quantile}")
    assert problem.startswith("model.toml: evaluation.quantile: Input should be ")


@pytest.mark.parametrize(("old", "new", "start", "end"), BROKEN.values(), ids=BROKEN)
def test_broken_file_is_refused_with_field_finding_and_hint(
    model_toml: str, old: str, new: str, start: str, end: str
) -> None:
    valid = "tags = []\n" + model_toml
    assert isinstance(parse_spec(valid, model="churn"), ModelSpec)
    assert old in valid
    (problem,) = [p for p in problems_of(valid.replace(old, new) if old else valid + new) if p.startswith(start)]
    assert problem.endswith(end)


def test_all_problems_are_told_at_once_sorted_by_field() -> None:
    text = (
        'desciption = "x"\nowner = 1\ntask = "binary"\nkey = ["score"]\n[gate]\nmetric = "roc_auc"\n'
        '[[checks]]\nexpectation = "expect_nothing"\n'
    )
    found = problems_of(text)
    assert [p.split(": ")[1] for p in found] == ["checks.0.expectation", "desciption", "description", "owner"]


def test_problems_between_fields_are_told_together(model_toml: str) -> None:
    """They need the fields to be right by themselves, so they come once nothing else is wrong."""
    text = model_toml.replace('["customer_id"]', '["score", "score"]').replace("minimum", "maximum") + (
        '[schedule]\nscore = "x"\nstart = 2020-02-01\nend = 2020-01-01\n[[checks]]\nexpectation = "expect_nothing"\n'
    )
    fields = [p.split(": ")[1] for p in problems_of(text)]
    assert fields == ["checks.0.expectation", "gate", "key", "key", "schedule.end", "schedule.score"]


def test_problems_of_training_are_told_with_the_others_sorted_by_field(model_toml: str) -> None:
    text = model_toml.replace('"binary"', '"regression"').replace('"roc_auc"', '"pinball"') + (
        "calibration_maximum = 0.1\nslice_bound = 3\n"
        '[training]\ncalibration = "sigmoid"\nthreshold = 0.5\n[schedule]\nscore = "x"\n'
    )
    assert [p.split(": ")[1] for p in problems_of(text)] == [
        "evaluation.quantile", "evaluation.slices", "gate", "gate.calibration_maximum", "schedule.score",
        "training.calibration", "training.calibration_windows", "training.threshold",
    ]  # fmt: skip


def test_message_counts_and_numbers_the_problems() -> None:
    with pytest.raises(ModelFolderError) as caught:
        parse_spec("", model="churn")
    assert str(caught.value).startswith(
        "model folder 'churn' has 5 problems:\n  1. model.toml: description: is missing"
    )


def test_every_metric_is_accepted_with_the_bound_of_its_direction(model_toml: str) -> None:
    for task, metrics in METRICS.items():
        for metric, higher in metrics.items():
            text = model_toml.replace('"binary"', f'"{task}"').replace('"roc_auc"', f'"{metric}"')
            if metric == "pinball":
                text += "[evaluation]\nquantile = 0.9\n"
            parse_spec(text if higher else text.replace("minimum", "maximum"), model="churn")


#: Only those of a regression's interval are free in a model of classes.
OF_INTERVAL = ["high", "low"]
ADDED = [
    "batch_id", "hindsight", "label", "labelled_at", "model_version", "prediction", "score", "scored_at", "scores",
    "window_start",
]  # fmt: skip


def test_reserved_columns_are_those_that_ponte_adds() -> None:
    assert sorted(RESERVED_COLUMNS) == sorted(ADDED + OF_INTERVAL)


@pytest.mark.parametrize("name", ADDED)
def test_no_column_that_ponte_adds_can_be_a_key(model_toml: str, name: str) -> None:
    assert any(f"{name!r} is reserved" in p for p in problems_of(model_toml.replace("customer_id", name)))


@pytest.mark.parametrize("name", OF_INTERVAL)
def test_a_model_of_classes_goes_on_with_a_key_that_is_reserved_in_a_regression(model_toml: str, name: str) -> None:
    assert parse_spec(model_toml.replace("customer_id", name), model="churn").key == (name,)


@pytest.mark.parametrize("field", ["score", "train"])
@pytest.mark.parametrize(
    "cron", ["on demand", "*/15 * * * *", "0 0 29 2 *", "30 4 * * mon-fri", "0 5 1 */3 *", " 0  6 * * 1 "],
    ids=["on demand", "quarter-hours", "leap day", "names of weekdays", "quarters", "more spaces"],
)  # fmt: skip
def test_schedule_is_on_demand_or_five_cron_fields_with_a_next_time(model_toml: str, field: str, cron: str) -> None:
    spec = parse_spec(f'{model_toml}[schedule]\n{field} = "{cron}"\n', model="churn")
    assert getattr(spec.schedule, field) == cron


def test_tag_of_100_characters_is_the_longest(model_toml: str) -> None:
    assert parse_spec(f'tags = ["{"a" * 100}"]\n{model_toml}', model="churn").tags == ("a" * 100,)


def test_days_are_written_as_toml_dates(model_toml: str) -> None:
    text = model_toml + "[schedule]\nstart = 2013-01-07\nend = 2013-12-31\n"
    assert parse_spec(text, model="churn").schedule.end == dt.date(2013, 12, 31)


def test_a_spec_never_changes(model_toml: str) -> None:
    with pytest.raises(ValueError, match="frozen"):
        parse_spec(model_toml, model="churn").owner = "someone"  # type: ignore[misc]


def test_expectations_are_those_of_great_expectations() -> None:
    assert {"expect_column_values_to_not_be_null", "expect_table_row_count_to_be_between"} <= expectation_names()
    assert all(name.startswith("expect_") for name in expectation_names())


@given(st.text(max_size=30), st.sampled_from(["score", "train"]))
def test_any_text_as_cron_gives_a_spec_or_a_problem(text: str, field: str) -> None:
    """No library's own error reaches the author."""
    quoted = "".join(f"\\U{ord(c):08x}" for c in text if not 0xD800 <= ord(c) <= 0xDFFF)
    toml = (
        'description = "d"\nowner = "o"\ntask = "regression"\nkey = ["id"]\n'
        f'[gate]\nmetric = "mae"\nmaximum = 1\n[schedule]\n{field} = "{quoted}"\n'
    )
    try:
        parse_spec(toml, model="churn")
    except ModelFolderError as error:
        fields = [p.field for p in error.problems]
        assert fields == [f"schedule.{field}"]


values = st.recursive(
    st.sampled_from(['"x"', "1", "-1.5", "nan", "true", "2020-01-01", "10:00:00", '"0 6 * * 1"']),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(lambda v: "[" + ", ".join(v) + "]"),
        st.dictionaries(st.sampled_from(["metric", "days", "expectation", "odd"]), inner, max_size=3).map(
            lambda d: "{" + ", ".join(f"{k} = {v}" for k, v in d.items()) + "}"
        ),
    ),
    max_leaves=6,
)


@given(st.dictionaries(st.sampled_from([*ModelSpec.model_fields, "odd"]), values))
def test_any_toml_gives_a_spec_or_problems(document: dict[str, str]) -> None:
    text = "\n".join(f"{name} = {value}" for name, value in document.items())
    try:
        parse_spec(text, model="churn")
    except ModelFolderError as error:
        problems = error.problems
        assert problems


@pytest.mark.parametrize("text", ["-1", "10081", "0.5"])
def test_guards_wait_for_whole_minutes_up_to_a_week(model_toml: str, text: str) -> None:
    for taken in ("0", "10080"):
        spec = parse_spec(f"{model_toml}\n[guard]\nwait_minutes = {taken}\n", model="churn")
        assert spec.guard.wait_minutes == int(taken)
    [problem] = problems_of(f"{model_toml}\n[guard]\nwait_minutes = {text}\n")
    assert problem.startswith("model.toml: guard.wait_minutes: ")


@pytest.mark.parametrize("name", sorted(LIVE_COLUMNS))
def test_a_key_that_live_rows_have_beside_it_is_refused_of_a_model_that_answers(model_toml: str, name: str) -> None:
    renamed = model_toml.replace("customer_id", name)
    assert parse_spec(renamed, model="churn").key == (name,)
    [problem] = problems_of(renamed + "\n[serving]\napi = true\n")
    assert f"key: {name!r} is the name of a column that live rows have beside the key" in problem


@pytest.mark.parametrize(
    ("serving", "found"),
    [
        ('form = "public"', "form: form = 'public' has nobody to ask → set api = true, or leave it out"),
        ('form = "key"', "form: form = 'key' has nobody to ask → set api = true, or leave it out"),
        ("decision = 10", "decision: task 'binary' predicts no number to hold it against → leave it out"),
    ],
)
def test_a_form_needs_the_api_and_a_decision_a_number(model_toml: str, serving: str, found: str) -> None:
    assert problems_of(f"{model_toml}\n[serving]\n{serving}\n") == [f"model.toml: serving.{found}"]
    regression = model_toml.replace('"binary"', '"regression"').replace("roc_auc", "mae").replace("minimum", "maximum")
    with_api = f'{regression}\n[serving]\napi = true\nform = "key"\ndecision = 10\n'
    assert parse_spec(with_api, model="churn").serving.decision == 10
