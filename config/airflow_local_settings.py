"""Import heavy libraries once, in the process that all tasks are forked from; each task is seconds faster then.

Airflow imports a module of this name in each of its processes, from `$AIRFLOW_HOME/config` or PYTHONPATH. It does
nothing unless the variable PONTE_PRELOAD says so (`1`), and the process is one whose children run tasks: a scheduler
with the LocalExecutor, or a Celery worker. Ponte's own modules are never imported here: such a process lives for weeks,
and tasks would go on with the code of its start.
"""

# ruff: noqa: INP001 - a folder of Airflow's, not a package

from __future__ import annotations

import importlib
import logging
import os
import sys
from collections.abc import Iterable, Mapping, Sequence

#: Airflow copies every public name of this module into its own settings, unless there is this list.
__all__: list[str] = []

#: What a scoring run imports, and most of what a training run does; parts are named where a package loads them late.
#: Importing them starts no thread of Python and no pool of OpenMP, which would hang a fork. The threads that OpenBLAS
#: and jemalloc start are theirs to end and to make anew around each fork, and they do.
LIBRARIES = (
    "sqlalchemy.dialects.postgresql.psycopg2",
    "pyarrow.compute",
    "pyarrow.parquet",
    "adbc_driver_postgresql.dbapi",
    "pandas",
    "joblib",
    "scipy.stats",
    "sklearn.calibration",
    "sklearn.compose",
    "sklearn.ensemble",
    "sklearn.frozen",
    "sklearn.impute",
    "sklearn.linear_model",
    "sklearn.pipeline",
    "sklearn.preprocessing",
    "great_expectations",
)

log = logging.getLogger(__name__)


def wanted(environ: Mapping[str, str]) -> bool:
    """Say whether PONTE_PRELOAD asks for it."""
    return environ.get("PONTE_PRELOAD", "").strip().lower() not in {"", "0", "false", "no", "off"}


def runs_tasks(argv: Sequence[str]) -> bool:
    """Say whether tasks will be forks of the Airflow command `argv`."""
    if sys.platform == "darwin":
        return False  # there a task is a new interpreter, which inherits nothing
    if list(argv[1:3]) == ["celery", "worker"]:
        return True
    if list(argv[1:2]) != ["scheduler"]:
        return False
    from airflow.configuration import conf

    return "LocalExecutor" in conf.get("core", "executor")


def preload(names: Iterable[str]) -> None:
    """Import libraries; tasks import those that cannot be imported here themselves, or say why they cannot."""
    # Great Expectations reads it when it is imported.
    os.environ.setdefault("GX_ANALYTICS_ENABLED", "false")
    for name in names:
        try:
            importlib.import_module(name)
        except Exception as error:  # noqa: BLE001 - whatever is wrong with a library, the scheduler must start
            log.warning("PONTE_PRELOAD: %s is not preloaded: %s: %s", name, type(error).__name__, error)


if wanted(os.environ) and runs_tasks(sys.argv):
    preload(LIBRARIES)
