"""`estimator.py`: what is refused, what the seed touches, and that a pickle finds the code it was made with."""

from __future__ import annotations

import pickle
import sys
from typing import Any

import pytest

from ponte.errors import ModelFolderError
from ponte.estimators import load_estimator, run_module, seed_estimator
from ponte.spec import Task

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
            "build_estimator: returns LinearRegression, which has no predict_proba() → use a classifier with",
        ),
        (
            "from sklearn.svm import SVC\n" + build("return SVC()"), "binary",
            "build_estimator: returns SVC, which has no predict_proba()",
        ),
        (
            "from sklearn.pipeline import make_pipeline\n" + build("return make_pipeline(LinearRegression())"),
            "binary", "build_estimator: returns Pipeline, which has no predict_proba()",
        ),
    ],
    ids=[
        "no function", "not a function", "syntax error", "import error", "module raises", "function raises",
        "function wants arguments", "class", "None", "text", "no predict", "regressor for binary",
        "classifier without probabilities", "pipeline that ends in a regressor",
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
