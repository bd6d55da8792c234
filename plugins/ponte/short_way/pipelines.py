"""A short way through a pipeline whose transformers are known exactly: the same matrix, then its own last step.

scikit-learn takes milliseconds for a row that it computes in microseconds: each transformer checks and slices a frame.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, Literal

from ponte.short_way import transformers
from ponte.short_way.transformers import Kind, Made, Work, require
from ponte.short_way.values import NotKnown, Order, Sparse, columns_of, side_by_side, sparse_side_by_side

if TYPE_CHECKING:
    import pyarrow as pa

    from ponte.short_way.plain import PlainRows

#: Shown for a version that takes the short way and for one that does not.
WayKind = Literal["short", "whole"]


@dataclass(frozen=True, slots=True)
class Way:
    """How a version comes from rows to predictions, and why."""

    #: short: past the transformers of its pipeline. whole: through all of the estimator.
    kind: WayKind
    why: str

    def __str__(self) -> str:
        return f"the {self.kind} way: {self.why}"


NOT_COMPARED = Way("whole", "nothing was compared")


@dataclass(frozen=True, slots=True)
class ShortWay:
    """From rows to the matrix that the last step is asked with."""

    #: Name and family of the features, in the order of the version.
    columns: tuple[tuple[str, str], ...]
    #: The transformers that it stands for, in their order.
    steps: tuple[Any, ...]
    #: What is asked with the matrix: the estimator, with the last step of its pipeline in the pipeline's place.
    last: Any
    work: Work

    def features(self, rows: pa.Table | pa.RecordBatch | PlainRows) -> Any:
        """Return the matrix of rows, which hold at least the columns; raises NotKnown for rows that it cannot take."""
        require(rows.num_rows, "no row")
        made = self.work(columns_of(rows, self.columns))
        return made.as_csr() if isinstance(made, Sparse) else made


def shorten(estimator: Any, columns: Sequence[tuple[str, str]], order: Order = "C") -> ShortWay:
    """Return the short way of a fitted estimator; raises NotKnown, which says what is not known.

    columns : (name, family) of the features, in the order in which the estimator is given them. A family that is
    neither text nor one of `values.NUMBERS` is passed by: no step may use it. order : how the dense matrix of the
    pipeline itself lies in memory.
    """
    steps, last = _divided(estimator)
    steps = [step for step in steps if step is not None and step != "passthrough"]
    require(steps, f"{type(last).__name__} is asked with the features themselves")
    names, families = zip(*columns, strict=True)
    work, kind = _one_after_the_other(steps, Kind(families, names, order=order))
    require(kind.form != "columns", f"{type(last).__name__} is asked with a frame")
    kind.require_numbers()
    return ShortWay(tuple(columns), tuple(steps), last, work)


# ---------------------------------------------------------------- what an estimator is made of


def _divided(estimator: Any) -> tuple[list[Any], Any]:
    """Return the transformers at the beginning of an estimator, and the estimator without them; [] if it has none."""
    from sklearn.calibration import CalibratedClassifierCV
    from sklearn.pipeline import Pipeline

    if type(estimator) is Pipeline:
        steps, last = _divided(estimator.steps[-1][1])
        return [*(step for _, step in estimator.steps[:-1]), *steps], last
    if type(estimator) is CalibratedClassifierCV and len(estimator.calibrated_classifiers_) == 1:
        only = estimator.calibrated_classifiers_[0]
        steps, last = _divided(only.estimator)
        changed = {"calibrated_classifiers_": [_with(only, estimator=last)]}
    elif (name := _inner_attributes().get(type(estimator))) is not None:
        steps, last = _divided(getattr(estimator, name))
        changed = {name: last}
    else:
        return [], estimator
    return (steps, _with(estimator, **changed)) if steps else ([], estimator)


@cache
def _inner_attributes() -> Mapping[type, str]:
    """Return the classes that ask one estimator with just what they are asked with, and where it is."""
    from sklearn.compose import TransformedTargetRegressor
    from sklearn.frozen import FrozenEstimator
    from sklearn.model_selection import GridSearchCV, RandomizedSearchCV

    return {
        FrozenEstimator: "estimator",
        GridSearchCV: "best_estimator_",
        RandomizedSearchCV: "best_estimator_",
        TransformedTargetRegressor: "regressor_",
    }


def _with(whole: Any, **attributes: Any) -> Any:
    """Return a copy with other attributes, which leaves the original as it is."""
    other = copy.copy(whole)
    vars(other).update(attributes)
    return other


# ---------------------------------------------------------------- pipelines and column transformers


@cache
def _known() -> Mapping[type, Callable[[Any, Kind], Made]]:
    """Return what is known exactly: these classes, and none derived from them."""
    from sklearn import compose, impute, pipeline, preprocessing

    return {
        compose.ColumnTransformer: _column_transformer,
        impute.SimpleImputer: transformers.simple_imputer,
        pipeline.Pipeline: lambda step, kind: _one_after_the_other([inner for _, inner in step.steps], kind),
        preprocessing.FunctionTransformer: transformers.unchanged,
        preprocessing.MaxAbsScaler: transformers.max_abs_scaler,
        preprocessing.MinMaxScaler: transformers.min_max_scaler,
        preprocessing.OneHotEncoder: transformers.one_hot_encoder,
        preprocessing.OrdinalEncoder: transformers.ordinal_encoder,
        preprocessing.RobustScaler: transformers.robust_scaler,
        preprocessing.StandardScaler: transformers.standard_scaler,
    }


def _one_after_the_other(steps: Sequence[Any], kind: Kind) -> Made:
    works: list[Work] = []
    for step in steps:
        if step is None or step == "passthrough":
            continue
        name = type(step).__name__
        make = _known().get(type(step))
        if make is None:
            raise NotKnown(f"{name} is not among the transformers that it knows")
        output = getattr(step, "_sklearn_output_config", {}).get("transform", "default")
        require(output == "default", f"{name} with set_output(transform={output!r})")
        work, kind = make(step, kind)
        works.append(work)

    def one_after_the_other(values: Any) -> Any:
        for work in works:
            values = work(values)
        return values

    return works[0] if len(works) == 1 else one_after_the_other, kind


def _column_transformer(step: Any, kind: Kind) -> Made:
    """ColumnTransformer: some columns through each transformer, and the results side by side."""
    require(kind.form != "sparse", "ColumnTransformer after a sparse step")
    require(step.transformer_weights is None, "ColumnTransformer with transformer_weights")
    parts: list[tuple[list[int], Work]] = []
    width = 0
    for _, transformer, chosen in step.transformers_:
        places = _places(chosen, step, kind)
        if not places or (isinstance(transformer, str) and transformer == "drop"):
            continue
        names = tuple(kind.names[place] for place in places) if kind.names else ()
        of_part = Kind(tuple(kind.families[place] for place in places), names, order=kind.order)
        work, made = _one_after_the_other([transformer], of_part)
        made.require_numbers()
        parts.append((places, work))
        width += len(made.families)
    require(parts, "ColumnTransformer without any column")

    def side(values: Any) -> Any:
        columns = values if isinstance(values, list) else list(values.T)
        done = [work([columns[place] for place in places]) for places, work in parts]
        return sparse_side_by_side(done) if step.sparse_output_ else side_by_side(done, kind.order)

    return side, Kind(("number",) * width, form="sparse" if step.sparse_output_ else "matrix", order=kind.order)


def _places(chosen: Any, step: Any, kind: Kind) -> list[int]:
    """Return the places of the columns that a transformer was given, which are names, numbers, a mask or a slice."""
    import numpy as np

    every = np.arange(step.n_features_in_)
    if not isinstance(chosen, slice):
        chosen = np.asarray(chosen)
        require(chosen.ndim == 1, "ColumnTransformer that hands over one column as a series")
        if chosen.dtype.kind not in "biu" and len(chosen):
            place = {name: number for number, name in enumerate(step.feature_names_in_)}
            chosen = np.array([place[name] for name in chosen], dtype=int)
    elif isinstance(chosen.start, str) or isinstance(chosen.stop, str):
        raise NotKnown("ColumnTransformer with a slice of names")
    found = [int(number) for number in (every[chosen] if len(np.shape(chosen)) == 0 or len(chosen) else [])]
    if not kind.names or not hasattr(step, "feature_names_in_"):
        return found
    return [kind.names.index(step.feature_names_in_[number]) for number in found]
