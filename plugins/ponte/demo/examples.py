"""Two more models beside the flights: loan_amount, a regression, and comment_sentiment, which reads text.

Each is a folder below `demo/models/`. It is copied to the model folders, where it is the user's own from then on; then
its data are loaded, and it is trained, scored and watched like the flights.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from ponte.demo import pipeline
from ponte.demo.comments import COMMENTS
from ponte.demo.fetching import fetch
from ponte.demo.loans import LOANS
from ponte.demo.tables import Dataset, load
from ponte.errors import PonteError
from ponte.local.airflow_api import connect
from ponte.local.stack import admin_database
from ponte.model.folders import CARD, CODE_FILES
from ponte.runtime import models_root
from ponte.schema import roles
from ponte.storage.database import Database

FOLDERS = Path(__file__).parent / "models"

LOANS_SHOWN = """
SELECT loan_id, loan_purpose AS purpose, coalesce(annual_income_joint, annual_income)::integer AS income,
       round(prediction)::integer AS predicted, loan_amount AS borrowed
FROM predictions.loan_amount JOIN loans.loan USING (loan_id)
WHERE window_start = (SELECT max(window_start) FROM predictions.loan_amount)
ORDER BY prediction DESC, loan_id LIMIT 10
"""
COMMENTS_SHOWN = """
SELECT round(score::numeric, 3) AS score, round(rating::numeric, 1) AS rating, source, left(text, 80) AS text
FROM predictions.comment_sentiment JOIN comments.comment USING (source, comment_id)
WHERE window_start = (SELECT max(window_start) FROM predictions.comment_sentiment)
ORDER BY predictions.comment_sentiment.score DESC, source, comment_id LIMIT 10
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Example:
    """One of the two."""

    plan: pipeline.Plan
    data: Dataset
    #: Heading and query of some predictions beside what came of them.
    shown: tuple[str, str]


EXAMPLES: Mapping[str, Example] = {
    "loans": Example(
        plan=pipeline.Plan(
            model="loan_amount",
            metric="mae",
            digits=0,
            order="prediction",
            train_as_of="2018-03-05",
            first_interval="2018-02-26T00:00:00Z",
            last_interval="2018-03-20T00:00:00Z",
            weeks=4,
            period="March 2018",
        ),
        data=LOANS,
        shown=("The ten largest amounts predicted for the last week, and what was borrowed", LOANS_SHOWN),
    ),
    "comments": Example(
        plan=pipeline.Plan(
            model="comment_sentiment",
            metric="roc_auc",
            order="score",
            train_as_of="2014-05-05",
            first_interval="2014-04-28T00:00:00Z",
            last_interval="2014-05-20T00:00:00Z",
            weeks=4,
            period="May 2014",
        ),
        data=COMMENTS,
        shown=("The ten most positive comments of the last week, and how people rated them", COMMENTS_SHOWN),
    ),
}


def run(name: str, environ: Mapping[str, str]) -> None:
    """Copy the folder, load, train, score and print what came of it; raises PonteError when a step failed."""
    started = time.monotonic()
    example = EXAMPLES[name]
    plan, db = example.plan, Database(admin_database(environ))
    pipeline.say(f"The model folder {plan.model}")
    print(f"    {place(plan.model, models_root())}")
    pipeline.say(f"Loading the data: {example.data.file.filename}, {example.data.file.size / 1e6:.0f} MB, once")
    url = db.url.render_as_string(hide_password=False)
    print(f"    {load(url, example.data, partial(fetch, environ=environ))}")
    with db.begin() as connection:
        roles.open_source(connection, example.data.schema)
    target = pipeline.target_of(environ, plan)
    with connect(target.ui_url, user="admin", password=target.admin_password) as api:
        pipeline.train(api, plan)
        pipeline.score(api, plan)
        pipeline.monitor(api, plan)
    pipeline.report(db, plan)
    pipeline.say(example.shown[0])
    pipeline.table(db, example.shown[1])
    pipeline.watched(db, plan)
    print(f"\nDone in {time.monotonic() - started:.0f} s. The stack is still running:\n{target.hints}")


def place(model: str, root: Path) -> str:
    """Copy the model's folder below `root`, unless there is something of that name; return one line for people.

    Whole or not at all: what is half copied has a name that is no model's. Raises PonteError when it cannot be written.
    """
    folder, source = root / model, FOLDERS / model
    if folder.exists():
        changed = [file for file in (*CODE_FILES, CARD) if _bytes(folder / file) != _bytes(source / file)]
        return f"{folder} is there and stays" + (f"; other than the example's: {', '.join(changed)}" if changed else "")
    half = root / f".{model}.half"
    try:
        shutil.rmtree(half, ignore_errors=True)
        shutil.copytree(source, half, ignore=shutil.ignore_patterns("__pycache__"))
        half.rename(folder)
    except OSError as error:
        fix = f"copy {source} there yourself (with docker compose: on the host, then build and start again)"
        raise PonteError("the model folder cannot be written", where=str(folder), got=str(error), fix=fix) from error
    return f"{folder} was copied from {source}: it is yours to change"


def _bytes(path: Path) -> bytes | None:
    return path.read_bytes() if path.is_file() else None
