"""`estimator.py` of a model folder: run it, and make what it defines findable again when the model is loaded.

A pickle refers to functions and classes by module name. The module of an `estimator.py` is therefore named after its
content and lives in `sys.modules`; a version keeps the text it was trained with and runs *that* before it is loaded, so
that a later edit of the folder changes nothing for versions that exist.
"""

from __future__ import annotations

import hashlib
import sys
import types
from typing import Any

from ponte.errors import ModelFolderError, Problem
from ponte.spec import Task

FILE = "estimator.py"


def run_module(text: str, *, model: str) -> types.ModuleType:
    """Return the module that `text` defines, registered under a name made of the model and the text's digest."""
    name = f"ponte_estimator_{model}_{hashlib.sha256(text.encode()).hexdigest()[:12]}"
    if name in sys.modules:
        return sys.modules[name]
    module = types.ModuleType(name)
    module.__file__ = f"{model}/{FILE}"
    sys.modules[name] = module
    try:
        exec(compile(text, module.__file__, "exec"), module.__dict__)  # noqa: S102 - the author's code is the model
    except BaseException:
        del sys.modules[name]
        raise
    return module


def load_estimator(text: str, *, model: str, task: Task) -> Any:
    """Return the unfitted estimator of `build_estimator()`.

    Raises ModelFolderError when the file does not run, has no `build_estimator`, or returns something that scikit-learn
    cannot fit for `task`.
    """

    def refuse(what: str, fix: str = "", field: str = "build_estimator") -> ModelFolderError:
        return ModelFolderError(model, [Problem(file=FILE, field=field, what=what, fix=fix)])

    try:
        module = run_module(text, model=model)
    except (Exception, SystemExit) as error:
        raise refuse(f"does not run: {type(error).__name__}: {error}", field="") from error
    build = getattr(module, "build_estimator", None)
    if not callable(build):
        raise refuse("is missing", "def build_estimator(): return an unfitted scikit-learn estimator")
    try:
        estimator = build()
    except (Exception, SystemExit) as error:
        raise refuse(f"fails: {type(error).__name__}: {error}") from error
    if isinstance(estimator, type):
        raise refuse(f"returns the class {estimator.__name__}", f"return an object: {estimator.__name__}(…)")
    for method in ("fit", "predict", "get_params", "set_params"):
        if not callable(getattr(estimator, method, None)):
            raise refuse(
                f"returns {type(estimator).__name__}, which has no {method}()", "return a scikit-learn estimator"
            )
    if task != "regression" and not hasattr(estimator, "predict_proba"):
        fix = "use a classifier with probabilities, or wrap it in CalibratedClassifierCV"
        raise refuse(f"returns {type(estimator).__name__}, which has no predict_proba()", fix)
    return estimator


def seed_estimator(estimator: Any, seed: int) -> Any:
    """Return the estimator with `seed` in every `random_state` that its author left None, at any depth."""
    free = {
        name: seed
        for name, value in estimator.get_params(deep=True).items()
        if (name == "random_state" or name.endswith("__random_state")) and value is None
    }
    return estimator.set_params(**free)
