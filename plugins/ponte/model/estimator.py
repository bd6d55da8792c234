"""`estimator.py` of a model folder: run it, and make what it defines findable again when the model is loaded.

A pickle refers to functions and classes by module name. The module of an `estimator.py` is therefore named after its
content and lives in `sys.modules`; a version keeps the text it was trained with and runs *that* before it is loaded, so
that a later edit of the folder changes nothing for versions that exist.

Other processes, those of `n_jobs` say, cannot import that module: its functions and classes travel to them by value.
"""

from __future__ import annotations

import ast
import hashlib
import io
import sys
import traceback
import types
from collections.abc import Collection, Iterator
from importlib.metadata import version
from typing import Any

from ponte.errors import ModelFolderError, Problem
from ponte.model.spec import METRICS, OF_LABELS, ModelSpec, Task
from ponte.packages.folder_requirements import MAKE_LOCK, REQUIREMENTS
from ponte.packages.libraries import distributions_of_modules

ESTIMATOR_FILE = "estimator.py"
SPEC = "model.toml"
#: What to do about an estimator that cannot be pickled.
KEEPABLE = (
    "define its functions and classes with def and class at the top of estimator.py: a lambda, and what is defined "
    "inside a function, cannot be found again when the version is loaded"
)
#: Begins the name of every module that is made of an `estimator.py`.
_MODULE = "ponte_estimator_"


def run_module(text: str, *, model: str) -> types.ModuleType:
    """Return the module that `text` defines, registered under a name made of the model and the text's digest."""
    from cloudpickle import register_pickle_by_value

    name = f"{_MODULE}{model}_{hashlib.sha256(text.encode()).hexdigest()[:12]}"
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
    register_pickle_by_value(module)
    return module


def dump(estimator: Any) -> bytes:
    """Return the estimator as compressed bytes that `joblib.load` reads once `run_module` has run its text.

    A function that has been to another process comes back as a copy of itself, which no pickle can name; the function
    itself is written in its place.
    """
    from joblib.compressor import BinaryZlibFile
    from joblib.numpy_pickle import NumpyPickler

    class Pickler(NumpyPickler):  # type: ignore[misc]
        def save(self, obj: Any) -> None:
            super().save(_original(obj))

    target = io.BytesIO()
    with BinaryZlibFile(target, "wb", compresslevel=3) as file:
        Pickler(file).dump(estimator)
    return target.getvalue()


def _original(value: Any) -> Any:
    """Return the function of an `estimator.py` that `value` is a copy of; anything else as it is."""
    if not isinstance(value, types.FunctionType) or not str(value.__module__).startswith(_MODULE):
        return value
    found: Any = sys.modules.get(value.__module__)
    for name in value.__qualname__.split("."):
        found = getattr(found, name, None)
    return found if isinstance(found, types.FunctionType) and found.__code__ == value.__code__ else value


def imported_libraries(text: str, *, known: Collection[str]) -> dict[str, str]:
    """Return the versions of the distributions that an `estimator.py` imports, and of what these import, by name.

    To be called when it has run, and built its estimator. What these import are the modules that their own modules
    hold at the top level; distributions of `known` are not searched for that, and neither is the standard library. A
    module that belongs to no distribution is searched, but has no version.
    """
    of = distributions_of_modules()
    direct = set(imported_names(text)) - sys.stdlib_module_names
    searched = [name for name in direct if not set(of.get(name, ())) & set(known)]
    names = direct | {top for name in searched for top in _held_by(name)}
    return {name: version(name) for name in sorted({found for top in names for found in of.get(top, ())})}


def imported_names(text: str) -> Iterator[str]:
    """Yield the modules that a text imports, without what follows the first dot; raises SyntaxError."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            yield node.module.partition(".")[0]


def _held_by(package: str) -> Iterator[str]:
    """The packages of all modules, classes and functions that the loaded modules of a package hold by name."""
    kinds = (type, types.FunctionType, types.BuiltinFunctionType)
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] != package:
            continue
        for value in list(vars(module).values()):
            held = value.__name__ if isinstance(value, types.ModuleType) else None
            held = value.__module__ if isinstance(value, kinds) else held
            if isinstance(held, str):
                yield held.partition(".")[0]


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
        what = f"does not run: {type(error).__name__}: {error}{line_of(error, model)}"
        raise refuse(what, missing_package(error), field="") from error
    build = getattr(module, "build_estimator", None)
    if not callable(build):
        raise refuse("is missing", "def build_estimator(): return an unfitted scikit-learn estimator")
    try:
        estimator = build()
    except (Exception, SystemExit) as error:
        what = f"fails: {type(error).__name__}: {error}{line_of(error, model)}"
        raise refuse(what, missing_package(error)) from error
    problem = _why_unsuitable(estimator, task)
    if problem is not None:
        raise refuse(*problem)
    return estimator


def _why_unsuitable(estimator: Any, task: Task) -> tuple[str, str] | None:
    """Return what is wrong with what `build_estimator()` returned and what helps, None when nothing is."""
    if isinstance(estimator, type):
        return f"returns the class {estimator.__name__}", f"return an object: {estimator.__name__}(…)"
    kind = type(estimator).__name__
    for method in ("fit", "predict", "get_params", "set_params"):
        if not callable(getattr(estimator, method, None)):
            return f"returns {kind}, which has no {method}()", "return a scikit-learn estimator"
    several = _of_several_outputs(estimator)
    if several is not None:
        fix = "return an estimator of one output; every other target is a model of its own"
        return f"returns {type(several).__name__}, a multi-output estimator", fix
    if task != "regression" and not hasattr(estimator, "predict_proba") and not _is_classifier(estimator):
        return f"returns {kind}, which is no classifier", "return a classifier"
    unkept = _what_cannot_be_kept(estimator)
    return None if unkept is None else (f"returns an estimator that cannot be stored: {unkept}", KEEPABLE)


def _what_cannot_be_kept(estimator: Any) -> str | None:
    """Return which part of an unfitted estimator cannot be pickled, None when all of it can."""
    why = _why_not_kept(estimator)
    if why is None:
        return None
    bad = {name: value for name, value in estimator.get_params(deep=True).items() if _why_not_kept(value)}
    functions = {name: value for name, value in bad.items() if isinstance(value, types.FunctionType | type)}
    if functions:
        return ", ".join(f"{name} is {value.__qualname__}" for name, value in functions.items())
    return f"{max(bad, key=len)}: {why}" if bad else why


def _why_not_kept(value: Any) -> str | None:
    try:
        dump(value)
    except Exception as error:  # noqa: BLE001 - the author's objects may raise anything
        return f"{type(error).__name__}: {error}"
    return None


def line_of(error: BaseException, model: str) -> str:
    """Return ` (line 3)` of the last line of the model's file that was being run; nothing if that is unknown."""
    file = f"{model}/{ESTIMATOR_FILE}"
    if isinstance(error, SyntaxError) and error.filename == file:
        return ""  # its own text says so
    numbers = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == file]
    return f" (line {numbers[-1]})" if numbers else ""


def missing_package(error: BaseException) -> str:
    """Return what helps against a module that is not installed; nothing for any other error."""
    if not isinstance(error, ModuleNotFoundError) or not error.name:
        return ""
    name = error.name.partition(".")[0]
    return f"add the package of {name} to {REQUIREMENTS} in the model folder, then {MAKE_LOCK}"


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
