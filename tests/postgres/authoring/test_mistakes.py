"""What newcomers get wrong: `./ponte check` names the step, the column and the cure, and none of it reaches a training.

`pytest -n 0 -s` prints each mistake with its message and the seconds to it.
"""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
import sqlalchemy as sa
from tests.sample_model import ESTIMATOR, FEATURES_SQL, LABELS_SQL, World

from ponte.authoring.examining import Examined, examine
from ponte.authoring.rows import Reading
from ponte.errors import PonteError
from ponte.model.folders import BrokenFolder, ModelFolder, find_folders
from ponte.model.inspection import inspect_folder
from ponte.model.windows import midnight
from ponte.schema import roles
from ponte.storage.database import Database

NOW = dt.datetime(2024, 3, 12, 8, tzinfo=dt.UTC)
USUAL = ESTIMATOR.format(kind="LogisticRegression")
LABELS = LABELS_SQL.format(label="returned::int")
KNOWN = LABELS.rstrip() + " AND known_at <= CAST(:as_of AS timestamptz)\n"


def estimator(body: str, imports: str = "") -> str:
    """Return an estimator.py whose build_estimator() has this body."""
    return (
        f"{imports}\nfrom sklearn.compose import make_column_transformer\n"
        "from sklearn.ensemble import HistGradientBoostingClassifier\n"
        "from sklearn.impute import SimpleImputer\nfrom sklearn.linear_model import LogisticRegression\n"
        "from sklearn.pipeline import make_pipeline\n"
        "from sklearn.preprocessing import FunctionTransformer, OneHotEncoder\n"
        f"\n\ndef build_estimator():\n    {body}\n"
    )


@dataclass(frozen=True)
class Mistake:
    """A folder with one mistake, or several."""

    #: What the message has to hold: of the step or place, the column, and the cure.
    says: tuple[str, ...]
    files: dict[str, str] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    #: Done to the world, beside the folder.
    change: Callable[[World], object] = lambda _: None


def features(more: str) -> dict[str, str]:
    """Return a features.sql with one more column."""
    return {"features.sql": FEATURES_SQL.replace("r.rate AS", f"{more}, r.rate AS")}


TREES = estimator('return HistGradientBoostingClassifier(categorical_features="from_dtype")')
MISTAKES: dict[str, Mistake] = {
    "text without an encoder": Mistake(
        ("estimator.py: LogisticRegression: column shop is text", "OneHotEncoder(handle_unknown="),
        {"estimator.py": estimator("return LogisticRegression()")},
    ),
    "NULL without an imputer": Mistake(
        ("SimpleImputer() before it", "LogisticRegression: columns items, distance, member, shop_rate hold NULL"),
        {"estimator.py": estimator(
            'return make_pipeline(make_column_transformer((OneHotEncoder(), ["shop"]), remainder="passthrough"), '
            "LogisticRegression())"
        ), **features("1 AS one")},
    ),
    "a timestamp left in": Mistake(
        ("HistGradientBoostingClassifier: column known_at is a moment", "AS days_since_known_at"),
        {"estimator.py": TREES, **features("v.known_at")},
    ),
    "a vectorizer that is given the whole frame": Mistake(
        ("TfidfVectorizer is given a whole frame", "column shop is text", '(TfidfVectorizer(), "shop")'),
        {"estimator.py": estimator(
            "return make_pipeline(TfidfVectorizer(), LogisticRegression())",
            "from sklearn.feature_extraction.text import TfidfVectorizer",
        )},
    ),
    "a vectorizer that is given a list of one column": Mistake(
        ("; column word is text", "TfidfVectorizer is given a whole frame", '(TfidfVectorizer(), "word")'),
        {"estimator.py": estimator(
            'return make_pipeline(make_column_transformer((TfidfVectorizer(), ["word"])), LogisticRegression())',
            "from sklearn.feature_extraction.text import TfidfVectorizer",
        ), **features("coalesce(v.shop, 'none') AS word")},
    ),
    "a lambda": Mistake(
        ("estimator.py: build_estimator: returns an estimator that cannot be stored", "<lambda>", "with def and class"),
        {"estimator.py": estimator(
            "return make_pipeline(FunctionTransformer(lambda frame: frame[['items']].fillna(0)), LogisticRegression())"
        )},
    ),
    "a lambda that fitting makes": Mistake(
        ("the fitted estimator cannot be stored", "<lambda>", "with def and class"),
        {"estimator.py": estimator("return Made()", (
            "from sklearn.ensemble import HistGradientBoostingClassifier as Trees\n\nclass Made(Trees):\n"
            "    def fit(self, X, y):\n        self.link_ = lambda value: value\n        return super().fit(X, y)\n"
        ))},
    ),
    "a GRANT to the trainer alone": Mistake(
        ("features.sql: shop.visit: ponte_scorer may not read it", "ponte_reader"),
        change=lambda world: world.execute(
            "REVOKE ALL ON SCHEMA shop FROM ponte_reader; GRANT USAGE ON SCHEMA shop TO ponte_trainer;"
            "GRANT SELECT ON ALL TABLES IN SCHEMA shop TO ponte_trainer"
        ),
    ),
    "a selector by dtype object": Mistake(
        ("no prediction depends on shop", 'dtype_include="category"'),
        {"estimator.py": estimator(
            "return make_pipeline(make_column_transformer("
            "(OneHotEncoder(), make_column_selector(dtype_include=object)), (SimpleImputer(), ['items', 'price'])), "
            "LogisticRegression())",
            "from sklearn.compose import make_column_selector",
        )},
    ),
    "a package that is not installed": Mistake(
        ("estimator.py: does not run: ModuleNotFoundError", "(line 1)", "lightgbm to requirements.txt", "make lock"),
        {"estimator.py": estimator("return LogisticRegression()", "import lightgbm")},
    ),
    "a helper module in the folder": Mistake(
        ("estimator.py: imports helpers from the model folder", "write what it needs into estimator.py"),
        {"estimator.py": estimator("return LogisticRegression()", "from helpers import clean"),
         "helpers.py": "def clean(frame):\n    return frame\n"},
    ),
    "more than 255 categories": Mistake(
        ("HistGradientBoostingClassifier: column visitor has", "at most 255", "max_categories=100"),
        {"estimator.py": TREES, **features("'visitor ' || v.visit_id AS visitor")},
    ),
    "a missing GRANT": Mistake(
        ("PostgreSQL refuses the query: permission denied for", "GRANT USAGE ON SCHEMA shop TO ponte_reader",
         "GRANT SELECT ON ALL TABLES IN SCHEMA shop TO ponte_reader", "trainer and scorer are members"),
        change=lambda world: world.execute("REVOKE ALL ON SCHEMA shop FROM ponte_reader"),
    ),
    "label_delay_days forgotten": Mistake(
        ("model.toml: training.label_delay_days: is 0, and labels come later", "label_delay_days = 9"),
        {"labels.sql": KNOWN},
        change=lambda world: world.execute("UPDATE shop.visit SET known_at = known_at + interval '7 days'"),
    ),
    "a key of model.toml misspelt": Mistake(
        ("model.toml: training.holdout_window: unknown key", "(line ", "did you mean 'holdout_windows'?"),
        settings={"training": "holdout_window = 2"},
    ),
    "a key in the wrong table": Mistake(
        ("model.toml: gate.owner: unknown key", "it belongs to the top of the file"),
        settings={"gate": 'owner = "me"'},
    ),
    "a misspelt expectation and its argument": Mistake(
        ("checks.0.expect_column_values_to_be_between", "did you mean 'min_value'?"),
        settings={
            "checks": '[[checks]]\nexpectation = "expect_column_values_to_be_between"\ncolumn = "items"\nmin_valu = 0'
        },
    ),
    "a misspelt column in SQL": Mistake(
        ("features.sql: PostgreSQL refuses the query: column v.item does not exist", "(line 6: ", "items"),
        {"features.sql": FEATURES_SQL.replace("v.items", "v.item")},
    ),
    "a table that is not there": Mistake(
        ("labels.sql: PostgreSQL refuses the query: relation", "(line 2: ", "did you mean 'shop.visit'?"),
        {"labels.sql": LABELS.replace("shop.visit", "shop.visits")},
    ),
    "a column that the estimator misspells": Mistake(
        ("names the column 'item'", "did you mean 'items'?"),
        {"estimator.py": USUAL.replace('"items"', '"item"')},
    ),
    "a syntax error": Mistake(
        ("estimator.py: does not run: SyntaxError", "(estimator.py, line "),
        {"estimator.py": USUAL + "\nif True\n"},
    ),
    "an encoder that has not seen a value": Mistake(
        ("OneHotEncoder: column visitor has a value that the fitting rows do not have", 'handle_unknown="ignore"'),
        {"estimator.py": estimator(
            'return make_pipeline(make_column_transformer((OneHotEncoder(), ["visitor"])), LogisticRegression())'
        ), **features("'visitor ' || v.visit_id AS visitor")},
    ),
    "a prediction that depends on its neighbours": Mistake(
        ("depends on the rows beside it", "learn them in fit()"),
        {"estimator.py": estimator(
            "return make_pipeline(FunctionTransformer(ranked), HistGradientBoostingClassifier())",
            "def ranked(frame):\n    return frame[['items', 'price']].rank()\n",
        )},
    ),
    "three labels of a binary model": Mistake(
        ("labels.sql: label: returns 3 different labels", "multiclass"),
        {"labels.sql": LABELS.replace("returned::int", "items % 3")},
    ),
    "a positive class that is no label": Mistake(
        ("model.toml: training.positive: no label is 'yes'", "one of 0, 1"),
        settings={"training": 'positive = "yes"'},
    ),
    "too few windows": Mistake(
        ("model.toml: training.holdout_windows: labels lie in", "fewer holdout_windows"),
        change=lambda world: world.execute("DELETE FROM shop.visit WHERE day < '2024-02-26'"),
    ),
    "no window in the SQL": Mistake(
        ("features.sql: has no window", "WHERE day >= CAST(:window_start AS date)"),
        {"features.sql": "SELECT visit_id, shop, items, price, distance, member, 1.0 AS shop_rate FROM shop.visit",
         "labels.sql": "SELECT visit_id, returned::int AS label FROM shop.visit"},
    ),
    "keys that never meet": Mistake(
        ("labels.sql: visit_id: ", "the same entities under the same key"),
        {"labels.sql": LABELS.replace("visit_id,", "visit_id + 1000000 AS visit_id,")},
    ),
    "several at once, model.toml broken too": Mistake(
        ("model.toml: training.holdout_window: unknown key", "features.sql: PostgreSQL refuses the query",
         "estimator.py: does not run"),
        {"features.sql": FEATURES_SQL.replace("v.items", "v.item"), "estimator.py": "import lightgbm\n"},
        {"training": "holdout_window = 2"},
    ),
}  # fmt: skip


def open_to_trainer(world: World) -> None:
    """Give the shop to somebody who lets trainer and scorer read it, as on a platform."""
    with world.db.begin() as connection:
        roles.open_source(connection, "shop")
    roles.grant(world.db)


def written(world: World, mistake: Mistake) -> ModelFolder | BrokenFolder:
    """Return a folder with the mistake, in a world with it."""
    from tests.sample_model import write_model

    open_to_trainer(world)
    mistake.change(world)
    root = world.folder.path.parent
    try:
        write_model(root, "visits", files=mistake.files, **mistake.settings)
    except Exception:  # noqa: BLE001 - the folder is written; that it is broken is the point
        assert (root / "visits").is_dir()
    (folder,) = [found for found in find_folders(root) if found.name == "visits"]
    return folder


def as_trainer(world: World) -> Database:
    return Database(world.db.url.set(username=roles.TRAINER))


def checked(world: World, mistake: Mistake) -> Examined:
    """Return what is said of a folder with the mistake, by the trainer."""
    return examine(as_trainer(world), written(world, mistake), now=NOW)


def trained(world: World, folder: ModelFolder) -> None:
    """Do what the training DAG does until a version is registered, as the trainer."""
    trainer = replace(world, db=as_trainer(world), folder=folder)
    trainer.fit(trainer.snapshot(run_id="train", as_of=midnight(NOW.date())).snapshot_id, run_id="train")


#: What is no fault for sure: the check says it in a note, a training in its log and its report.
NOTED = {"a selector by dtype object"}

#: A training says of these what the check says, and but for the last three before it has frozen a row.
SAID_ALIKE = {
    "a lambda", "a GRANT to the trainer alone", "a package that is not installed", "a helper module in the folder",
    "a missing GRANT", "a misspelt expectation and its argument", "a misspelt column in SQL",
    "a table that is not there", "a syntax error", "no window in the SQL",
    "a prediction that depends on its neighbours", "a positive class that is no label", "keys that never meet",
}  # fmt: skip


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_named_with_step_column_and_cure_and_becomes_no_version(world: World, name: str) -> None:
    began = time.monotonic()
    folder = written(world, MISTAKES[name])
    found = examine(as_trainer(world), folder, now=NOW)
    print(f"\n{name}: {time.monotonic() - began:.1f} s\n{found.message}")
    missing = [part for part in MISTAKES[name].says if part not in found.message]
    assert not missing, found.message
    if name in NOTED:
        assert not found.problems
        return
    if isinstance(folder, ModelFolder):  # a broken one has no DAG that trains
        with pytest.raises(PonteError) as refused:
            trained(world, folder)
        print(f"training: {type(refused.value).__name__}: {refused.value}")
        assert "./ponte check visits" in str(refused.value) or name in SAID_ALIKE, refused.value
    assert world.ask("SELECT count(*) FROM ponte.version") == 0


def test_a_good_folder_has_no_problem_and_says_which_class_the_score_is_about(world: World) -> None:
    found = checked(world, Mistake((), {"labels.sql": KNOWN}))
    assert not found.problems, found.message
    assert "the score is the probability of label 1, the greater of 0 and 1" in found.message
    assert "350 and " in found.message
    world.execute("REVOKE ALL ON SCHEMA shop FROM ponte_reader")
    found = checked(world, Mistake((), settings={"training": "positive = 0"}))
    assert "the score is the probability of label 0, as [training] positive says" in found.message


def test_a_live_source_is_asked_a_few_times_and_about_few_windows(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[int, int]] = []
    labels = Reading.labels

    def noted(reading: Reading, first: int, last: int) -> int:
        asked.append((first, last))
        return labels(reading, first, last)

    monkeypatch.setattr(Reading, "labels", noted)
    statements: list[str] = []
    folder = written(world, Mistake((), {"labels.sql": KNOWN}))
    assert isinstance(folder, ModelFolder)
    db = as_trainer(world)
    sa.event.listen(db.engine, "before_cursor_execute", lambda _c, _k, text, *_: statements.append(text))
    found = examine(db, folder, now=NOW)
    assert not found.problems, found.message
    assert len([text for text in statements if "shop.visit" in text and "LIMIT 0" not in text]) <= 9
    assert max(last - first + 1 for first, last in asked) <= folder.spec.training.windows


def test_windows_are_found_wherever_the_source_ends(world: World) -> None:
    folder = written(world, Mistake((), {"labels.sql": KNOWN}))
    assert isinstance(folder, ModelFolder)
    columns = inspect_folder(as_trainer(world), folder)
    days = [day for [day] in world.rows("SELECT DISTINCT day FROM shop.visit ORDER BY 1")]
    later = dt.datetime(2034, 3, 12, 8, tzinfo=dt.UTC)
    for now in (NOW, later):
        reading = Reading(db=as_trainer(world), folder=folder, columns=columns, now=now)
        assert reading.latest is not None
        assert reading.previous == reading.latest - 1
        window = reading.window(reading.latest)
        assert window.start <= days[-1] < window.end
        first = reading.window(reading.earliest)
        assert first.start <= max(days[0], first.start) < first.end
        assert reading.latest - reading.earliest + 1 <= folder.spec.training.windows
    world.execute("DELETE FROM shop.visit")
    empty = Reading(db=as_trainer(world), folder=folder, columns=columns, now=NOW)
    assert (empty.latest, empty.previous) == (None, None)


def test_what_the_card_says_of_the_form_is_held_against_the_columns(world: World) -> None:
    """It keeps nobody from training: the card decides nothing about a version."""
    card = "# Visits\n\n## Columns\n| column | label |\n|---|---|\n| prize | What it cost |\n| shop | The shop |\n"
    folder = written(world, Mistake((), {"labels.sql": KNOWN, "README.md": card}))
    found = examine(as_trainer(world), folder, now=NOW)
    (problem,) = map(str, found.problems)
    assert problem.startswith("README.md: Columns: unknown column 'prize' (line 6) → did you mean 'price'?")
    assert isinstance(folder, ModelFolder)
    trained(world, folder)
