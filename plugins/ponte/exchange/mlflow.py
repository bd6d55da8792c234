"""The files by which MLflow loads a version; MLflow itself is not needed to write them."""

from __future__ import annotations

import datetime as dt
import json
import pickle
from typing import TYPE_CHECKING

from ponte.model.estimator import run_module

if TYPE_CHECKING:
    from ponte.versions.loading import LoadedVersion

#: The release whose format this is.
_FORMAT = "3.17.2"
#: Folder of the MLflow model whose modules can be imported while it is loaded.
_CODE = "code"
_PROTOCOL = 5


def mlflow_files(loaded: LoadedVersion, text: str, requirements: str) -> dict[str, bytes]:
    """Return MLmodel, model.pkl, requirements.txt, python_env.yaml, and the module of the estimator's own classes.

    text : of the `estimator.py`; requirements : without MLflow itself, which is added. There is no signature: that of
    MLflow knows no categories, and with it `mlflow.pyfunc` refuses the frames that the estimator was fitted on.
    """
    version = loaded.version
    module = run_module(text, model=version.model).__name__
    python = version.libraries["python"]
    width = {"ponte_interval": version.interval, "ponte_half_width": version.half_width}
    interval = "".join(f"  {name}: {value!r}\n" for name, value in width.items() if value is not None)
    mlmodel = f"""\
flavors:
  python_function:
    code: {_CODE}
    env:
      virtualenv: python_env.yaml
    loader_module: mlflow.sklearn
    model_path: model.pkl
    predict_fn: predict
    python_version: {python}
  sklearn:
    code: {_CODE}
    pickled_model: model.pkl
    serialization_format: pickle
    sklearn_version: {version.libraries["scikit-learn"]}
metadata:
  ponte_model: {json.dumps(version.model)}
  ponte_version: {version.version}
  manifest_sha256: {version.manifest_sha256}
{interval}mlflow_version: {_FORMAT}
utc_time_created: '{dt.datetime.now(dt.UTC):%Y-%m-%d %H:%M:%S.%f}'
"""
    environment = f"python: {python}\nbuild_dependencies:\n- pip\ndependencies:\n- -r requirements.txt\n"
    return {
        "MLmodel": mlmodel.encode(),
        "model.pkl": pickle.dumps(loaded.estimator, protocol=_PROTOCOL),
        "requirements.txt": f"{requirements}mlflow=={_FORMAT}\n".encode(),
        "python_env.yaml": environment.encode(),
        f"{_CODE}/{module}.py": text.encode(),
    }
