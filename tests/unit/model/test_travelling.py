"""What `estimator.py` defines goes to other processes and comes back, is stored, and its imports are known."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import pytest
import sklearn

from ponte.errors import ModelFolderError
from ponte.model.estimator import dump, imported_libraries, load_estimator, run_module

TEXT = """
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.compose import make_column_transformer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

TWO = 2


class Clip(TransformerMixin, BaseEstimator):
    def __init__(self, top=10.0):
        self.top = top

    def fit(self, rows, labels=None):
        self.fitted_ = True
        return self

    def transform(self, rows):
        return rows.clip(upper=self.top)


def half(rows):
    return rows / TWO


def build_estimator():
    both = make_column_transformer(
        (make_pipeline(Clip(), SimpleImputer(), FunctionTransformer(half)), ["a"]), (SimpleImputer(), ["b"]), n_jobs=2
    )
    pipeline = make_pipeline(both, LogisticRegression())
    return GridSearchCV(pipeline, {"logisticregression__C": [1.0, 2.0]}, cv=2, n_jobs=2)
"""


def test_class_and_function_of_estimator_py_work_in_other_processes_and_are_stored_by_name() -> None:
    """What comes back is a copy, which no pickle can name."""
    draws = np.random.default_rng(3)
    rows = pd.DataFrame(draws.normal(size=(60, 2)), columns=["a", "b"])
    estimator = load_estimator(TEXT, model="travels", task="binary").fit(rows, (rows["a"] > 0).astype(int))
    module = run_module(TEXT, model="travels")
    [(_, pipeline, _), *_] = estimator.best_estimator_[0].transformers_
    assert pipeline[-1].func is not module.half, "n_jobs did not send it away, so this shows nothing"
    content = dump(estimator)
    loaded = joblib.load(io.BytesIO(content))
    assert np.array_equal(loaded.predict_proba(rows), estimator.predict_proba(rows))
    [(_, pipeline, _), *_] = loaded.best_estimator_[0].transformers_
    assert (pipeline[-1].func, type(pipeline[0])) == (module.half, module.Clip)


@pytest.mark.parametrize(
    ("of", "named"),
    [
        ("FunctionTransformer(lambda rows: rows)", "functiontransformer__func is build_estimator.<locals>.<lambda>"),
        ("FunctionTransformer(half, kw_args={'how': lambda: 1})", "functiontransformer__kw_args: PicklingError"),
        ("FunctionTransformer(inner)", "functiontransformer__func is build_estimator.<locals>.inner"),
        ("Inner()", "Can't pickle"),
    ],
)
def test_what_cannot_be_stored_is_refused_before_anything_is_fitted(of: str, named: str) -> None:
    text = (
        TEXT.partition("def build_estimator")[0]
        + f"""
def build_estimator():
    def inner(rows):
        return rows

    class Inner(Clip):
        pass

    return make_pipeline({of}, LogisticRegression())
"""
    )
    with pytest.raises(ModelFolderError, match="cannot be stored") as caught:
        load_estimator(text, model="travels", task="binary")
    assert named in str(caught.value).replace("AttributeError", "PicklingError")
    assert "with def and class at the top of estimator.py" in str(caught.value)


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two distributions whose names are not their packages', and a module that belongs to none."""
    for distribution, package, version, text in (
        ("Quick-Boost", "quickboost", "4.6.0", "from .inner import Model"),
        ("deep-base", "deepbase", "1.2", "import json"),
        ("not-imported", "notimported", "9", ""),
    ):
        (tmp_path / package).mkdir()
        (tmp_path / package / "__init__.py").write_text(text)
        info = tmp_path / f"{distribution.replace('-', '_')}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\n")
        (info / "top_level.txt").write_text(f"{package}\n")
    (tmp_path / "quickboost/inner.py").write_text("import deepbase\nclass Model: pass\n")
    (tmp_path / "ownhelper.py").write_text("from quickboost import Model\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    names = ("quickboost", "quickboost.inner", "deepbase", "ownhelper")
    for name in names:
        monkeypatch.delitem(sys.modules, name, raising=False)
    yield
    for name in names:
        sys.modules.pop(name, None)


@pytest.mark.parametrize(
    ("imports", "found"),
    [
        ("import quickboost", {"Quick-Boost": "4.6.0", "deep-base": "1.2"}),
        ("def build():\n    from quickboost.inner import Model", {"Quick-Boost": "4.6.0", "deep-base": "1.2"}),
        ("import ownhelper", {"Quick-Boost": "4.6.0"}),
        ("import json, sys\ntry:\n    import gone\nexcept ImportError:\n    pass", {}),
    ],
    ids=["module", "inside a function", "through a module of no distribution", "nothing"],
)
@pytest.mark.usefixtures("packages")
def test_every_distribution_that_estimator_py_imports_is_recorded_with_what_it_imports(
    imports: str, found: dict[str, str]
) -> None:
    module = run_module(imports, model="libraries")
    getattr(module, "build", dict)()
    assert imported_libraries(imports, known=("scikit-learn",)) == found
    with_sklearn = imported_libraries(f"{imports}\nimport sklearn.svm", known=("scikit-learn",))
    assert with_sklearn == {**found, "scikit-learn": sklearn.__version__}
