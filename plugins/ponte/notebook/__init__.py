"""The loop without Airflow, for a notebook: rows of a training, tries on them, versions to ask, compare and judge."""

from ponte.notebook.asking import AskableVersion, load_version
from ponte.notebook.comparing import Comparison, compare
from ponte.notebook.judging import Judged, judge
from ponte.notebook.tries import frame
from ponte.notebook.trying import Try, try_model

__all__ = [
    "AskableVersion", "Comparison", "Judged", "Try", "compare", "frame", "judge", "load_version", "try_model",
]  # fmt: skip
