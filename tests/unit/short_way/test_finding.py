"""Which estimators take the short way, and what becomes of one that does not say the same."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from typing import Any
from unittest.mock import patch

import numpy as np
import pyarrow as pa
import pytest
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import TransformedTargetRegressor, make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.frozen import FrozenEstimator
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, Ridge, RidgeClassifier
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, OrdinalEncoder, PowerTransformer, StandardScaler

from ponte.short_way import transformers
from ponte.short_way.comparing import Whole, find_way
from ponte.short_way.pipelines import ShortWay, Way
from ponte.short_way.plain import PlainRows
from ponte.storage.columns import Column
from ponte.versions.predicting import Output, predict, through
from ponte.versions.signature import Signature, frame_of

COLUMNS = (
    Column(name="size", family="number"),
    Column(name="items", family="integer"),
    Column(name="shop", family="text"),
)
SIGNATURE = Signature(key=(), features=COLUMNS, label="text", types=4, categories={"shop": ("mill", "quay")})
NUMBERS = ["size", "items"]


def rows(count: int, seed: int = 0) -> pa.Table:
    random = np.random.default_rng(seed)
    size, items = random.normal(50, 9, count), random.integers(0, 9, count)
    shop = pa.array(random.choice(["mill", "quay"], count), pa.string(), mask=random.random(count) < 0.1)
    return pa.table({"size": pa.array(size, mask=random.random(count) < 0.1), "items": items, "shop": shop})


ROWS = rows(200)
FRAME = frame_of(ROWS, SIGNATURE)
LABELS = np.where(FRAME["items"] + np.random.default_rng(1).normal(0, 2, 200) > 4, "yes", "no")
GOLDEN = rows(50, seed=2)


def columns(encoder: Any = None) -> Any:
    numbers = make_pipeline(SimpleImputer(), StandardScaler())
    return make_column_transformer((numbers, NUMBERS), (encoder or OneHotEncoder(handle_unknown="ignore"), ["shop"]))


def linear(encoder: Any = None) -> Any:
    return make_pipeline(columns(encoder), LogisticRegression())


def calibrated(method: str) -> Any:
    inner = linear().fit(FRAME, LABELS)
    return CalibratedClassifierCV(FrozenEstimator(inner), method=method, ensemble=False)


def whole(estimator: Any, output: Output, signature: Signature = SIGNATURE) -> Whole:
    def matrix(steps: Any, of: pa.Table) -> Any:
        return through(steps, frame_of(of, signature))

    def said(of: pa.Table, short: ShortWay | None) -> Any:
        predictions = predict(estimator, of, signature, output, short)
        return predictions.prediction, predictions.score

    return Whole(estimator, signature.float_families(), matrix, said)


def way_of(estimator: Any, output: Output, signature: Signature = SIGNATURE) -> tuple[ShortWay | None, Way]:
    return find_way(whole(estimator, output, signature), GOLDEN, signature.categories)


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Strange values overflow, which versions are loaded without a word about."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


BINARY = Output(task="binary", classes=("no", "yes"))
REVERSED = Output(task="binary", classes=("yes", "no"), threshold=0.3)
REGRESSION = Output(task="regression")
#: What Ponte makes and people write, and how it becomes labels.
SHORT: dict[str, tuple[Callable[[], Any], Output]] = {
    "linear": (linear, BINARY),
    "positive class is the lesser, with a threshold": (linear, REVERSED),
    "ordinal and trees": (
        lambda: make_pipeline(
            columns(OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1)),
            HistGradientBoostingClassifier(max_iter=5),
        ),
        BINARY,
    ),
    "sparse": (
        lambda: make_pipeline(
            make_column_transformer((OneHotEncoder(handle_unknown="ignore"), ["shop", "items"]), sparse_threshold=1.0),
            StandardScaler(with_mean=False),
            LogisticRegression(),
        ),
        BINARY,
    ),
    "sigmoid": (lambda: calibrated("sigmoid"), REVERSED),
    "isotonic": (lambda: calibrated("isotonic"), BINARY),
    "no probabilities": (lambda: make_pipeline(columns(), RidgeClassifier()), BINARY),
    "a wrapper at the end": (
        lambda: make_pipeline(columns(), CalibratedClassifierCV(LogisticRegression(), cv=2)), BINARY),
    "search": (lambda: GridSearchCV(linear(), {"logisticregression__C": [1.0, 2.0]}, cv=2), BINARY),
    "regression": (lambda: make_pipeline(columns(), Ridge()), REGRESSION),
    "logarithm": (
        lambda: TransformedTargetRegressor(make_pipeline(columns(), Ridge()), func=np.sqrt, inverse_func=np.square),
        REGRESSION,
    ),
    "sparse with numbers": (
        lambda: make_pipeline(
            make_column_transformer(
                (OneHotEncoder(handle_unknown="ignore"), ["shop"]),
                (make_pipeline(SimpleImputer(), StandardScaler(with_mean=False)), NUMBERS),
                sparse_threshold=1.0,
            ),
            LogisticRegression(),
        ),
        BINARY,
    ),
    "numbers alone, column by column": (
        lambda: make_pipeline(make_column_transformer((SimpleImputer(), NUMBERS)), LogisticRegression()), BINARY),
}  # fmt: skip


@pytest.mark.parametrize("name", SHORT)
def test_an_estimator_takes_the_short_way_and_says_the_same(name: str) -> None:
    build, output = SHORT[name]
    labels = FRAME["items"] if output.task == "regression" else LABELS
    estimator = build().fit(FRAME, labels)
    short, way = way_of(estimator, output)
    assert (way.kind, short is not None) == ("short", True), way.why
    assert "the same bits for" in way.why
    for of in (rows(1, 3), rows(700, 4), GOLDEN.slice(3, 2)):
        then, now = (predict(estimator, of, SIGNATURE, output, each) for each in (None, short))
        assert then.prediction.tolist() == now.prediction.tolist()
        assert (then.score is None) == (now.score is None)
        assert then.score is None or then.score.tobytes() == now.score.tobytes()  # type: ignore[union-attr]


class Derived(StandardScaler):  # type: ignore[misc]
    """Another class, whatever it does."""


def of_numbers(*steps: Any) -> Any:
    return make_pipeline(
        make_column_transformer((make_pipeline(SimpleImputer(), *steps), NUMBERS)), LogisticRegression()
    )


#: What cannot be known, and what the log says of it.
REFUSED: dict[str, tuple[Callable[[], Any], str]] = {
    "no pipeline": (
        lambda: HistGradientBoostingClassifier(max_iter=3, categorical_features="from_dtype"),
        "HistGradientBoostingClassifier is asked with the features themselves",
    ),
    "another transformer": (
        lambda: of_numbers(PowerTransformer()), "PowerTransformer is not among the transformers that it knows"),
    "a derived class": (lambda: of_numbers(Derived()), "Derived is not among the transformers that it knows"),
    "a function": (lambda: of_numbers(FunctionTransformer(np.abs)), "FunctionTransformer with a function"),
    "frames": (
        lambda: of_numbers(StandardScaler().set_output(transform="pandas")),
        "StandardScaler with set_output(transform='pandas')",
    ),
    "several pipelines": (
        lambda: CalibratedClassifierCV(linear(), cv=2), "CalibratedClassifierCV is asked with the features themselves"),
    "a frame at the end": (
        lambda: make_pipeline(FunctionTransformer(), HistGradientBoostingClassifier(max_iter=3)),
        "is asked with a frame",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_an_estimator_that_is_not_known_goes_the_whole_way_and_says_why(name: str) -> None:
    build, why = REFUSED[name]
    short, way = way_of(build().fit(FRAME, LABELS), BINARY)
    assert (short, way.kind) == (None, "whole")
    assert why in way.why


@pytest.mark.parametrize(
    ("types", "nullable", "kind"), [(1, False, "whole"), (2, False, "short"), (3, False, "whole"), (4, True, "whole")]
)
def test_numbers_of_another_type_than_float64_go_the_whole_way(types: Any, nullable: bool, kind: str) -> None:
    signature = Signature(key=(), features=COLUMNS, label="text", types=types, nullable_integers=nullable)
    estimator = linear().fit(frame_of(ROWS, signature), LABELS)
    assert way_of(estimator, BINARY, signature)[1].kind == kind


def test_rows_that_an_encoder_refuses_are_refused_in_its_own_words() -> None:
    estimator = linear(OneHotEncoder()).fit(FRAME, LABELS)  # NULL is a category, an unseen text is none
    short, way = way_of(estimator, BINARY)
    assert way.kind == "short", way.why
    strange = pa.table({"size": [1.0], "items": [2], "shop": ["never seen"]})
    with pytest.raises(ValueError, match="Found unknown categories"):
        predict(estimator, strange, SIGNATURE, BINARY, short)
    infinite = pa.table({"size": [float("inf")], "items": [2], "shop": ["mill"]})
    with pytest.raises(ValueError, match="infinity"):
        predict(estimator, infinite, SIGNATURE, BINARY, short)


def off_by_one_bit(step: Any, kind: Any) -> Any:
    work, made = transformers.standard_scaler(step, kind)
    return (lambda values: np.nextafter(work(values), np.inf)), made


def in_another_order(step: Any, kind: Any) -> Any:
    work, made = transformers.standard_scaler(step, kind)
    return (lambda values: np.asfortranarray(work(values))), made


def wrong_for_extremes(step: Any, kind: Any) -> Any:
    work, made = transformers.standard_scaler(step, kind)
    return (lambda values: np.minimum(work(values), 1e9)), made


def wrong_for_five_rows(step: Any, kind: Any) -> Any:
    work, made = transformers.standard_scaler(step, kind)
    return (lambda values: work(values) + (len(values) == 5)), made


@pytest.mark.parametrize("fault", [off_by_one_bit, in_another_order, wrong_for_extremes, wrong_for_five_rows])
def test_a_way_that_is_not_the_same_is_not_taken(fault: Callable[[Any, Any], Any]) -> None:
    estimator = make_pipeline(columns(), StandardScaler(), LogisticRegression()).fit(FRAME, LABELS)
    assert way_of(estimator, BINARY)[1].kind == "short"
    from ponte.short_way import pipelines

    known = {**pipelines._known(), StandardScaler: fault}
    with patch.object(pipelines, "_known", return_value=known):
        short, way = way_of(estimator, BINARY)
    assert (short, way.kind) == (None, "whole")
    assert way.why.startswith("another matrix"), way.why


def test_rows_as_json_gives_them_are_compared_too() -> None:
    estimator = linear().fit(FRAME, LABELS)

    def column(rows: PlainRows, name: str) -> list[Any]:
        return [None, *rows.columns[name][1:]]

    with patch.object(PlainRows, "column", column):
        assert way_of(estimator, BINARY) == (None, Way("whole", "another matrix for 1 rows"))


def test_a_last_step_that_answers_otherwise_is_not_taken() -> None:
    estimator = linear().fit(FRAME, LABELS)
    both = whole(estimator, BINARY)

    def said(of: pa.Table, short: ShortWay | None) -> Any:
        prediction, score = both.said_of(of, short)
        return prediction, score if short is None or of.num_rows < 64 else score + 1e-17 + np.spacing(score)

    short, way = find_way(Whole(estimator, both.columns, both.matrix_of, said), GOLDEN, {})
    assert (short, way) == (None, Way("whole", "other predictions for 64 rows"))


def test_every_category_is_compared_however_many_there_are() -> None:
    texts = [f"shop {n}" for n in range(3_000)]
    many = pa.table({"size": np.ones(3_000), "items": np.arange(3_000), "shop": texts})
    signature = Signature(key=(), features=COLUMNS, label="text", types=4, categories={"shop": tuple(texts)})
    estimator = make_pipeline(columns(), Ridge()).fit(frame_of(many, signature), np.arange(3_000.0))
    asked = whole(estimator, REGRESSION, signature)
    seen: set[str | None] = set()

    def matrix(steps: Any, of: pa.Table) -> Any:
        seen.update(of["shop"].to_pylist())
        return asked.matrix_of(steps, of)

    _, way = find_way(Whole(estimator, asked.columns, matrix, asked.said_of), many.slice(0, 20), signature.categories)
    assert way.kind == "short"
    assert set(texts) <= seen


def test_an_estimator_that_fails_on_golden_rows_goes_the_whole_way() -> None:
    estimator = linear(OneHotEncoder()).fit(FRAME.assign(shop="mill"), LABELS)
    way = way_of(estimator, BINARY)[1]
    assert (way.kind, way.why) == ("whole", "ValueError when both ways were compared")
