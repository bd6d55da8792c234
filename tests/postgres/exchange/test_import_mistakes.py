"""`./ponte import`: whatever the file is, what is wrong with it is said in one message, and nothing is registered."""

from __future__ import annotations

import csv
import io
import os
import pickle
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cloudpickle
import pyarrow as pa
import pytest
import sklearn
from tests.door import ponte
from tests.postgres.exchange.test_export import elsewhere
from tests.postgres.exchange.test_import import DAY, NOTEBOOK, UNTIL, fitted, rows
from tests.sample_model import World, write_model

from ponte.model.estimator import dump
from ponte.versions import registry
from ponte.versions.loading import load_version

FILE = "model.pkl"


class Leaves:
    """Ends the program that unpickles it."""

    def __reduce__(self) -> Any:
        return sys.exit, ("gone",)


def no_nulls(world: World) -> bytes:
    """An estimator that cannot do with NULL, fitted on rows without."""
    from sklearn.linear_model import LogisticRegression

    features, labels = rows(world)
    numbers = features.assign(shop=0.0).fillna(0.0)
    return pickle.dumps(LogisticRegression(max_iter=10_000).fit(numbers, labels))


def of_main(world: World) -> bytes:
    """A class that was defined in the notebook itself, by its name."""
    return b"\x80\x04\x8c\x08__main__\x8c\x07Doubled\x93)\x81."


def of_main_by_value(world: World) -> bytes:
    """The same as cloudpickle writes it: the class goes along."""
    names: dict[str, Any] = {"__name__": "__main__"}
    exec(NOTEBOOK, names)  # noqa: S102
    estimator = fitted(world)
    estimator[0].transformers_[1][1].steps[1] = ("twice", names["Doubled"]())
    content: bytes = cloudpickle.dumps(estimator)
    return content


def of_another_scikit_learn(world: World) -> bytes:
    content = pickle.dumps(fitted(world), protocol=2)
    other = "0" * len(sklearn.__version__)
    return content.replace(sklearn.__version__.encode(), other.encode())


def of_a_scikit_learn_that_moved_things(world: World) -> bytes:
    """As 1.8 names the losses of trees: what this one cannot find is in a package that seems to be the author's."""
    content = zlib.decompress(dump(fitted(world)))
    moved = b"sklearn.compose._column_transformer"
    old = content.replace(sklearn.__version__.encode(), b"0.1.2").replace(moved, b"_moved".ljust(len(moved), b"_"))
    return zlib.compress(old)


def a_lambda(world: World) -> bytes:
    from sklearn.preprocessing import FunctionTransformer

    estimator = fitted(world)
    estimator[0].transformers_[1][1].steps[1] = ("twice", FunctionTransformer(lambda x: x * 2))
    content: bytes = cloudpickle.dumps(estimator)
    return content


def nan_class(world: World) -> bytes:
    import numpy as np

    estimator = fitted(world)
    estimator[-1].classes_ = np.array([0.0, np.nan])
    return pickle.dumps(estimator)


def several_outputs(world: World) -> bytes:
    import numpy as np
    from sklearn.tree import DecisionTreeClassifier

    features, labels = rows(world)
    numbers = features.assign(shop=0.0)
    return pickle.dumps(DecisionTreeClassifier(max_depth=2).fit(numbers, np.stack([labels, 1 - labels], axis=1)))


#: What is in the file, and words of the message.
MISTAKES: dict[str, tuple[Callable[[World], bytes], list[str]]] = {
    "a text column that it was not fitted on": (no_nulls, ["cannot predict the rows of features.sql", "ValueError"]),
    "a class of __main__": (of_main, ["__main__.Doubled", "estimator.py", "--source"]),
    "a class by value": (of_main_by_value, ["cannot be stored", "__main__.Doubled", "cloudpickle puts code"]),
    "a lambda": (a_lambda, ["cannot be stored", "lambda", "with def"]),
    "another scikit-learn": (
        of_another_scikit_learn,
        ["scikit-learn 0", "expected: scikit-learn", "--other-libraries"],
    ),
    "a moved class": (of_a_scikit_learn_that_moved_things, ["made with another scikit-learn", "0.1.2", "fit it again"]),
    "a class NaN": (nan_class, ["other classes", "0.0, nan", "expected: 0, 1"]),
    "several outputs": (several_outputs, ["other classes", "[0, 1], [0, 1]"]),
    "nothing": (lambda _: b"", ["no file of an estimator", "an empty one"]),
    "a table": (lambda _: b"visit_id,label\n1,2\n", ["cannot be unpickled", "is it joblib"]),
    "no estimator": (lambda world: pickle.dumps({"model": fitted(world)}), ["no estimator", "dict", "whole pipeline"]),
    "an end": (lambda _: pickle.dumps(Leaves()), ["cannot be unpickled", "SystemExit: gone"]),
    "no ZIP": (lambda _: b"PK\x03\x04garbage", ["cannot be unpickled", "BadZipFile"]),
    "half of a gzip": (lambda _: b"\x1f\x8baaaaaaa", ["cannot be unpickled", "EOFError"]),
}


def refused(capsys: pytest.CaptureFixture[str], file: str = FILE, *more: str) -> str:
    """Import a file that cannot become a version; return what is said."""
    capsys.readouterr()
    assert ponte("import", "visits", file, "--trained-until", UNTIL, "--as-of", DAY, "--i-trust-this-file", *more) == 1
    return capsys.readouterr().err


@pytest.mark.parametrize("name", MISTAKES)
def test_what_is_in_the_file_is_said_in_one_message(door: World, capsys: pytest.CaptureFixture[str], name: str) -> None:
    make, words = MISTAKES[name]
    Path(FILE).write_bytes(make(door))
    said = refused(capsys)
    assert all(word in said for word in words), said
    assert registry.newest(door.db, "visits") == 1


def test_what_is_no_file_is_not_opened_and_what_memory_cannot_hold_is_not_read(
    door: World, capsys: pytest.CaptureFixture[str]
) -> None:
    os.mkfifo("pipe")  # reading it would wait for ever
    assert "no file of an estimator" in refused(capsys, "pipe")
    with Path("huge").open("wb") as file:
        file.truncate(2**40)
    said = refused(capsys, "huge")
    assert "too large" in said
    assert "1,099,511,627,776 bytes" in said
    assert "No such file" in refused(capsys, "nowhere")
    folder = Path("mlflow")
    folder.mkdir()
    (folder / "MLmodel").write_bytes(b"\xff\xfe")
    assert "no scikit-learn estimator" in refused(capsys, "mlflow")
    (folder / "MLmodel").write_text("flavors:\n  sklearn:\n    pickled_model: model.pkl\n")
    assert "model.pkl" in refused(capsys, "mlflow")
    assert door.ask("SELECT count(*) FROM ponte.imported_file") == 0


def test_a_source_that_cannot_be_read_or_run_is_named(door: World, capsys: pytest.CaptureFixture[str]) -> None:
    Path(FILE).write_bytes(pickle.dumps(fitted(door)))
    assert "the source cannot be read" in refused(capsys, FILE, "--source", "nowhere.py")
    Path("bytes.py").write_bytes(b"\x80\x04")
    assert "the source cannot be read" in refused(capsys, FILE, "--source", "bytes.py")
    for text, words in (
        ("def broken(:", "SyntaxError"),
        ("import not_installed_here", "add the package of not_installed_here"),
        ("x = 1\nraise SystemExit(x)", "line 2"),
    ):
        Path("own.py").write_text(text)
        said = refused(capsys, FILE, "--source", "own.py")
        assert "the source does not run" in said
        assert words in said


def test_labels_that_are_no_numbers_are_said(
    door: World, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    from sklearn.dummy import DummyRegressor

    label = "CASE WHEN visit_id % 7 = 0 THEN 'NaN' ELSE spent END"
    write_model(door.folder.path.parent, task="regression", label=label)
    Path(FILE).write_bytes(pickle.dumps(DummyRegressor().fit(*rows(door))))
    assert "286 of 2000 rows would be set aside" in refused(capsys)
    assert "label_is_finite(column='label')" in caplog.text


def test_the_positive_class_of_the_folder_is_that_of_an_import_and_of_its_export(
    door: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    estimator = fitted(door)
    Path(FILE).write_bytes(pickle.dumps(estimator))
    write_model(door.folder.path.parent, training="positive = 0\nthreshold = 0.3")
    ponte("import", "visits", FILE, "--trained-until", UNTIL, "--as-of", DAY, "--i-trust-this-file")
    version = registry.get_version(door.db, "visits", 2)
    assert version.classes == (1, 0)
    features = rows(door)[0]
    of_zero = estimator.predict_proba(features)[:, 0].tolist()
    said = load_version(door.store, version).predictions(pa.Table.from_pandas(features))
    assert said.score is not None
    assert said.score.tolist() == of_zero
    assert ponte("export", "visits", "2", "out") == 0
    assert "200 golden rows" in elsewhere("out/predict.py", "--verify", cwd=tmp_path)
    features.to_csv("rows.csv", index=False)
    table = list(csv.DictReader(io.StringIO(elsewhere("out/predict.py", "rows.csv", cwd=tmp_path))))
    assert [float(row["score"]) for row in table] == of_zero
    assert [int(row["prediction"]) for row in table] == [int(score < 0.3) for score in of_zero]


def test_a_version_without_a_folder_is_no_folder(door: World, capsys: pytest.CaptureFixture[str]) -> None:
    assert ponte("export", "visits", "1") == 1
    assert "a version, if any, and a folder" in capsys.readouterr().err
    assert not Path("1").exists()


def test_the_exported_program_passes_on_what_it_does_not_read_and_says_what_it_cannot(
    door: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ponte("export", "visits", "out") == 0
    head = "code,visit_id,shop,items,price,distance,member,shop_rate,note"
    good = "007,1,mill,2,3.5,,t,0.5,"
    Path("rows.csv").write_text(f"{head}\n{good}\n")
    lines = elsewhere("out/predict.py", "rows.csv", cwd=tmp_path).splitlines()
    assert lines[0].startswith("code,visit_id,note,prediction,score")
    assert lines[1].startswith("007,1,,")
    for text, words in (
        (f"{head}\n{good.replace('3.5', 'dear')}\n", "column 'price' is no number"),
        (f"{head.replace('price', 'prise')}\n{good}\n", "no column 'price' (number)"),
        ("", "not predicted: No columns"),
    ):
        Path("rows.csv").write_text(text)
        command = [sys.executable, "out/predict.py", "rows.csv"]
        done = subprocess.run(command, env={"PATH": os.environ["PATH"]}, capture_output=True, text=True, check=False)
        assert done.returncode == 1
        assert words in done.stderr
        assert "Traceback" not in done.stderr
