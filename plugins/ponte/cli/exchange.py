"""Commands about versions that come from elsewhere, and that go there."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from ponte.cli import output
from ponte.cli.loop import Model


def import_(  # noqa: PLR0917 - every option of a command is one
    model: Model,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Of joblib, pickle or skops; or an MLflow folder.")],
    trained_until: Annotated[
        str, typer.Option(metavar="DAY", help="The last day of which it has seen anything, outcomes too.")
    ],
    sha256: Annotated[str | None, typer.Option(metavar="DIGEST", help="Of the file, as its maker told you.")] = None,
    trusted: Annotated[
        bool, typer.Option("--i-trust-this-file", help="Load it, whatever is in it: a pickle runs code.")
    ] = False,
    source: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Defines its own functions and classes; without it estimator.py."),
    ] = None,
    other_libraries: Annotated[
        bool, typer.Option("--other-libraries", help="Take it although it was made with another scikit-learn.")
    ] = False,
    as_of: Annotated[
        str | None, typer.Option(metavar="DAY", help="Measure by what was known at 00:00 UTC of this day, not today.")
    ] = None,
    json: output.Json = False,
) -> None:
    """Bring a fitted estimator as a version.

    It is measured on the windows after --trained-until, by what measures a training, judged by the same gate, and
    promoted or not. Exit status 1 when the version is not the champion afterwards.
    """
    import datetime as dt
    import uuid

    from ponte.exchange.arriving import accept
    from ponte.exchange.importing import Import, import_version
    from ponte.model.estimator import ESTIMATOR_FILE
    from ponte.model.windows import parse_day
    from ponte.notebook import judge
    from ponte.notebook.surroundings import runtime_of
    from ponte.notebook.tries import moment_of
    from ponte.schema import roles
    from ponte.storage.runs import Run, person

    arrived = accept(file, sha256=sha256, trusted=trusted)
    place = runtime_of(model, roles.TRAINER)
    now = dt.datetime.now(dt.UTC)
    said = Import(
        file=arrived,
        trained_until=parse_day(trained_until),
        accepted_by=person(),
        source=_text_of(source) if source else place.folder.text(ESTIMATOR_FILE),
        other_libraries_allowed=other_libraries,
    )
    run = Run(name := f"import__{now:%Y-%m-%dT%H:%M:%S}", f"{name}#{uuid.uuid4().hex}")
    moment = moment_of(as_of, now=now)
    revision = place.code_revision
    version = import_version(place.db, place.store, place.folder, said, as_of=moment, run=run, code_revision=revision)
    found = judge(model, version.version)
    if place.folder.spec.training.interval is not None:
        output.complain(
            "Its predictions come without an interval: the width is set on windows that neither fit nor measure, "
            "and an import measures on all others."
        )
    if json:
        facts: dict[str, Any] = {"model": model, "version": version.version, "sha256": arrived.sha256}
        facts |= {"outcome": found.verdict.outcome, "reason": found.verdict.reason}
        output.as_json({**facts, "champion": found.alias is not None, "next": found.next_step})
    else:
        print(f"Imported {arrived.path} (SHA-256 {arrived.sha256}) as version {version.version} of {model}.\n\n{found}")
    if found.alias is None:
        raise typer.Exit(1)


def _text_of(source: Path) -> str:
    from ponte.errors import PonteError

    try:
        return source.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        expected = "a file of Python that defines what the estimator's file names"
        raise PonteError("the source cannot be read", where=str(source), got=str(error), expected=expected) from error


def export(
    model: Model,
    words: Annotated[
        list[str], typer.Argument(metavar="[VERSION] FOLDER", help="The champion without a VERSION; a new FOLDER.")
    ],
    form: Annotated[
        Literal["folder", "mlflow"], typer.Option("--format", help="What loads it: predict.py in there, or MLflow.")
    ] = "folder",
) -> None:
    """Write a version into a folder that predicts without Ponte."""
    from ponte.errors import StackError
    from ponte.exchange.exporting import export_version
    from ponte.notebook.surroundings import runtime_of, version_of
    from ponte.schema import roles

    *number, folder = words
    if len(number) > 1 or not all(word.isdigit() for word in number) or folder.isdigit():
        raise StackError("not understood", got=" ".join(words), expected="a version, if any, and a folder: 3 ./churn-3")
    place = runtime_of(model, roles.VIEWER)
    version = version_of(place.db, model, int(number[0]) if number else None)
    files = export_version(place.db, place.store, version, Path(folder), mlflow=form == "mlflow")
    print(f"{folder}: version {version.version} of {model}, {len(files)} files. README.md says how to use it.")
