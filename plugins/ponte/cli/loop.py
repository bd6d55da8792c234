"""Commands about one model, without Airflow: try an idea, look at versions, judge one again."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from ponte.cli import output
from ponte.cli.models import model_names

Model = Annotated[str, typer.Argument(metavar="MODEL", help="Name of the model folder.", autocompletion=model_names)]


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
