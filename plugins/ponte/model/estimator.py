"""`estimator.py` of a model folder: run it, and make what it defines findable again when the model is loaded.

A pickle refers to functions and classes by module name. The module of an `estimator.py` is therefore named after its
content and lives in `sys.modules`; a version keeps the text it was trained with and runs *that* before it is loaded, so
that a later edit of the folder changes nothing for versions that exist.
"""

from __future__ import annotations

import hashlib
import sys
import traceback
import types
from collections.abc import Collection
from typing import Any

from ponte.errors import ModelFolderError, Problem
from ponte.model.spec import METRICS, OF_LABELS, ModelSpec, Task

ESTIMATOR_FILE = "estimator.py"
SPEC = "model.toml"


def run_module(text: str, *, model: str) -> types.ModuleType:
    """Return the module that `text` defines, registered under a name made of the model and the text's digest."""
    name = f"ponte_estimator_{model}_{hashlib.sha256(text.encode()).hexdigest()[:12]}"
    if name in sys.modules:
        return sys.modules[name]
    module = types.ModuleType(name)
    module.__file__ = f"{model}/{ESTIMATOR_FILE}"
    sys.modules[name] = module
    try:
        exec(compile(text, module.__file__, "exec"), module.__dict__)  # noqa: S102 - the author's code is the model
    except BaseException:
        del sys.modules[name]
        raise
    return module


def load_suitable(text: str, *, model: str, spec: ModelSpec) -> Any:
    """Return the unfitted estimator of `build_estimator()`, of which the spec asks nothing that it cannot give.

    Raises ModelFolderError as `load_estimator` does, and when the spec needs probabilities that nobody gives.
    """
    estimator = load_estimator(text, model=model, task=spec.task)
    problems = probability_problems(spec, estimator)
    if problems:
        raise ModelFolderError(model, problems)
    return estimator


def load_estimator(text: str, *, model: str, task: Task) -> Any:
    """Return the unfitted estimator of `build_estimator()`.

    Raises ModelFolderError when the file does not run, has no `build_estimator`, or returns something that scikit-learn
    cannot fit for `task`.
    """

    def refuse(what: str, fix: str = "", field: str = "build_estimator") -> ModelFolderError:
        return ModelFolderError(model, [Problem(file=ESTIMATOR_FILE, field=field, what=what, fix=fix)])

    try:
        module = run_module(text, model=model)
    except (Exception, SystemExit) as error:
        what = f"does not run: {type(error).__name__}: {error}{_line_of(error, model)}"
        raise refuse(what, _missing_package(error), field="") from error
    build = getattr(module, "build_estimator", None)
    if not callable(build):
        raise refuse("is missing", "def build_estimator(): return an unfitted scikit-learn estimator")
    try:
        estimator = build()
    except (Exception, SystemExit) as error:
        what = f"fails: {type(error).__name__}: {error}{_line_of(error, model)}"
        raise refuse(what, _missing_package(error)) from error
    if isinstance(estimator, type):
        raise refuse(f"returns the class {estimator.__name__}", f"return an object: {estimator.__name__}(…)")
    for method in ("fit", "predict", "get_params", "set_params"):
        if not callable(getattr(estimator, method, None)):
            raise refuse(
                f"returns {type(estimator).__name__}, which has no {method}()", "return a scikit-learn estimator"
            )
    several = _of_several_outputs(estimator)
    if several is not None:
        fix = "return an estimator of one output; every other target is a model of its own"
        raise refuse(f"returns {type(several).__name__}, a multi-output estimator", fix)
    if task != "regression" and not hasattr(estimator, "predict_proba") and not _is_classifier(estimator):
        raise refuse(f"returns {type(estimator).__name__}, which is no classifier", "return a classifier")
    return estimator


def _line_of(error: BaseException, model: str) -> str:
    """Return ` (line 3)` of the last line of the file that was being run; nothing if that is unknown."""
    file = f"{model}/{ESTIMATOR_FILE}"
    if isinstance(error, SyntaxError) and error.filename == file:
        return ""  # its own text says so
    numbers = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == file]
    return f" (line {numbers[-1]})" if numbers else ""


def _missing_package(error: BaseException) -> str:
    if not isinstance(error, ModuleNotFoundError) or not error.name:
        return ""
    return f"add the package of {error.name.partition('.')[0]} to requirements.in, then `make lock`"


def helper_problem(error: BaseException | None, beside: Collection[str]) -> Problem | None:
    """Return what is wrong with an import of a file that lies beside `estimator.py`; None when `error` is none of it.

    beside : names of the files and folders in the model folder, without their suffixes.
    """
    if not isinstance(error, ImportError):
        return None
    name = (error.name or "").partition(".")[0]
    if not ("relative import" in str(error) or (isinstance(error, ModuleNotFoundError) and name in beside)):
        return None
    what = f"imports {name or 'a module'} from the model folder, which no version keeps"
    fix = "write what it needs into estimator.py, or into a package that is installed"
    return Problem(file=ESTIMATOR_FILE, what=what, fix=fix)


def unkept(estimator: Any) -> list[Problem]:
    """Return the parts of an unfitted estimator that cannot be written into a version, a lambda for one."""
    if _can_be_kept(estimator):
        return []
    found = [
        Problem(file=ESTIMATOR_FILE, field=name, what=what, fix=fix)
        for name, value in estimator.get_params(deep=True).items()
        if isinstance(value, types.FunctionType) and not _can_be_kept(value)
        for what, fix in [_why_unkept(value)]
    ]
    what, fix = (
        "returns something that cannot be pickled",
        "define its classes and functions at the top of estimator.py",
    )
    return found or [Problem(file=ESTIMATOR_FILE, field="build_estimator", what=what, fix=fix)]


def _why_unkept(function: types.FunctionType) -> tuple[str, str]:
    if function.__name__ == "<lambda>":
        return "is a lambda, which no version can keep", "write it as a function, with def, at the top of estimator.py"
    where = function.__qualname__.partition(".<locals>")[0]
    return f"is a function inside {where}, which no version can keep", "move it to the top of estimator.py"


def _can_be_kept(value: Any) -> bool:
    import pickle

    try:
        pickle.dumps(value)
    except Exception:  # noqa: BLE001 - each class fails in its own way
        return False
    return True


def probability_problems(spec: ModelSpec, estimator: Any) -> list[Problem]:
    """Return what of the spec needs probabilities, when neither the estimator nor a calibration gives any."""
    if spec.task == "regression" or hasattr(estimator, "predict_proba"):
        return []
    name = type(last_estimator(estimator)).__name__
    if spec.training.calibration != "none":
        if hasattr(estimator, "decision_function"):
            return []
        what = f"{spec.training.calibration!r} needs predict_proba() or decision_function(), and {name} has neither"
        return [Problem(file=SPEC, field="training.calibration", what=what, fix="use another classifier")]
    found = []
    if spec.gate.metric not in OF_LABELS:
        found.append(("gate.metric", repr(spec.gate.metric), f"use {_of_labels(spec.task)}"))
    if spec.gate.calibration_maximum is not None:
        found.append(("gate.calibration_maximum", "it", "leave it out"))
    if spec.training.threshold is not None:
        found.append(("training.threshold", "it", "leave it out"))
    calibrate = 'make probabilities with [training] calibration = "sigmoid" and calibration_windows'
    if not hasattr(estimator, "decision_function"):
        calibrate = "use a classifier with predict_proba()"
    return [
        Problem(
            file=SPEC,
            field=field,
            what=f"{subject} needs probabilities, and {name} has no predict_proba()",
            fix=f"{fix}, or {calibrate}",
        )
        for field, subject, fix in found
    ]


def _of_labels(task: Task) -> str:
    *names, last = [metric for metric in METRICS[task] if metric in OF_LABELS]
    return f"{', '.join(names)} or {last}"


def last_estimator(estimator: Any) -> Any:
    """Return what predicts at the end of a pipeline; anything else as it is."""
    while getattr(estimator, "steps", None):
        estimator = estimator.steps[-1][1]
    return estimator


def _of_several_outputs(estimator: Any) -> Any | None:
    """Return the estimator, or the one that it wraps, that cannot be fitted on one label per row; None without."""
    one = last_estimator(estimator)
    while one is not None:
        tags = _tags(one)
        if tags is not None and not tags.target_tags.single_output:
            return one
        # Neither a search nor a wrapper passes this tag on.
        inner = getattr(one, "estimator", None) or getattr(one, "regressor", None)
        one = last_estimator(inner) if hasattr(inner, "get_params") else None
    return None


def _is_classifier(estimator: Any) -> bool:
    tags = _tags(estimator)
    return tags is not None and tags.estimator_type == "classifier"


def _tags(estimator: Any) -> Any | None:
    """Return scikit-learn's tags; None of what has none, or fails to tell them unfitted."""
    from sklearn.utils import get_tags

    try:
        return get_tags(estimator)
    except (AttributeError, TypeError, ValueError):
        return None


def seed_estimator(estimator: Any, seed: int) -> Any:
    """Return the estimator with `seed` in every `random_state` that its author left None, at any depth."""
    free = {
        name: seed
        for name, value in estimator.get_params(deep=True).items()
        if (name == "random_state" or name.endswith("__random_state")) and value is None
    }
    return estimator.set_params(**free)
