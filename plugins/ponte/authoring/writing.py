"""A model folder from a table: read it, choose, write the five files. Never over a folder that is there."""

from __future__ import annotations

import datetime as dt
import json
import math
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ponte.authoring import choosing
from ponte.authoring.choosing import Calendar, Feature, Outcome, Said
from ponte.authoring.relations import giveaways, share_later
from ponte.authoring.source import Source, SourceColumn, key_figures, read_source, rows_per_day, sample_of
from ponte.errors import ModelFolderError, PonteError
from ponte.model.folders import load_folder, name_problems
from ponte.model.spec import Task
from ponte.storage.columns import KEY_FAMILIES
from ponte.storage.database import Database, quote

if TYPE_CHECKING:
    import pandas as pd

_TEMPLATES = Path(__file__).with_name("templates")
_SCORE = {1: "0 6 * * *", 7: "0 6 * * 1"}
_MONTHLY = "0 6 1 * *"
#: A moment that lies after the row's in more than this share of them may be that of the label.
MOSTLY = 0.5


@dataclass(frozen=True, kw_only=True)
class Request:
    """What somebody asks for."""

    name: str
    table: str
    key: tuple[str, ...]
    label: str
    time: str | None = None
    #: Column that says when the label was known.
    known: str | None = None
    task: Task | None = None
    owner: str = "me"
    #: Columns that are to be no features.
    without: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class _Chosen:
    """All that the files are made of."""

    asked: Request
    source: Source
    key: Sequence[SourceColumn]
    label: SourceColumn
    time: SourceColumn
    known: SourceColumn | None
    outcome: Outcome
    calendar: Calendar
    features: Sequence[Feature]
    #: Days after a window until its labels are known.
    delay: int
    sample: pd.DataFrame
    said: Said
    today: dt.date


@dataclass(frozen=True, kw_only=True)
class Written:
    """A new model folder, and what there is to say of it."""

    path: Path
    task: Task
    said: Said
    features: tuple[str, ...]
    #: The day as of which to train first.
    as_of: dt.date
    #: Whether the version of it can score the window that begins that day.
    scores: bool

    def __str__(self) -> str:
        said, name = self.said, self.path.name
        lines = [f"{self.path}: a {self.task} model of {len(self.features)} features: {', '.join(self.features)}"]
        for head, found in (
            ("Seen in the table:", said.problems),
            ("No features:", said.no_features),
            ("To decide next:", said.questions),
        ):
            lines += [head, *(f"  · {line}" for line in found)] if found else []
        lines += ["Then:", f"  ./ponte check {name}"]
        lines += [f"  ./ponte {command} {name} --as-of {self.as_of}" for command in ("try", "train")]
        return "\n".join([*lines, f"  ./ponte score {name} {self.as_of}"] if self.scores else lines)


def write_model(db: Database, root: Path, asked: Request, *, now: dt.datetime) -> Written:
    """Write the folder `root/name`, which `./ponte check` has no fault to find with, and return what there is to say.

    Raises PonteError when the folder is there already, when table or columns are not, and when no model can come of
    them: a key that is there twice, nothing dated, one window, one label. Then nothing is written.
    """
    path = root / asked.name
    if problems := name_problems(asked.name):
        raise ModelFolderError(asked.name, problems)
    if path.exists():
        fix = "choose another name, or remove the folder yourself"
        raise PonteError("there is such a folder already, and it is left as it is", where=str(path), fix=fix)
    source = read_source(db, asked.table)
    said = Said()
    key = [source.column(name, option="--key") for name in dict.fromkeys(asked.key)]
    label = source.column(asked.label, option="--label")
    if label in key:
        raise PonteError("the label is a part of the key", where="--label", got=label.name, fix="name the outcome")
    time = _time(source, asked, said)
    known = source.moment(asked.known, option="--known") if asked.known else None
    _require_key(db, source, key, time, said)
    calendar = choosing.calendar_of(rows_per_day(db, source, time, label), today=now.date(), said=said)
    sample = sample_of(db, source, label)
    outcome = choosing.outcome_of(label, _values(sample, label), asked.task)
    taken = [c.name for c in (*key, label, time, *([known] if known else []))]
    without = [source.column(name, option="--without").name for name in asked.without]
    said.left_out |= dict.fromkeys(without, "left out when the folder was written (--without)")
    taken += without
    later = _later(sample, source, time, taken, said)
    rest = [c for c in source.columns.values() if c.name not in taken]
    alike, near = giveaways(sample, label, rest, task=outcome.task)
    names = choosing.column_names(key, rest)
    features = choosing.features_of(source, rest, time=time, later=later, giveaways=alike, names=names, said=said)
    if near:
        how = "; ".join(f"{column}: {why}" for column, why in near.items())
        said.problems.append(f"near to {label.name}, so perhaps made of it or known later (--without …): {how}")
    chosen = _Chosen(
        asked=asked,
        source=source,
        key=key,
        label=label,
        time=time,
        known=known,
        outcome=outcome,
        calendar=calendar,
        features=features,
        delay=0 if known is None else math.ceil(share_later(sample, known, time)[1]),
        sample=sample,
        said=said,
        today=now.date(),
    )
    _ask(chosen, of_moment=any(share > MOSTLY for share in later.values()))
    _put(path, _files(chosen))
    first = calendar.first_training(chosen.delay)
    return Written(
        path=path,
        task=outcome.task,
        said=said,
        features=tuple(f.name for f in features),
        as_of=min(first, now.date()),
        scores=first == calendar.latest,
    )


# ---------------------------------------------------------------- what is asked for, held against the table


def _time(source: Source, asked: Request, said: Said) -> SourceColumn:
    dated = [c for c in source.columns.values() if c.family in ("date", "timestamp")]
    if asked.time is not None:
        time = source.moment(asked.time, option="--time")
    elif len(dated) == 1:
        time = dated[0]
        said.questions.append(f"rows are dated by {time.name}, the one date in the table: is it when a row was known?")
    elif dated:
        got = ", ".join(c.name for c in dated)
        raise PonteError("which column dates a row?", where="--time", got=got, expected="when the row was known")
    else:
        fix = "ALTER TABLE … ADD COLUMN day date, and fill it with the day on which each row was known"
        what = "nothing in the table is dated, and a model is measured on later rows than it learned from"
        raise PonteError(what, where=f"{source.schema}.{source.table}", expected="a date or a timestamp", fix=fix)
    if time.nulls:
        said.problems.append(f"{time.nulls:,} rows have no {time.name}: they are in no window")
    return time


def _require_key(db: Database, source: Source, key: Sequence[SourceColumn], time: SourceColumn, said: Said) -> None:
    for column in key:
        if column.family not in KEY_FAMILIES:
            got = f"{column.name} is {column.kind}"
            raise PonteError("a key is made of integers, texts, dates and timestamps", where="--key", got=got)
    rows, distinct, nulls = key_figures(db, source, key)
    if nulls:
        said.problems.append(f"{nulls:,} rows have NULL in the key: they are left out")
    if distinct == rows:
        return
    dated = [*key, time]
    fix = "let a view return one row per key, and name the view"
    if time not in key and key_figures(db, source, dated)[1] == rows:
        fix = f"--key {' --key '.join(c.name for c in dated)} is unique"
    named = ", ".join(c.name for c in key)
    got = f"{rows:,} rows, {distinct:,} different values of {named}"
    raise PonteError("the key is not unique", where="--key", got=got, expected="one row per key", fix=fix)


def _values(sample: pd.DataFrame, label: SourceColumn) -> list[Any]:
    values = sample[label.name].drop_duplicates()
    return [] if len(values) > choosing.TEXT_CLASSES else values.tolist()


def _later(
    sample: pd.DataFrame, source: Source, time: SourceColumn, taken: Sequence[str], said: Said
) -> dict[str, float]:
    later = {}
    for column in source.columns.values():
        if column.family in ("date", "timestamp") and column.name not in taken:
            later[column.name], most = share_later(sample, column, time)
            if later[column.name] > MOSTLY:
                said.questions.append(
                    f"{column.name} lies up to {most:.0f} days after {time.name}: if it is when the label was known, "
                    f"write the folder again with --known {column.name}"
                )
    return later


def _ask(chosen: _Chosen, *, of_moment: bool) -> None:
    """Say what a person has to decide. of_moment : it was asked already whether a column is the moment of the label."""
    said, label = chosen.said, chosen.label.name
    if chosen.known is None and not of_moment:
        said.questions.append(
            f"when is {label} known? Nothing in the folder says so: it counts as known with its row. --known COLUMN, "
            "or [training] label_delay_days"
        )
    if chosen.outcome.task == "binary":
        which = chosen.outcome.values[-1]
        said.questions.append(
            f"the score is the probability of {label} = {which}; [training] positive chooses the other"
        )
    days = chosen.calendar.days
    said.questions += [
        "were all features known at their row's time? If not, remove the folder and write it again --without them",
        f'covers = "past": a window of {days} days is scored when it is over; "coming" if all is known before',
        "the bound in [gate], the checks, and what is in italics in README.md",
    ]
    if chosen.source.sampled:
        said.problems.append("the table is large: figures are of a part of its rows")


# ---------------------------------------------------------------- files


def _files(chosen: _Chosen) -> dict[str, str]:
    names, source, label, known = choosing.column_names(chosen.key), chosen.source, chosen.label, chosen.known
    keys = [f"{c.sql} AS {names[c.name]}" for c in chosen.key]
    labels = [f"{chosen.outcome.sql} AS label"]
    if known is not None:
        labels.append(f"CAST({quote(known.name)} AS timestamptz) AS labelled_at")
    metric, bound = choosing.gate_of(chosen.outcome, chosen.sample[label.name])
    template, parts = choosing.estimator_of(chosen.outcome.task, chosen.features, source.rows)
    texts = {f.column.name: _few(chosen.sample[f.column.name]) for f in chosen.features if f.role == "category"}
    checks = choosing.checks_of(list(names.values()), chosen.features, texts, chosen.calendar.least_rows)
    values = {
        "name": chosen.asked.name,
        "owner": chosen.asked.owner,
        "table": f"{source.schema}.{source.table}",
        "source": source.name,
        "rows": source.rows,
        "today": chosen.today,
        "task": chosen.outcome.task,
        "values": chosen.outcome.values,
        "calendar": chosen.calendar,
        "score": _SCORE.get(chosen.calendar.days, _MONTHLY),
        "label_delay": chosen.delay,
        "label": label.name,
        "metric": metric,
        "bound": bound,
        "checks": checks,
        "keys": list(names.values()),
        "features": chosen.features,
        "left_out": chosen.said.left_out,
        "time": quote(chosen.time.name),
        "first": _day(chosen.time.least),
        "last": _day(chosen.time.greatest),
        "known": None if known is None else quote(known.name),
        "outcome": chosen.outcome.sql,
        "odd_labels": chosen.outcome.task == "regression" and not all(map(math.isfinite, chosen.sample[label.name])),
        "null_keys": " AND ".join(f"{quote(c.name)} IS NOT NULL" for c in chosen.key if c.nulls),
        **parts,
    }
    columns = [*keys, *(f"{f.sql} AS {f.name}" for f in chosen.features)]
    return {
        "model.toml": _render("model.toml.j2", values),
        "features.sql": _render("features.sql.j2", {**values, "columns": columns}),
        "labels.sql": _render("labels.sql.j2", {**values, "columns": [*keys, *labels]}),
        "estimator.py": _render(template, values),
        "README.md": _render("README.md.j2", values),
    }


def _day(value: Any) -> Any:
    return value.date() if isinstance(value, dt.datetime) else value


def _few(values: pd.Series[Any]) -> list[str]:
    found = sorted(str(value) for value in values.dropna().unique())
    return found if len(found) <= choosing.LISTED else []


def _render(template: str, values: dict[str, Any]) -> str:
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        undefined=jinja2.StrictUndefined,
        autoescape=False,  # noqa: S701 - no HTML
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["toml"] = _toml
    environment.filters["share"] = lambda count, rows: f"{count / rows:.1%}" if count else "–"
    return environment.get_template(template).render(values)


def _toml(value: Any) -> str:
    """Return a value as TOML writes it: JSON but for what is no text, number, boolean or list of these."""
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(_toml(part) for part in value) + "]"
    return json.dumps(value, ensure_ascii=False)


def _put(path: Path, files: dict[str, str]) -> None:
    """Let the folder appear whole, or not at all; Airflow reads it at any moment."""
    path.parent.mkdir(parents=True, exist_ok=True)
    scrap = Path(tempfile.mkdtemp(prefix=".new-", dir=path.parent))
    try:
        made = scrap / path.name
        made.mkdir()
        for file, text in files.items():
            (made / file).write_text(text, encoding="utf-8")
        load_folder(made)
        made.rename(path)
    except FileExistsError as error:
        raise PonteError("there is such a folder already, and it is left as it is", where=str(path)) from error
    finally:
        shutil.rmtree(scrap, ignore_errors=True)
