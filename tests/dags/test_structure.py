"""What the DAGs look like: an operator of the platform sees this in the UI."""

from __future__ import annotations

import datetime as dt
import inspect
import pkgutil
from collections.abc import Callable
from contextlib import nullcontext
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tests.sample_model import write_model

if TYPE_CHECKING:
    from airflow.sdk import DAG

Read = Callable[[], dict[str, "DAG"]]

TRAIN = ["freeze_windows", "check", "snapshot", "train", "evaluate", "gate", "promote"]
SCORE = ["freeze_batch", "check", "plan", "score", "guard", "publish", "clean_up"]


@pytest.mark.parametrize(("pipeline", "tasks"), [("train", TRAIN), ("score", SCORE)])
def test_the_stages_of_a_pipeline_follow_one_another(
    dags: Read, models_root: Path, pipeline: str, tasks: list[str]
) -> None:
    write_model(models_root)
    dag = dags()[f"visits__{pipeline}"]
    assert sorted(dag.task_ids) == sorted(tasks)
    for before, after in pairwise(tasks):
        assert after in dag.get_task(before).downstream_task_ids


def test_a_model_folder_shows_in_its_dags(dags: Read, models_root: Path) -> None:
    folder = write_model(models_root)
    for dag in (dags()["visits__train"], dags()["visits__score"]):
        assert dag.description == folder.spec.description
        assert dag.doc_md == folder.card
        assert {"ponte", "visits"} <= dag.tags
        assert dag.max_active_runs == 1
        assert not dag.catchup
        for task in dag.tasks:
            assert task.owner == "tests"
            assert task.execution_timeout
            assert task.retries == 4
            assert task.retry_exponential_backoff
            assert task.retry_policy


def test_weekly_runs_have_intervals_of_a_week(dags: Read, models_root: Path) -> None:
    """A plain cron string would give intervals of no length, and a run would not know its window."""
    from airflow.serialization.serialized_objects import DagSerialization

    write_model(models_root)
    dag = DagSerialization.from_dict(DagSerialization.to_dict(dags()["visits__score"]))
    moment = dt.datetime(2024, 2, 14, 12, tzinfo=dt.UTC)
    interval = dag.timetable.infer_manual_data_interval(run_after=moment)
    assert interval.end - interval.start == dt.timedelta(days=7)
    assert interval.end == dt.datetime(2024, 2, 12, 6, tzinfo=dt.UTC)


@pytest.mark.parametrize(
    ("pipeline", "name", "value", "good"),
    [
        ("score", "window_start", "2024-02-12", True),
        ("score", "window_start", None, True),
        ("score", "window_start", "yesterday", False),
        ("score", "window_start", 5, False),
        ("train", "as_of", "2024-02-12", True),
        ("train", "as_of", "2024-02-30", False),
    ],
)
def test_the_trigger_form_takes_days_only(  # noqa: PLR0917
    dags: Read, models_root: Path, pipeline: str, name: str, value: Any, good: bool
) -> None:
    from airflow.sdk.exceptions import ParamValidationError

    write_model(models_root)
    params = dags()[f"visits__{pipeline}"].params
    with nullcontext() if good else pytest.raises(ParamValidationError):
        params[name] = value
        params.validate()


def test_a_broken_folder_tells_what_is_wrong_and_hides_no_other(dags: Read, models_root: Path) -> None:
    write_model(models_root)
    write_model(models_root, "other")
    (models_root / "other" / "model.toml").write_text('descripton = "typo"\n')
    (models_root / "other" / "labels.sql").unlink()
    read = dags()
    assert set(read) == {"visits__train", "visits__score", "other__train", "other__score"}
    broken = read["other__train"]
    assert "broken" in broken.tags
    for part in (
        "descripton: unknown key",
        "did you mean 'description'?",
        "labels.sql: is missing",
        "gate: is missing",
    ):
        assert part in str(broken.doc_md)


def test_a_folder_with_an_impossible_name_gets_a_dag_too(dags: Read, models_root: Path) -> None:
    write_model(models_root)
    (models_root / "Größe 2").mkdir()
    assert "Gr__e_2__train" in {name.encode("ascii", "replace").decode().replace("?", "_") for name in dags()}


def test_operators_only_store_their_arguments() -> None:
    """`__init__` runs at every parse: it may not do anything."""
    import ponte.operators

    modules = [import_module(m.name) for m in pkgutil.iter_modules(ponte.operators.__path__, "ponte.operators.")]
    classes = {c for m in modules for _, c in inspect.getmembers(m, inspect.isclass) if c.__module__ == m.__name__}
    checked = 0
    for cls in (c for c in classes if c.__name__.endswith("Operator")):
        own = [p for p in inspect.signature(cls.__init__).parameters.values() if p.kind is p.KEYWORD_ONLY]
        values = {p.name: f"value of {p.name}" for p in own}
        made = cls(task_id="t", **{"model": "m", **values})
        assert {name: getattr(made, name) for name in values} == values
        assert set(made.template_fields) <= set(values)
        checked += 1
    assert checked == len(TRAIN) + len(SCORE) + 2  # the stages, their base, and the one of broken folders


def test_no_task_is_a_setup(dags: Read, models_root: Path) -> None:
    """Airflow clears a task's setups with it: clearing `score` would freeze the rows anew."""
    write_model(models_root)
    for dag in dags().values():
        assert not [task.task_id for task in dag.tasks if task.is_setup]
