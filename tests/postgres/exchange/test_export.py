"""`./ponte export`: the folder predicts elsewhere what the version predicts here, to the last bit."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import subprocess
import sys
import venv
from pathlib import Path

import pyarrow as pa
import pytest
from tests.door import ponte
from tests.postgres.exchange.test_import import DAY, UNTIL
from tests.postgres.exchange.test_import import rows as rows_of_a_notebook
from tests.postgres.offline.test_files import rows_of_week
from tests.sample_model import WEEK, World

from ponte.versions import registry
from ponte.versions.loading import load_version

#: Loads the folder as MLflow does: the module beside it, then the pickle.
AS_MLFLOW = """
import json, pickle, sys
from pathlib import Path
folder = Path(sys.argv[1])
sys.path.insert(0, str(folder / "code"))
assert not any(name.startswith("ponte") for name in sys.modules)
model = pickle.loads((folder / "model.pkl").read_bytes())
sys.path.insert(0, str(folder))
import predict
portable = predict.load(folder)
import pandas as pd
golden = json.loads((folder / "golden.json").read_text())
rows = pd.DataFrame({n: pd.Series(v, dtype=object) for n, v in golden["columns"].items()})
print(json.dumps(model.predict_proba(portable.frame(rows))[:, 1].tolist() == golden["score"]))
"""
#: With MLflow itself.
WITH_MLFLOW = """
import json, sys
sys.path.insert(0, sys.argv[1])
import mlflow.pyfunc, mlflow.sklearn, predict
import pandas as pd
golden = json.load(open(sys.argv[1] + "/golden.json"))
rows = predict.load(sys.argv[1]).frame(
    pd.DataFrame({n: pd.Series(v, dtype=object) for n, v in golden["columns"].items()})
)
model = mlflow.sklearn.load_model(sys.argv[1])
assert model.predict_proba(rows)[:, 1].tolist() == golden["score"]
assert mlflow.pyfunc.load_model(sys.argv[1]).predict(rows).tolist() == golden["prediction"]
print(json.dumps(True))
"""
#: A notebook that knows nothing of Ponte.
NOTEBOOK = """
import json, pickle
import pandas as pd
from sklearn.compose import make_column_transformer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
rows = pd.read_csv("fitting.csv")
labels = rows.pop("label")
numbers = make_pipeline(SimpleImputer(), StandardScaler())
columns = make_column_transformer(
    (OneHotEncoder(handle_unknown="ignore"), ["shop"]), (numbers, ["items", "price", "distance", "member"])
)
model = make_pipeline(columns, LogisticRegression()).fit(rows, labels)
with open("notebook.pkl", "wb") as file:
    pickle.dump(model, file)
print(json.dumps(model.predict_proba(rows)[:, 1].tolist()))
"""


def elsewhere(*words: object, python: str = sys.executable, cwd: Path) -> str:
    """Run a program of another process, which knows nothing of Ponte."""
    environment = {"PATH": os.environ["PATH"], "HOME": str(cwd), "OMP_NUM_THREADS": "1"}
    command = [python, "-P", *(str(word) for word in words)]
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr + done.stdout
    return done.stdout


def test_the_folder_predicts_in_another_process_what_was_published_to_the_last_bit(
    door: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = rows_of_week(door)
    rows.to_csv("rows.csv", index=False)
    assert ponte("export", "visits", "1", "out") == 0
    out = tmp_path / "out"
    assert "README.md" in capsys.readouterr().out
    assert "200 golden rows" in elsewhere(out / "predict.py", "--verify", cwd=tmp_path)
    said = list(csv.DictReader(io.StringIO(elsewhere(out / "predict.py", "rows.csv", cwd=tmp_path))))
    assert [(int(r["visit_id"]), int(r["prediction"]), float(r["score"])) for r in said] == door.rows(
        "SELECT visit_id, prediction, score FROM predictions.visits WHERE window_start = :week ORDER BY visit_id",
        week=WEEK,
    )
    # A changed file is not loaded.
    (out / "estimator.py").write_text("raise SystemExit('ran')")
    environment = {"PATH": os.environ["PATH"]}
    command = [sys.executable, str(out / "predict.py"), "--verify"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "not loaded, these files were changed: estimator.py" in done.stderr
    assert ponte("export", "visits", "out") == 1
    assert "there already" in capsys.readouterr().err


def test_the_form_of_mlflow_holds_the_same_estimator_and_its_module(door: World, tmp_path: Path) -> None:
    assert ponte("export", "visits", "out", "--format", "mlflow") == 0
    (tmp_path / "load.py").write_text(AS_MLFLOW)
    assert json.loads(elsewhere("load.py", "out", cwd=tmp_path)) is True
    described = (tmp_path / "out" / "MLmodel").read_text()
    assert "pickled_model: model.pkl" in described
    assert "signature" not in described, "MLflow would refuse categories"


@pytest.mark.skipif(not os.environ.get("PONTE_MLFLOW_TEST"), reason="fresh environments: set PONTE_MLFLOW_TEST=1")
@pytest.mark.parametrize("form", ["folder", "mlflow"])
def test_the_folder_predicts_in_an_environment_made_of_its_own_requirements(
    door: World, tmp_path: Path, form: str
) -> None:
    assert ponte("export", "visits", "out", "--format", form) == 0
    venv.create(tmp_path / "fresh", with_pip=True)
    python = str(tmp_path / "fresh" / "bin" / "python")
    pip = [python, "-m", "pip", "install", "-q", "-r", str(tmp_path / "out" / "requirements.txt")]
    subprocess.run(pip, check=True)
    assert "200 golden rows" in elsewhere("out/predict.py", "--verify", python=python, cwd=tmp_path)
    # And what is fitted there, imported, scored by Ponte, and taken back there.
    features, labels = rows_of_a_notebook(door)
    features.assign(label=labels).to_csv("fitting.csv", index=False)
    Path("notebook.py").write_text(NOTEBOOK)
    there = json.loads(elsewhere("notebook.py", python=python, cwd=tmp_path))
    digest = hashlib.sha256(Path("notebook.pkl").read_bytes()).hexdigest()
    ponte("import", "visits", "notebook.pkl", "--trained-until", UNTIL, "--as-of", DAY, "--sha256", digest)
    imported = load_version(door.store, registry.get_version(door.db, "visits", 2))
    said = imported.predictions(pa.Table.from_pandas(features))
    assert said.score is not None
    assert said.score.tolist() == there
    assert ponte("export", "visits", "2", "out2", "--format", form) == 0
    assert "200 golden rows" in elsewhere("out2/predict.py", "--verify", python=python, cwd=tmp_path)
    if form == "mlflow":
        (tmp_path / "load.py").write_text(WITH_MLFLOW)
        for folder in ("out", "out2"):
            assert json.loads(elsewhere("load.py", folder, python=python, cwd=tmp_path).splitlines()[-1]) is True
