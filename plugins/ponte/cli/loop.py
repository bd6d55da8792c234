"""Commands about one model: try an idea, let Airflow train and score, look at versions, judge one again."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import typer

from ponte.cli import output
from ponte.cli.models import model_names

Model = Annotated[str, typer.Argument(metavar="MODEL", help="Name of the model folder.", autocompletion=model_names)]

#: Seconds. A person may have to agree to a version.
_A_DAY = 86_400.0


def try_(
    model: Model,
    as_of: Annotated[
        str | None, typer.Option(metavar="DAY", help="Use what was known at 00:00 UTC of this day; today without it.")
    ] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Ask the database again, whatever was frozen before.")] = False,
    clean: Annotated[
        bool, typer.Option("--clean", help="Try nothing; remove the frozen rows of the model and its tries.")
    ] = False,
    json: output.Json = False,
) -> None:
    """Fit and measure a model folder as it is now; register nothing.

    On the rows of a training, compared with the champion and with the latest tries. No row stays in the database. The
    rows lie in .ponte/tries for 14 days: the next try takes seconds.
    """
    if clean:
        from ponte.notebook.surroundings import tries_root
        from ponte.notebook.tries import forget

        removed = forget(tries_root(), model)
        print(f"Removed the frozen rows of {removed} {'training' if removed == 1 else 'trainings'}.")
        return
    from ponte.notebook import try_model

    done = try_model(model, as_of, fresh=fresh)
    if json:
        facts = {"model": model, "try": done.number, "as_of": done.frozen.snapshot.as_of, "seconds": done.seconds}
        output.as_json({**facts, "figures": [m.as_json() for m in done.measured]})
    else:
        print(done)


def train(
    model: Model,
    as_of: Annotated[
        str | None, typer.Option(metavar="DAY", help="As if it were 00:00 UTC of this day; today without it.")
    ] = None,
) -> None:
    """Train a version, and promote it if the gate lets it.

    Runs the DAG MODEL__train in Airflow, and waits for it; Ctrl-C only stops the waiting. From then on the DAG runs by
    its schedule, too. Exit status 1 when a task fails.
    """
    _run(model, "train", {"as_of": as_of})
    versions(model)


def score(
    model: Model,
    window: Annotated[
        str | None, typer.Argument(metavar="DAY", help="First day of the window; the latest without it.")
    ] = None,
    allow_hindsight: Annotated[
        bool,
        typer.Option("--allow-hindsight", help="Let a version score it that may know how it ended; rows are marked."),
    ] = False,
) -> None:
    """Score a window, and publish its predictions.

    Runs the DAG MODEL__score in Airflow, and waits for it; Ctrl-C only stops the waiting. From then on the DAG runs by
    its schedule, too. Exit status 1 when a task fails.
    """
    _run(model, "score", {"window_start": window, **({"allow_hindsight": True} if allow_hindsight else {})})
    print(f"./ponte psql --role ponte_analyst -c 'SELECT * FROM predictions.{model} LIMIT 10'")


def _run(model: str, what: Literal["train", "score"], conf: dict[str, Any]) -> None:
    """Run a DAG of the model, and tell of its tasks as they end."""
    import datetime as dt
    import os

    from ponte.errors import PonteError, did_you_mean
    from ponte.local.airflow_api import connect
    from ponte.local.environment import ADMIN
    from ponte.local.status import airflow_of

    if model not in model_names():
        raise PonteError("no such model folder", got=model, fix=did_you_mean(model, model_names()))
    url, password = airflow_of(os.environ)
    dag_id, run_id = f"{model}__{what}", f"command__{dt.datetime.now(dt.UTC):%Y-%m-%dT%H:%M:%S.%f}"
    with connect(url, user=ADMIN, password=password) as api:
        api.wait_for_dag(dag_id)
        api.run(dag_id, run_id, {name: value for name, value in conf.items() if value is not None})
        print(f"DAG {dag_id}, run {run_id}: {url}/dags/{dag_id}/runs/{run_id}", flush=True)
        api.follow(dag_id, run_id, seconds=_A_DAY, fix="correct that, and give the same command again")


def versions(model: Model, json: output.Json = False) -> None:
    """List the versions of a model, and what each reached."""
    from ponte.notebook.comparing import versions as listed

    found = listed(model)
    if json:
        output.as_json(found)
        return
    shown = [{**row, "champion": "champion" if row["champion"] else ""} for row in found]
    heads = ["version", "", "as of", "fitted on", "holdout", "metric", "value", "gate"]
    output.table(
        heads,
        [
            ["–" if cell is None else f"{cell:.4g}" if isinstance(cell, float) else str(cell) for cell in row.values()]
            for row in shown
        ],
    )


def compare(
    model: Model,
    first: Annotated[int, typer.Argument(metavar="VERSION", help="As in: compare churn 3 5")],
    second: Annotated[int, typer.Argument(metavar="OTHER", help="The other one.")],
    json: output.Json = False,
) -> None:
    """Show two versions of a model side by side.

    Figures, parameters, features, libraries, SQL.
    """
    from dataclasses import asdict

    from ponte.notebook import compare as side_by_side

    found = side_by_side(model, first, second)
    if json:
        output.as_json(asdict(found))
    else:
        print(found)


def judge(
    model: Model,
    version: Annotated[int | None, typer.Argument(metavar="VERSION", help="The newest when none is named.")] = None,
    json: output.Json = False,
) -> None:
    """Judge a version again, by [gate] as it is now.

    It is promoted if the model's mode lets it. Nothing is trained. Exit status 1 when the version is not the champion
    afterwards.
    """
    from ponte.notebook import judge as judge_again

    found = judge_again(model, version)
    if json:
        verdict = found.verdict
        facts: dict[str, Any] = {"model": model, "version": verdict.version, "verdict_id": found.verdict_id}
        facts |= {"outcome": verdict.outcome, "reason": verdict.reason, "champion": found.alias is not None}
        output.as_json({**facts, "rules": [rule.as_json() for rule in verdict.rules], "next": found.next_step})
    else:
        print(found)
    if found.alias is None:
        raise typer.Exit(1)
