"""`estimator.py`: what is refused, what the seed touches, and that a pickle finds the code it was made with."""

from __future__ import annotations

import pickle
import sys
from typing import Any

import pytest

from ponte.errors import ModelFolderError
from ponte.model.estimator import load_estimator, load_suitable, run_module, seed_estimator
from ponte.model.spec import METRICS, OF_LABELS, ModelSpec, Task

LINEAR = "from sklearn.linear_model import LinearRegression\n"


def build(body: str) -> str:
    return f"{LINEAR}def build_estimator():\n    {body}\n"


@pytest.mark.parametrize(
    ("text", "task", "said"),
    [
        ("", "binary", "build_estimator: is missing → def build_estimator(): return an unfitted"),
        ("build_estimator = 1", "binary", "build_estimator: is missing"),
        ("def build_estimator(:", "binary", "does not run: SyntaxError: invalid syntax"),
        ("import nowhere_to_be_found", "binary", "does not run: ModuleNotFoundError: No module named 'nowhere"),
        ("1 / 0", "binary", "does not run: ZeroDivisionError: division by zero"),
        (build("raise KeyError('depth')"), "regression", "build_estimator: fails: KeyError: 'depth'"),
        ("def build_estimator(depth): ...", "binary", "build_estimator: fails: TypeError: build_estimator() missing 1"),
        (
            build("return LinearRegression"), "regression",
            "build_estimator: returns the class LinearRegression → return an object: LinearRegression(…)",
        ),
        (build("return None"), "regression", "build_estimator: returns NoneType, which has no fit() → return a scikit"),
        (build("return 'tree'"), "regression", "build_estimator: returns str, which has no fit()"),
        (
            "from sklearn.preprocessing import StandardScaler\n" + build("return StandardScaler()"), "regression",
            "build_estimator: returns StandardScaler, which has no predict()",
        ),
        (
            build("return LinearRegression()"), "binary",
            "build_estimator: returns LinearRegression, which is no classifier → return a classifier",
        ),
        (
            "from sklearn.pipeline import make_pipeline\n" + build("return make_pipeline(LinearRegression())"),
            "binary", "build_estimator: returns Pipeline, which is no classifier",
        ),
    ],
    ids=[
        "no function", "not a function", "syntax error", "import error", "module raises", "function raises",
        "function wants arguments", "class", "None", "text", "no predict", "regressor for binary",
        "pipeline that ends in a regressor",
    ],
)  # fmt: skip
def test_file_that_gives_no_usable_estimator_is_refused_with_the_reason(text: str, task: Task, said: str) -> None:
    with pytest.raises(ModelFolderError) as caught:
        load_estimator(text, model="churn", task=task)
    (problem,) = caught.value.problems
    assert str(problem).startswith(f"estimator.py: {said}")


def test_unfitted_estimator_of_the_task_is_returned() -> None:
    assert type(load_estimator(build("return LinearRegression()"), model="churn", task="regression")).__name__ == (
        "LinearRegression"
    )


# ---------------------------------------------------------------- several outputs

MULTI = """
from sklearn.compose import TransformedTargetRegressor
from sklearn.linear_model import *
from sklearn.model_selection import GridSearchCV
from sklearn.multioutput import *
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
"""
SEVERAL: dict[str, tuple[str, Task, str]] = {
    "regressor": ("MultiOutputRegressor(Ridge())", "regression", "MultiOutputRegressor"),
    "regressor chain": ("RegressorChain(Ridge())", "regression", "RegressorChain"),
    "multi-task": ("MultiTaskLasso()", "regression", "MultiTaskLasso"),
    "classifier": ("MultiOutputClassifier(LogisticRegression())", "binary", "MultiOutputClassifier"),
    "classifier chain": ("ClassifierChain(LogisticRegression())", "multiclass", "ClassifierChain"),
    "end of a pipeline": (
        "make_pipeline(StandardScaler(), MultiOutputRegressor(Ridge()))", "regression", "MultiOutputRegressor"),
    "in a search": (
        "GridSearchCV(make_pipeline(MultiOutputRegressor(Ridge())), {})", "regression", "MultiOutputRegressor"),
    "behind a transformed target": (
        "TransformedTargetRegressor(RegressorChain(Ridge()))", "regression", "RegressorChain"),
}  # fmt: skip


@pytest.mark.parametrize(("text", "task", "name"), SEVERAL.values(), ids=SEVERAL)
def test_estimator_of_several_outputs_is_refused_by_name(text: str, task: Task, name: str) -> None:
    with pytest.raises(ModelFolderError) as caught:
        load_estimator(MULTI + build(f"return {text}"), model="churn", task=task)
    (problem,) = caught.value.problems
    assert str(problem) == (
        f"estimator.py: build_estimator: returns {name}, a multi-output estimator → return an estimator of one output; "
        "every other target is a model of its own"
    )


@pytest.mark.parametrize(
    ("text", "task"),
    [
        ("make_pipeline(StandardScaler(), Ridge())", "regression"),
        ("TransformedTargetRegressor(Ridge())", "regression"),
        ("TransformedTargetRegressor()", "regression"),
        ("GridSearchCV(LogisticRegression(), {})", "binary"),
    ],
)
def test_wrapped_estimator_of_one_output_is_taken(text: str, task: Task) -> None:
    load_estimator(MULTI + build(f"return {text}"), model="churn", task=task)


# ---------------------------------------------------------------- without probabilities

SVM = """
from sklearn.linear_model import *
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC, LinearSVC

class Rule(RidgeClassifier):
    decision_function = property()
"""
WITHOUT = ("LinearSVC()", "RidgeClassifier()", "Perceptron()", "SVC()", "make_pipeline(StandardScaler(), LinearSVC())")


def spec_of(task: Task, metric: str, *, gate: dict[str, Any] | None = None, **training: Any) -> ModelSpec:
    bound = {"minimum" if METRICS[task][metric] else "maximum": 0.5}
    return ModelSpec.model_validate(
        {"description": "d", "owner": "o", "task": task, "key": ["id"], "training": training,
         "gate": {"metric": metric, **bound, **(gate or {})}}
    )  # fmt: skip


def problems_of(text: str, spec: ModelSpec) -> list[str]:
    try:
        load_suitable(SVM + build(f"return {text}"), model="churn", spec=spec)
    except ModelFolderError as error:
        return [str(problem) for problem in error.problems]
    return []


@pytest.mark.parametrize("text", WITHOUT)
@pytest.mark.parametrize("task", ["binary", "multiclass"])
def test_without_probabilities_a_metric_of_scores_is_refused_and_one_of_labels_is_not(text: str, task: Task) -> None:
    for metric in METRICS[task]:
        found = problems_of(text, spec_of(task, metric))
        assert bool(found) == (metric not in OF_LABELS)
        assert all(f"gate.metric: '{metric}' needs probabilities, and " in problem for problem in found)


def test_refused_metric_names_the_metrics_that_work_and_how_to_make_probabilities() -> None:
    (binary,) = problems_of("make_pipeline(StandardScaler(), LinearSVC())", spec_of("binary", "roc_auc"))
    assert binary == (
        "model.toml: gate.metric: 'roc_auc' needs probabilities, and LinearSVC has no predict_proba() → "
        'use accuracy, precision, recall or f1, or make probabilities with [training] calibration = "sigmoid" and '
        "calibration_windows"
    )
    (multiclass,) = problems_of("Perceptron()", spec_of("multiclass", "log_loss"))
    assert "Perceptron has no predict_proba() → use accuracy, balanced_accuracy or f1, or make" in multiclass


def test_everything_that_needs_probabilities_is_told_at_once() -> None:
    spec = spec_of("binary", "brier", gate={"calibration_maximum": 0.1}, threshold=0.5)
    found = problems_of("RidgeClassifier()", spec)
    assert [problem.partition(" needs probabilities")[0] for problem in found] == [
        "model.toml: gate.calibration_maximum: it", "model.toml: gate.metric: 'brier'",
        "model.toml: training.threshold: it",
    ]  # fmt: skip


@pytest.mark.parametrize("method", ["sigmoid", "isotonic"])
@pytest.mark.parametrize("text", WITHOUT)
def test_calibration_makes_probabilities_of_a_decision_function(text: str, method: str) -> None:
    spec = spec_of("binary", "roc_auc", threshold="f1", calibration=method, calibration_windows=2)
    assert problems_of(text, spec) == []


def test_calibration_of_neither_probabilities_nor_a_decision_function_is_refused() -> None:
    text = "Rule()"
    spec = spec_of("binary", "roc_auc", calibration="sigmoid", calibration_windows=2)
    (problem,) = problems_of(text, spec)
    assert problem == (
        "model.toml: training.calibration: 'sigmoid' needs predict_proba() or decision_function(), and Rule has "
        "neither → use another classifier"
    )
    (problem,) = problems_of(text, spec_of("binary", "roc_auc"))
    assert problem.endswith("or f1, or use a classifier with predict_proba()")


@pytest.mark.parametrize("task", ["binary", "multiclass", "regression"])
def test_with_probabilities_or_without_need_of_them_every_metric_is_possible(task: Task) -> None:
    text = "LinearRegression()" if task == "regression" else "KNeighborsClassifier()"
    assert [metric for metric in METRICS[task] if problems_of(text, spec_of(task, metric))] == []


# ---------------------------------------------------------------- the seed


def test_seed_fills_every_random_state_that_is_none_at_any_depth_and_no_other() -> None:
    from sklearn.ensemble import BaggingClassifier, RandomForestClassifier
    from sklearn.feature_selection import SelectFromModel
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.tree import DecisionTreeClassifier

    pipeline = make_pipeline(
        SelectFromModel(RandomForestClassifier(random_state=7)),
        LogisticRegression(),
        BaggingClassifier(DecisionTreeClassifier(), random_state=None),
    )
    seeded = seed_estimator(pipeline, 42)
    states = {name: value for name, value in seeded.get_params().items() if name.endswith("random_state")}
    assert states == {
        "selectfrommodel__estimator__random_state": 7,
        "logisticregression__random_state": 42,
        "baggingclassifier__estimator__random_state": 42,
        "baggingclassifier__random_state": 42,
    }


@pytest.mark.parametrize("state", [None, 0, 7], ids=["none", "nought", "seven"])
def test_seed_of_a_bare_estimator_keeps_what_its_author_chose(state: int | None) -> None:
    from sklearn.tree import DecisionTreeClassifier

    seeded: Any = seed_estimator(DecisionTreeClassifier(random_state=state), 42)
    assert seeded.random_state == (42 if state is None else state)


def test_estimator_without_randomness_takes_any_seed() -> None:
    from sklearn.linear_model import LinearRegression

    assert seed_estimator(LinearRegression(), 42).get_params() == LinearRegression().get_params()


def test_module_is_named_by_model_and_content_and_runs_once() -> None:
    first = run_module("VALUE = []", model="churn")
    assert sys.modules[first.__name__] is first
    assert run_module("VALUE = []", model="churn") is first
    assert run_module("VALUE = [1]", model="churn").__name__ != first.__name__
    assert run_module("VALUE = []", model="other").__name__ != first.__name__


def test_module_that_fails_is_not_kept() -> None:
    before = set(sys.modules)
    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            run_module("1 / 0  # not kept", model="churn")
    assert not {name for name in set(sys.modules) - before if name.startswith("ponte_estimator_")}


def test_traceback_names_model_and_file() -> None:
    with pytest.raises(ZeroDivisionError) as caught:
        run_module("1 / 0  # traceback", model="churn")
    assert caught.traceback[-1].frame.code.raw.co_filename == "churn/estimator.py"


HELPER = """
from sklearn.preprocessing import FunctionTransformer

def scale(frame):
    return frame * {factor}

def build_estimator():
    return FunctionTransformer(scale)
"""


def test_pickled_helper_function_stays_the_one_it_was_trained_with_after_the_folder_changed() -> None:
    """The loading process has only the text that the version kept, and may have run the edited one as well."""
    old, new = HELPER.format(factor=2), HELPER.format(factor=10)
    content = pickle.dumps(run_module(old, model="churn").build_estimator())
    for name in [name for name in sys.modules if name.startswith("ponte_estimator_churn_")]:
        del sys.modules[name]
    run_module(new, model="churn")
    with pytest.raises(ModuleNotFoundError, match="ponte_estimator_churn_"):
        pickle.loads(content)  # noqa: S301 - made three lines above
    run_module(old, model="churn")
    assert pickle.loads(content).transform(21) == 42  # noqa: S301
    assert run_module(new, model="churn").build_estimator().transform(21) == 210
