"""What the DAGs look like: an operator of the platform sees this in the UI."""

from __future__ import annotations

import datetime as dt
import inspect
import pkgutil
import shutil
from collections.abc import Callable
from contextlib import nullcontext, suppress
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tests.sample_model import write_model

from ponte.errors import ModelFolderError

if TYPE_CHECKING:
    from airflow.sdk import DAG

    from ponte.model.folders import ModelFolder

Read = Callable[..., dict[str, "DAG"]]

TRAIN = ["freeze_windows", "check", "snapshot", "train", "evaluate", "gate", "promote"]
BY_HAND = [
    *("plan", "score_window", "roll_back", "clean_up", "set_champion", "mark_version"),
    *("prepare", "publish_batch", "clean_up"),
    *("measure_again", "judge_again", "promote", "challenge"),
    *("decide_alarm", "find_late"),
    *["tell"] * 8,
]
SCORE = ["freeze_batch", "check", "plan", "score", "guard", "publish", "judge_drift", "duel", "clean_up", "tell"]
MONITOR = ["read_labels", "measure", "measure_duels", "decide_duel", "alarms", "all_done"]
PIPELINES = ("train", "score", "monitor")
#: Tasks that are no link of the chain.
BESIDE = {"train": ["tell"], "score": [], "monitor": ["judge_drift", "tell"]}


@pytest.mark.parametrize(("pipeline", "tasks"), [("train", TRAIN), ("score", SCORE), ("monitor", MONITOR)])
def test_the_stages_of_a_pipeline_follow_one_another(
    dags: Read, models_root: Path, pipeline: str, tasks: list[str]
) -> None:
    write_model(models_root)
    dag = dags()[f"visits__{pipeline}"]
    assert sorted(dag.task_ids) == sorted([*tasks, *BESIDE[pipeline]])
    for before, after in pairwise(tasks):
        assert after in dag.get_task(before).downstream_task_ids


def test_a_model_folder_shows_in_its_dags(dags: Read, models_root: Path) -> None:
    folder = write_model(models_root)
    for dag in dags().values():
        assert dag.description == folder.spec.description
        assert dag.doc_md == folder.card.rstrip() + "\n"
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
    assert set(read) == {f"{model}__{pipeline}" for model in ("visits", "other") for pipeline in PIPELINES}
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


def dag_as_shown(dag: DAG) -> Any:
    """What Airflow keeps of a DAG, which is all that it shows and runs."""
    from airflow.serialization.serialized_objects import DagSerialization

    return {k: v for k, v in DagSerialization.to_dict(dag)["dag"].items() if k != "relative_fileloc"}


def break_model_toml(text: str) -> Callable[[Path], object]:
    """Return what puts `text` at the head of another model's model.toml."""

    def change(root: Path) -> None:
        path = write_model(root, "other").path / "model.toml"
        path.write_text(text + path.read_text())

    return change


def beside(name: str) -> Callable[[Path], object]:
    """Return what makes an empty folder of that name."""
    return lambda root: (root / name).mkdir()


#: What somebody does in the folder of models, the DAGs that come of it, and what their documentation says.
NEIGHBOURS: dict[str, tuple[Callable[[Path], object], str, str]] = {
    "a tag of 101 characters": (break_model_toml(f'tags = ["{"x" * 101}"]\n'), "other", "tags.0"),
    "a tag that is empty": (break_model_toml('tags = [""]\n'), "other", "tags.0"),
    "a deeply nested TOML": (break_model_toml("deep = " + "[" * 5000 + "]" * 5000 + "\n"), "other", "Recursion"),
    "a folder name of 250 characters": (beside("n" * 250), "n" * 200, "is no model name"),
    "a folder name of 250 letters beyond ASCII": (beside("é" * 120), "_" * 120, "is no model name"),
    "a cron that never comes": (
        lambda root: write_model(root, "other", checks='[schedule]\nscore = "0 0 30 2 *"'),
        "other",
        "schedule.score",
    ),
    "a cron with seconds": (
        lambda root: write_model(root, "other", checks='[schedule]\ntrain = "0 0 * * * 5"'),
        "other",
        "schedule.train",
    ),
    "a name that is that of a view": (
        lambda root: shutil.copytree(write_model(root, "other").path, root / "visits_latest"),
        "visits_latest",
        "the view predictions.visits_latest of another model",
    ),
    "a file instead of text": (lambda root: (root / "other" / "labels.sql").mkdir(parents=True), "other", "labels.sql"),
}


@pytest.mark.parametrize("name", NEIGHBOURS)
def test_whatever_is_wrong_with_one_folder_the_dags_of_the_others_stay(
    dags: Read, models_root: Path, name: str
) -> None:
    write_model(models_root)
    before = {dag_id: dag_as_shown(dag) for dag_id, dag in dags().items()}
    change, shown_as, said = NEIGHBOURS[name]
    with suppress(ModelFolderError):  # of write_model, which reads what it has written
        change(models_root)
    after = dags()

    assert {dag_id: dag_as_shown(after[dag_id]) for dag_id in before} == before
    assert set(before) == {f"visits__{pipeline}" for pipeline in PIPELINES}
    for pipeline in PIPELINES:
        broken = after[f"{shown_as}__{pipeline}"]
        assert "broken" in broken.tags
        assert said in str(broken.doc_md)
        assert max(map(len, broken.tags)) <= 100
        dag_as_shown(broken)


def test_a_card_whose_text_ends_like_a_file_name_is_shown_as_it_is(dags: Read, models_root: Path) -> None:
    """Airflow takes a documentation that ends in .md for a path, and fails the whole file when there is none."""
    write_model(models_root)
    write_model(models_root, "other", files={"README.md": "# Other\n\nMore is told in docs/other.md"})
    read = dags()

    assert set(read) == {f"{model}__{pipeline}" for model in ("visits", "other") for pipeline in PIPELINES}
    assert str(read["other__score"].doc_md).rstrip() == "# Other\n\nMore is told in docs/other.md"


@pytest.mark.parametrize("bad", ["a~b", "a b", "aéb"])
def test_a_broken_folder_takes_no_name_of_a_good_one(dags: Read, models_root: Path, bad: str) -> None:
    write_model(models_root, "a_b")
    before = {dag_id: dag_as_shown(dag) for dag_id, dag in dags().items()}
    (models_root / bad).mkdir()

    assert set(before) == {f"a_b__{pipeline}" for pipeline in PIPELINES}
    assert {dag_id: dag_as_shown(dag) for dag_id, dag in dags().items()} == before


def test_a_dag_that_airflow_refuses_is_replaced_by_one_that_says_why(models_root: Path) -> None:
    """Whatever the contract forgets to forbid."""
    from airflow.sdk import DAG

    from ponte.operators.dags import build_dags

    good, refused = write_model(models_root), write_model(models_root, "other")

    def build(folder: ModelFolder) -> DAG:
        return DAG(f"{folder.name}__score", schedule=None, tags={"x" * (101 if folder is refused else 100)})

    built = build_dags([good, refused], build, pipeline="score")
    assert set(built) == {"visits__score", "other__score"}
    assert "broken" in built["other__score"].tags
    assert "Airflow refuses the DAG" in str(built["other__score"].doc_md)
    assert "broken" not in built["visits__score"].tags


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
        assert set(made.template_fields) <= set(values) | {"model"}
        checked += 1
    assert checked > len({*TRAIN, *SCORE, *MONITOR}), "those of every stage, at least"


def test_every_task_works_as_the_role_that_may_do_just_that(dags: Read, models_root: Path) -> None:
    write_model(models_root, promotion="approval")
    used: dict[str, set[str]] = {}
    for dag in (*dags().values(), *dags(by_hand=True).values()):
        for task in dag.tasks:
            connection = task.partial_kwargs.get("connection_id") if task.is_mapped else task.connection_id
            role = connection or task.operator_class.default_connection_id
            used.setdefault(role, set()).add(f"{dag.dag_id.partition('__')[2]}.{task.task_id}")
    assert used == {
        "ponte_trainer": {
            *(f"train.{task}" for task in ("freeze_windows", "check", "snapshot", "train", "evaluate")),
            "judge.measure_again",
        },
        "ponte_scorer": {f"score.{task}" for task in SCORE if task != "tell"}
        | {"rollback.score_window", "rollback.clean_up", "publish_batch.prepare", "publish_batch.clean_up"},
        "ponte_promoter": {
            *("judge.judge_again", "judge.promote", "challenge.challenge", "monitor.decide_duel"),
            *("train.gate", "train.approve", "train.promote", "promote.set_champion", "mark_version.mark_version"),
            *("rollback.plan", "rollback.roll_back", "publish_batch.publish_batch", "alarm.decide_alarm"),
        },
        "ponte_monitor": {f"monitor.{task}" for task in (*MONITOR, "judge_drift") if task != "decide_duel"}
        | {"tell.find_late"}
        | {f"{dag.partition('__')[2]}.tell" for dag in (*dags(), *dags(by_hand=True))},
    }


@pytest.mark.parametrize(("pool", "expected"), [(None, "default_pool"), ("ponte_score", "ponte_score")])
def test_shards_wait_for_a_slot_of_the_pool_that_the_platform_names_and_no_other_task_does(
    dags: Read, models_root: Path, monkeypatch: pytest.MonkeyPatch, pool: str | None, expected: str
) -> None:
    """Its slots bound how many shards run at once, whatever the number of models and windows."""
    monkeypatch.delenv("PONTE_SCORE_POOL", raising=False)
    if pool is not None:
        monkeypatch.setenv("PONTE_SCORE_POOL", pool)
    write_model(models_root)
    read = {**dags(), **dags(by_hand=True)}
    pools = {(dag_id, task.task_id): task.pool for dag_id, dag in read.items() for task in dag.tasks}
    assert pools.pop(("visits__score", "score")) == expected
    assert set(pools.values()) == {"default_pool"}


def test_mapped_tasks_are_told_apart_by_what_they_do(dags: Read, models_root: Path) -> None:
    write_model(models_root)
    mapped = {
        task.task_id: task.map_index_template
        for dag in (*dags().values(), *dags(by_hand=True).values())
        for task in dag.tasks
        if task.is_mapped
    }
    assert mapped == {
        "score": "shard {{ task.shard.shard + 1 }} of {{ task.shard.shards }}",
        "score_window": "window {{ task.window_start }}",
    }


def test_a_duel_holds_nothing_up(dags: Read, models_root: Path) -> None:
    """Of a run Airflow looks at the last tasks that are no teardowns: whether it is green is not up to this one."""
    write_model(models_root)
    dag = dags()["visits__score"]
    task = dag.get_task("duel")
    assert task.is_teardown
    assert not task.on_failure_fail_dagrun
    assert task.upstream_task_ids == {"judge_drift"}
    assert dag.get_task("judge_drift").downstream_task_ids == {"duel"}


def test_cleaning_up_comes_after_a_failure_too_and_does_not_hide_it(dags: Read, models_root: Path) -> None:
    write_model(models_root)
    task = dags()["visits__score"].get_task("clean_up")
    assert task.is_teardown
    assert not task.on_failure_fail_dagrun
    assert task.upstream_task_ids == {"duel"}
    assert dags(by_hand=True)["ponte__rollback"].get_task("clean_up").is_teardown


def test_what_a_person_decides_has_a_dag_of_its_own(dags: Read, models_root: Path) -> None:
    write_model(models_root)
    found = {dag_id: sorted(dag.task_ids) for dag_id, dag in dags(by_hand=True).items()}
    assert found == {
        "ponte__alarm": ["decide_alarm", "tell"],
        "ponte__challenge": ["challenge", "tell"],
        "ponte__judge": ["judge_again", "measure_again", "promote", "tell"],
        "ponte__mark_version": ["mark_version", "tell"],
        "ponte__promote": ["set_champion", "tell"],
        "ponte__publish_batch": ["clean_up", "prepare", "publish_batch", "tell"],
        "ponte__rollback": ["clean_up", "plan", "roll_back", "score_window", "tell"],
        "ponte__tell": ["find_late", "tell"],
    }
    assert sorted(task for tasks in found.values() for task in tasks) == sorted(BY_HAND)


def test_the_form_of_publishing_asks_for_a_batch_and_a_reason(dags: Read, models_root: Path) -> None:
    for name in ("visits", "other"):
        write_model(models_root, name)
    dag = dags(by_hand=True)["ponte__publish_batch"]
    form = {name: dag.params.get_param(name).schema for name in dag.params}
    assert set(form) == {"model", "batch_id", "reason", "new_normal"}
    assert dag.params["new_normal"] is False
    assert sorted(form["model"]["enum"]) == ["other", "visits"]
    assert (form["batch_id"]["type"], form["batch_id"]["minimum"], form["batch_id"]["title"]) == ("integer", 1, "Batch")
    assert form["reason"]["minLength"] == 3
    assert dag.description == "Publish a batch that a guard rejected; see ponte.guard_result"
    assert dag.schedule is None


def test_no_task_is_a_setup(dags: Read, models_root: Path) -> None:
    """Airflow clears a task's setups with it: clearing `score` would freeze the rows anew."""
    write_model(models_root)
    for dag in dags().values():
        assert not [task.task_id for task in dag.tasks if task.is_setup]


def test_telling_comes_last_after_a_failure_too_and_turns_no_run_red_but_its_own(dags: Read, models_root: Path) -> None:
    write_model(models_root, promotion="approval")
    for dag in (*dags().values(), *dags(by_hand=True).values()):
        task = dag.get_task("tell")
        assert task.is_teardown
        assert not task.downstream_task_ids
        assert task.on_failure_fail_dagrun is (dag.dag_id == "ponte__tell")
    # A question is told while it waits for its answer.
    assert dags()["visits__train"].get_task("tell").upstream_task_ids == {"gate"}


def test_the_forms_of_ponte_and_of_airflow_ask_the_same(dags: Read, models_root: Path) -> None:
    """But for the model, which stands in the address, and a dry run, which is a preview there."""
    from ponte.steering.actions import ACTIONS

    types = {"one": "integer", "days": "array", "switch": "boolean"}
    write_model(models_root)
    read = {**dags(), **dags(by_hand=True)}
    for action in ACTIONS:
        params = read[action.dag_id("visits")].params
        assert set(params) - {"model", "dry_run"} == {field.name for field in action.fields}
        for field in action.fields:
            schema = params.get_param(field.name).schema
            taken = {schema["type"]} if isinstance(schema["type"], str) else set(schema["type"])
            assert taken - {"null"} == {types.get(field.kind, "string")}
            assert ("null" in taken) is bool(field.empty), "what may be left empty"
            assert schema.get("enum", []) == [value for value, _ in field.words]
            told = params.get_param(field.name).description
            assert schema["title"] == field.title
            assert told.startswith(field.words_of_help), "said once, in steering/actions.py"
            assert (
                f"(`{field.name}`): {field.words_of_help}" in read[action.dag_id("visits")].doc_md
                or "model" not in params
            )
