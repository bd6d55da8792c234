"""`./ponte import`: what was fitted elsewhere is measured and judged as what was fitted here."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import types
from pathlib import Path
from typing import Any

import joblib
import pytest
from tests.door import ponte
from tests.sample_model import AS_OF, ESTIMATOR, World

from ponte.counting import reference
from ponte.errors import ArtifactRefused
from ponte.exchange.arriving import accept
from ponte.versions import registry
from ponte.versions.loading import load_imported, load_version

DAY = str(AS_OF.date())
#: Of the ten weeks' six, the last two are later.
UNTIL = "2024-01-28"
#: A notebook: a class of its own, in a module that is not installed.
NOTEBOOK = """
from sklearn.base import BaseEstimator, TransformerMixin


class Doubled(BaseEstimator, TransformerMixin):
    def fit(self, X, y=None):
        return self

    def transform(self, X):
        return X * 2
"""


def rows(world: World) -> Any:
    """Return features and labels of the first four weeks, as a notebook reads them: its own order of columns."""
    import pandas as pd

    names = ["distance", "items", "member", "price", "shop", "shop_rate", "label"]
    found = world.rows(
        "SELECT distance, items, member, price::float8, shop, 0.5::float8, returned::int FROM shop.visit "
        "WHERE day < '2024-01-29' ORDER BY visit_id"
    )
    frame = pd.DataFrame(found, columns=names)
    frame["member"] = frame["member"].astype(float)
    return frame.drop(columns="label"), frame["label"].to_numpy()


def fitted(world: World, *, own: bool = False) -> Any:
    from sklearn.compose import make_column_transformer
    from sklearn.impute import SimpleImputer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler

    twice = FunctionTransformer()
    if own:
        module = types.ModuleType("my_notebook")
        exec(NOTEBOOK, module.__dict__)  # noqa: S102
        import sys

        sys.modules["my_notebook"] = module
        twice = module.Doubled()
    numbers = make_pipeline(SimpleImputer(), twice, StandardScaler())
    columns = make_column_transformer(
        (OneHotEncoder(handle_unknown="ignore"), ["shop"]), (numbers, ["items", "price", "distance", "member"])
    )
    return make_pipeline(columns, LogisticRegression()).fit(*rows(world))


def save(estimator: Any, name: str) -> str:
    """Write the file as its maker does; return its digest."""
    path = Path(name)
    if path.suffix == ".joblib":
        joblib.dump(estimator, path, compress=3)
    elif path.suffix == ".skops":
        import skops.io

        skops.io.dump(estimator, path)
    elif path.suffix == "":
        path.mkdir()
        (path / "MLmodel").write_text("flavors:\n  sklearn:\n    pickled_model: model.pkl\n    code: null\n")
        path = path / "model.pkl"
    if path.suffix == ".pkl":
        path.write_bytes(pickle.dumps(estimator))
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("name", ["model.joblib", "model.pkl", "model.skops", "mlflow"])
def test_a_file_becomes_a_version_that_the_gate_judges_and_that_predicts_the_same(
    door: World, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    estimator = fitted(door)
    digest = save(estimator, name)
    status = ponte("import", "visits", name, "--trained-until", UNTIL, "--sha256", digest, "--as-of", DAY, "--json")
    said = json.loads(capsys.readouterr().out)
    assert (said["version"], said["sha256"]) == (2, digest)
    assert status == (0 if said["champion"] else 1)
    version = registry.get_version(door.db, "visits", 2)
    assert (version.origin, version.train_rows, version.holdout_rows) == ("imported", 0, 600)
    assert [c.name for c in version.signature.features] == list(rows(door)[0].columns)
    recorded = door.rows("SELECT sha256, format, trained_until::text, accepted_how FROM ponte.imported_file")
    assert recorded == [(digest, "skops" if name.endswith("skops") else "pickle", UNTIL, "digest")]
    assert door.ask("SELECT count(*) FROM ponte.gate_verdict WHERE version = 2") == 1
    assert door.ask("SELECT count(*) FROM ponte.metric WHERE version = 2 AND subject = 'champion:1'") > 0
    assert door.rows("SELECT version, origin FROM ponte.version_overview ORDER BY 1") == [
        *((1, "trained"), (2, "imported"))
    ]
    with door.db.begin() as connection:
        counted = reference.read(connection, "visits", 2)
    assert counted is not None
    assert [c.bins.name for c in counted.features.columns] == list(rows(door)[0].columns)
    assert (counted.features.parts, counted.answers.parts) == (("fitting",) * 4 + ("holdout",) * 2, ("holdout",) * 2)
    loaded = load_version(door.store, version)
    import pyarrow as pa

    features = rows(door)[0]
    assert loaded.predictions(pa.Table.from_pandas(features)).score.tolist() == (
        estimator.predict_proba(features)[:, 1].tolist()
    )
    # The same file again is the same version.
    ponte("import", "visits", name, "--trained-until", UNTIL, "--sha256", digest, "--as-of", DAY, "--json")
    assert json.loads(capsys.readouterr().out)["version"] == 2


class Trap:
    """Leaves a file behind when it is unpickled."""

    def __reduce__(self) -> Any:
        return os.mkdir, ("sprung",)


def test_nothing_is_unpickled_that_nobody_has_accepted_and_nothing_else_than_was_recorded(
    door: World, capsys: pytest.CaptureFixture[str]
) -> None:
    digest = save(Trap(), "trap.pkl")
    arguments = ("import", "visits", "trap.pkl", "--trained-until", UNTIL, "--as-of", DAY)
    assert ponte(*arguments) == 1
    assert digest in (said := capsys.readouterr().err)
    assert "--i-trust-this-file" in said
    assert ponte(*arguments, "--sha256", "0" * 64) == 1
    assert "another digest" in capsys.readouterr().err
    assert ponte(*arguments, "--sha256", digest[:8]) == 1
    assert not Path("sprung").exists()
    assert door.ask("SELECT count(*) FROM ponte.imported_file") == 0
    # What was recorded is not what is loaded: in the one place that unpickles.
    arrived = accept(Path("trap.pkl"), sha256=digest, trusted=False)
    file = registry.ImportedFile(
        model="visits",
        sha256="0" * 64,
        byte_count=1,
        format="pickle",
        trained_until=AS_OF.date(),
        accepted_by="somebody",
        accepted_how="trust",
    )
    number = registry.record_file(door.db, file)
    with pytest.raises(ArtifactRefused, match="not the one that was accepted"):
        load_imported(door.db, "visits", number, arrived.content, text=ESTIMATOR.format(kind="Ridge"))
    assert not Path("sprung").exists()
    # Accepted, it is loaded, after that was recorded; it is no estimator.
    assert ponte(*arguments, "--i-trust-this-file") == 1
    assert "the file holds no estimator" in capsys.readouterr().err
    assert Path("sprung").exists()
    assert door.ask("SELECT accepted_how FROM ponte.imported_file WHERE sha256 = :d", d=digest) == "trust"


def test_what_the_file_needs_and_is_not_here_is_named_and_can_be_brought(
    door: World, capsys: pytest.CaptureFixture[str]
) -> None:
    import sys

    save(fitted(door, own=True), "model.joblib")
    del sys.modules["my_notebook"]
    arguments = ("import", "visits", "model.joblib", "--trained-until", UNTIL, "--as-of", DAY, "--i-trust-this-file")
    assert ponte(*arguments) == 1
    said = capsys.readouterr().err
    assert "my_notebook.Doubled" in said
    assert "--source" in said
    Path("own.py").write_text(NOTEBOOK)
    assert ponte(*arguments, "--source", "own.py") in (0, 1)
    assert "as version 2 of visits" in capsys.readouterr().out
    assert load_version(door.store, registry.get_version(door.db, "visits", 2)).estimator is not None


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("columns", ["fitted on other columns", "no 'prise'", "did you mean 'price'"]),
        ("classes", ["other classes", "'no', 'yes'", "0, 1"]),
        ("unfitted", ["not fitted", "after fit()"]),
        ("until", ["no window is left", "2024-02-05"]),
        ("bytes", ["cannot be unpickled"]),
    ],
)
def test_what_does_not_fit_the_model_folder_is_said(
    door: World, capsys: pytest.CaptureFixture[str], change: str, words: list[str]
) -> None:
    from sklearn.ensemble import HistGradientBoostingClassifier

    features, labels = rows(door)
    estimator: Any = HistGradientBoostingClassifier(max_iter=2)
    numbers = features.drop(columns="shop").assign(shop=0.0)
    if change == "columns":
        numbers = numbers.rename(columns={"price": "prise"})
    if change == "classes":
        labels = [("no", "yes")[label] for label in labels]
    save(estimator if change == "unfitted" else estimator.fit(numbers, labels), "model.pkl")
    if change == "bytes":
        Path("model.pkl").write_bytes(Path("model.pkl").read_bytes()[:-20])
    until = "2024-02-10" if change == "until" else UNTIL
    arguments = ("model.pkl", "--trained-until", until, "--as-of", DAY, "--i-trust-this-file")
    assert ponte("import", "visits", *arguments) == 1
    said = capsys.readouterr().err
    assert all(word in said for word in words), said
    assert registry.newest(door.db, "visits") == 1
