"""Bad input: an error that says what, where and what next; nothing half done, the previous publication stays."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from tests.sample_model import EMPTY_WEEK, FEATURES_SQL, LABELS_SQL, NEXT_WEEK, WEEK, World, write_model

from ponte.batches.checking import check_batch
from ponte.errors import ArtifactRefused, BatchRejected, ModelFolderError, NoChampion, SignatureMismatch
from ponte.model import inspection
from ponte.versions import registry
from ponte.versions.loading import load_version

LABELS = LABELS_SQL.format(label="returned::int")
NUMBER_OF_BATCHES = "SELECT count(*) FROM ponte.batch"
RESULTS = (
    "SELECT expectation, on_failure, outcome, element_count, unexpected_count FROM ponte.check_result "
    "WHERE batch_id = :id AND (outcome <> 'passed' OR position >= 0) ORDER BY position"
)


# ---------------------------------------------------------------- columns that are not those of the version


def changed(old: str, new: str, text: str = FEATURES_SQL) -> str:
    assert text.count(old) == 1
    return text.replace(old, new)


@pytest.mark.parametrize(
    ("features", "differences"),
    [
        (changed("v.price, ", ""), ["column 'price' (number) is gone"]),
        (
            changed("v.items", "v.items AS item"),
            ["'items' (integer) is gone; renamed to 'item'?", "'item' (integer) is new"],
        ),
        (changed("v.items", "v.items::text"), ["column 'items' was integer and is text now"]),
        (changed("v.price", "v.price, 1 AS one"), ["column 'one' (integer) is new"]),
        (
            changed("v.items, v.price", "v.items::numeric, 2 AS two"),
            ["'items' was integer and is number now", "'price' (number) is gone", "'two' (integer) is new"],
        ),
        (changed("v.visit_id", "v.visit_id::text"), ["column 'visit_id' was integer and is text now"]),
    ],
    ids=["dropped", "renamed", "retyped", "added", "all at once", "key retyped"],
)
def test_changed_columns_are_refused_by_name_before_the_window_is_claimed(
    scored: World, features: str, differences: list[str]
) -> None:
    """Left behind: nothing at all, so the window stays free for the run that comes after the repair."""
    seen = scored.published_checksum()
    # The key has to agree between both files; that is another error.
    labels = LABELS.replace("visit_id,", "visit_id::text,") if "visit_id::text" in features else LABELS
    broken = scored.with_model(files={"features.sql": features, "labels.sql": labels})

    with pytest.raises(SignatureMismatch) as caught:
        broken.run(run_id="r")
    assert [d for d in differences if d not in str(caught.value)] == []
    assert str(caught.value).partition("got: ")[2].partition("\n")[0].count(";") == len(differences) - 1 + str(
        differences
    ).count("; ")
    assert scored.ask(NUMBER_OF_BATCHES) == 1
    assert scored.rows("SELECT epoch FROM ponte.claim") == [(1,)]
    assert scored.published_checksum() == seen


def test_reordered_columns_and_wider_types_change_nothing(scored: World) -> None:
    """Of the source, and of a folder that was edited meanwhile."""
    seen = scored.published_checksum()
    reordered = FEATURES_SQL.replace(
        "v.visit_id, v.shop, v.items, v.price, v.distance, v.member, r.rate AS shop_rate",
        "r.rate::numeric AS shop_rate, v.member, v.price::float8, v.items::bigint, v.shop::varchar, v.visit_id, "
        "v.distance",
    )
    assert reordered != FEATURES_SQL
    scored.with_model(files={"features.sql": reordered}).run(run_id="folder")
    assert scored.published_checksum() == seen
    scored.execute(
        "ALTER TABLE shop.visit ALTER items TYPE bigint, ALTER price TYPE float8, ALTER shop TYPE varchar(9)"
    )
    source = scored.with_model().run(run_id="source")

    assert scored.ask("SELECT batch_id FROM ponte.published") == source.batch_id
    assert scored.published_checksum() == seen


# ---------------------------------------------------------------- rows


def assert_rejected(world: World, run_id: str, week: object, said: str) -> str:
    """Run, expect BatchRejected, and that readers notice nothing; return why."""
    seen = world.rows("SELECT batch_id, window_start FROM ponte.published")
    with pytest.raises(BatchRejected) as caught:
        world.run(run_id=run_id, week=week)
    assert said in str(caught.value)
    with pytest.raises(BatchRejected, match="the batch was rejected"):  # and again, for a retry
        world.run(run_id=run_id, week=week)
    ((status, why),) = world.rows("SELECT status, why FROM ponte.batch WHERE run_id = :run", run=run_id)
    assert status == "rejected"
    assert world.rows("SELECT batch_id, window_start FROM ponte.published") == seen
    return why


def test_an_empty_window_is_rejected_and_what_was_published_stays(scored: World) -> None:
    seen = scored.published_checksum()
    scored.execute("DELETE FROM shop.visit WHERE day >= :week", week=WEEK)

    assert_rejected(scored, "r", WEEK, "features.sql returned no row")
    assert_rejected(scored, "far", EMPTY_WEEK, "features.sql returned no row")
    assert scored.published_checksum() == seen


def test_an_empty_window_is_published_when_the_model_allows_it(scored: World) -> None:
    scored.execute("DELETE FROM shop.visit WHERE day >= :week", week=WEEK)
    batch = scored.with_model(empty="allow").run(run_id="r")

    assert (batch.status, batch.row_count) == ("staged", 0)
    assert scored.ask("SELECT count(*) FROM predictions.visits") == 0
    assert scored.rows("SELECT batch_id FROM ponte.published") == [(batch.batch_id,)]
    assert scored.ask("SELECT row_count FROM ponte.publication_event ORDER BY event_id DESC LIMIT 1") == 0


SECRET = 987654321


@pytest.mark.parametrize(
    ("key", "check", "counts"),
    [(str(SECRET), "key_is_unique", (352, 2)), ("NULL", "key_is_not_null", (352, 2))],
)
def test_a_bad_key_is_rejected_with_counts_and_without_values(
    trained: World, key: str, check: str, counts: tuple[int, int]
) -> None:
    trained.execute("ALTER TABLE shop.visit DROP CONSTRAINT visit_pkey")
    trained.execute("ALTER TABLE shop.visit ALTER visit_id DROP NOT NULL")
    columns = "day, shop, items, price, distance, member, returned, spent, known_at"
    trained.execute(
        f"INSERT INTO shop.visit SELECT {key}, {columns} FROM shop.visit WHERE day = :week LIMIT 2", week=WEEK
    )
    why = assert_rejected(trained, "r", WEEK, check)

    assert f"{check}(key=['visit_id']): failed, {counts[1]} of {counts[0]} rows" in why
    assert 'FROM "ponte_data"."visits__frozen_' in why
    assert str(SECRET) not in why
    assert str(SECRET) not in str(trained.rows("SELECT * FROM ponte.check_result"))


def check(expectation: str, on_failure: str = "stop", **arguments: object) -> str:
    lines = [f"{name} = {json.dumps(value)}" for name, value in arguments.items()]
    return "\n".join(["[[checks]]", f'expectation = "{expectation}"', f'on_failure = "{on_failure}"', *lines, ""])


def test_a_failing_expectation_stops_or_warns_as_the_author_says(trained: World) -> None:
    bound = {"column": "price", "max_value": 10}
    trained.execute("UPDATE shop.visit SET price = 9876.54 WHERE visit_id % 350 = 123")
    stops = trained.with_model(checks=check("expect_column_values_to_be_between", **bound))
    why = assert_rejected(
        stops, "stops", WEEK, "expect_column_values_to_be_between(column='price', max_value=10): failed"
    )
    warns = trained.with_model(checks=check("expect_column_values_to_be_between", "warn", **bound))
    batch = warns.run(run_id="warns")

    expected = trained.ask("SELECT count(*) FROM shop.visit WHERE day >= :w AND day < :w + 7 AND price > 10", w=WEEK)
    assert f"{expected} of 350 rows" in why
    outcome = ("expect_column_values_to_be_between", "warn", "failed", 350, expected)
    assert trained.rows(RESULTS, id=batch.batch_id) == [outcome]
    assert trained.rows("SELECT DISTINCT batch_id FROM predictions.visits") == [(batch.batch_id,)]
    kept = str(trained.rows("SELECT to_jsonb(r) FROM ponte.check_result r")) + str(
        trained.rows("SELECT why FROM ponte.batch")
    )
    assert "9876.54" not in kept


def test_an_expectation_that_cannot_be_evaluated_is_an_error_and_rejects(trained: World) -> None:
    """It has proved nothing: neither a failure of the data nor a pass. The others are evaluated all the same."""
    both = check("expect_column_values_to_be_between", column="shop", max_value=3) + check(
        "expect_table_row_count_to_be_between", min_value=350, max_value=350
    )
    why = assert_rejected(trained.with_model(checks=both), "r", WEEK, "expect_column_values_to_be_between")

    assert "(column='shop', max_value=3): error" in why
    assert [r[:3] for r in trained.rows(RESULTS, id=1)] == [
        ("expect_column_values_to_be_between", "stop", "error"),
        ("expect_table_row_count_to_be_between", "stop", "passed"),
    ]


def test_wrong_arguments_of_expectations_are_listed_together(trained: World) -> None:
    wrong = check("expect_column_values_to_be_between", colum="price", max_value=10) + check(
        "expect_column_values_to_be_in_set", value_set=["mill"]
    )
    batch = trained.with_model(checks=wrong).run(run_id="r", until="freeze")

    with pytest.raises(ModelFolderError, match=r"has [2-9] problems") as caught:
        check_batch(trained.db, trained.with_model(checks=wrong).folder, batch.batch_id)
    text = str(caught.value)
    assert "checks.0.expect_column_values_to_be_between" in text
    assert "checks.1.expect_column_values_to_be_in_set" in text
    assert "colum" in text
    trained.with_model().run(run_id="r")  # with the folder mended, the same run goes on


# ---------------------------------------------------------------- model folders

FOLDERS: Mapping[str, tuple[dict[str, str], list[str]]] = {
    "syntax error": (
        {"features.sql": "SELEC visit_id FROM shop.visit"},
        ['features.sql: PostgreSQL refuses the query: syntax error at or near "SELEC" (line 1: SELEC visit_id FROM'],
    ),
    "unknown column": (
        {"features.sql": "\n\n-- what: a note\nSELECT visit_id, shop,\n    item\nFROM shop.visit WHERE day > :as_of\n"},
        ['column "item" does not exist (line 5: item) → Perhaps you meant to reference the column "visit.items".'],
    ),
    "a query that stops": (
        {"features.sql": "SELECT visit_id, shop, items\nFROM shop.visit WHERE\n"},
        ["syntax error at end of input (line 2: FROM shop.visit WHERE)"],
    ),
    "unknown table": (
        {"labels.sql": "SELECT 1 AS label FROM shop.vists"},
        ['labels.sql: PostgreSQL refuses the query: relation "shop.vists" does not exist'],
    ),
    "missing key": (
        {"features.sql": "SELECT visit_id AS visitid, items, shop FROM shop.visit"},
        ["model.toml: key: features.sql returns no column 'visit_id' → did you mean 'visitid'?"],
    ),
    "key missing in labels": (
        {"labels.sql": "SELECT 1 AS label"},
        ["labels.sql: visit_id: the key column is not returned"],
    ),
    "missing label": (
        {"labels.sql": "SELECT visit_id, returned FROM shop.visit"},
        ["labels.sql: label: is not returned → name the outcome with AS label; it returns: visit_id, returned"],
    ),
    "label type": (
        {"labels.sql": "SELECT visit_id, spent AS label FROM shop.visit"},
        ["labels.sql: label: has type float8, which task 'binary' cannot have"],
    ),
    "labelled_at type": (
        {"labels.sql": "SELECT visit_id, 1 AS label, day AS labelled_at FROM shop.visit"},
        ["labels.sql: labelled_at: has type date → cast it to timestamptz"],
    ),
    "unsupported type": (
        {"features.sql": "SELECT visit_id, shop, '{}'::jsonb AS extra FROM shop.visit"},
        ["features.sql: extra: has type jsonb → cast it to one of: bool,"],
    ),
    "type that no key can have": (
        {"features.sql": "SELECT member AS visit_id, shop, items FROM shop.visit"},
        [
            "features.sql: visit_id: has type bool, which a key cannot have",
            "labels.sql: visit_id: is integer here and boolean in features.sql",
        ],
    ),
    "reserved name": (
        {"features.sql": "SELECT visit_id, shop, items AS score FROM shop.visit"},
        ["features.sql: score: is a reserved name"],
    ),
    "reserved name that only the view of the predictions has": (
        {"features.sql": "SELECT visit_id, shop, items AS hindsight FROM shop.visit"},
        ["features.sql: hindsight: is a reserved name"],
    ),
    "odd name": (
        {"features.sql": 'SELECT visit_id, shop, items AS "No. of ""items""" FROM shop.visit'},
        ["is no plain column name"],
    ),
    "same name twice": (
        {"features.sql": "SELECT visit_id, shop, items, distance AS items FROM shop.visit"},
        ["features.sql: items: is returned twice"],
    ),
    "no feature": (
        {"features.sql": "SELECT visit_id FROM shop.visit"},
        ["features.sql: returns no feature beside the key"],
    ),
    "unknown parameter": (
        {"features.sql": "SELECT visit_id, shop FROM shop.visit WHERE day > :windowstart"},
        ["features.sql: :windowstart: unknown parameter → did you mean 'window_start'?"],
    ),
    "two statements": (
        {"features.sql": "SELECT 1; DROP TABLE shop.visit"},
        ["features.sql: holds 2 statements"],
    ),
    "statements behind a closing bracket": (
        {
            "features.sql": "SELECT visit_id, shop FROM shop.visit) AS f; COMMIT; DROP TABLE shop.visit; "
            "SELECT * FROM (SELECT 1 AS visit_id, 'mill' AS shop"
        },
        ["features.sql: "],
    ),
    "data-changing CTE": (
        {"features.sql": "WITH gone AS (DELETE FROM shop.visit RETURNING *) SELECT visit_id, shop FROM gone"},
        ["WITH clause containing a data-modifying statement must be at the top level"],
    ),
    "function that writes": ({"features.sql": "SELECT visit_id, shop, shop.forget() AS items FROM shop.visit"}, []),
    "estimator does not run": ({"estimator.py": "import nonsuch"}, ["estimator.py: does not run: ModuleNotFoundError"]),
    "estimator with a lambda": (
        {
            "estimator.py": "from sklearn.linear_model import LogisticRegression\n"
            "from sklearn.pipeline import make_pipeline\nfrom sklearn.preprocessing import FunctionTransformer\n"
            "def build_estimator():\n    def twice(x): return 2 * x\n"
            "    steps = [FunctionTransformer(lambda x: x), FunctionTransformer(twice), LogisticRegression()]\n"
            "    return make_pipeline(*steps)"
        },
        [
            "cannot be stored: functiontransformer-1__func is build_estimator.<locals>.<lambda>, functiontransf",
            "functiontransformer-2__func is build_estimator.<locals>.twice → define its functions",
        ],
    ),
    "estimator with a helper": (
        {"helper.py": "x = 1", "estimator.py": "import helper"},
        ["estimator.py: imports helper from the model folder, which no version keeps → write what it needs into"],
    ),
    "package that is not installed": (
        {"estimator.py": "import math\n\nimport nonsuch.trees"},
        ["No module named 'nonsuch' (line 3) → add the package of nonsuch to requirements.txt in"],
    ),
    "no build_estimator": ({"estimator.py": "def build(): ..."}, ["estimator.py: build_estimator: is missing"]),
    "class instead of object": (
        {"estimator.py": "from sklearn.linear_model import Ridge\ndef build_estimator(): return Ridge"},
        ["returns the class Ridge → return an object"],
    ),
    "no classifier": (
        {"estimator.py": "from sklearn.linear_model import Ridge\ndef build_estimator(): return Ridge()"},
        ["returns Ridge, which is no classifier"],
    ),
    "everything at once": (
        {
            "features.sql": "SELECT '{}'::jsonb AS extra, items AS score FROM shop.visit",
            "labels.sql": "SELECT visit_id FROM shop.visit WHERE day > :day",
            "estimator.py": "x",
        },
        [
            "has 6 problems",
            "returns no column 'visit_id'",
            "no column 'shop'",
            "extra: has type jsonb",
            "score: is a reserved name",
            ":day: unknown parameter",
            "estimator.py: does not run: NameError",
        ],
    ),
}


@pytest.mark.parametrize("name", [n for n in FOLDERS if n != "function that writes"])
def test_every_breach_of_the_folder_contract_is_named_in_one_message(world: World, name: str) -> None:
    files, said = FOLDERS[name]
    broken = world.with_model(files=files)

    with pytest.raises(ModelFolderError) as caught:
        broken.train(run_id="r")
    assert [s for s in said if s not in str(caught.value)] == [], str(caught.value)
    if not said[0].startswith("has "):
        assert len(caught.value.problems) <= len(said) + 2
    assert world.ask("SELECT count(*) FROM shop.visit") == 3500
    assert world.ask("SELECT count(*) FROM ponte.snapshot") == 0


def test_features_that_call_a_writing_function_write_nothing_while_they_are_inspected(world: World) -> None:
    world.execute(
        "CREATE FUNCTION shop.forget() RETURNS int LANGUAGE plpgsql IMMUTABLE AS "
        "$$ BEGIN DELETE FROM shop.visit; RETURN 1; END $$"
    )
    broken = world.with_model(files=FOLDERS["function that writes"][0])
    with pytest.raises(ModelFolderError, match="DELETE is not allowed in a non-volatile function"):
        broken.train(run_id="r")
    world.execute("ALTER FUNCTION shop.forget() VOLATILE")
    inspection.inspect_folder(world.db, broken.folder)
    assert world.ask("SELECT count(*) FROM shop.visit") == 3500


def test_checks_that_cannot_work_are_told_together_with_everything_else(world: World) -> None:
    wrong = "".join(
        [
            check("expect_column_values_to_not_be_null", column="pirce"),
            check("expect_column_pair_values_to_be_equal", column_A="items", column_B="itmes"),
            check("expect_compound_columns_to_be_unique", column_list=["shop", "dya"]),
            check("expect_column_values_to_be_between", colum="price", max_value=10),
            check("expect_column_to_exist", column="is_no_problem_but_a_finding"),
        ]
    )
    broken = world.with_model(
        files={"labels.sql": "SELECT visit_id FROM shop.visit", "estimator.py": "x"}, checks=wrong
    )

    with pytest.raises(ModelFolderError) as caught:
        inspection.inspect_folder(world.db, broken.folder)
    said = [
        "checks.0.column: features.sql returns no column 'pirce' → did you mean 'price'?",
        "checks.1.column_B: features.sql returns no column 'itmes' → did you mean 'items'?",
        "checks.2.column_list: features.sql returns no column 'dya'",
        "checks.3.expect_column_values_to_be_between: ",
        "labels.sql: label: is not returned",
        "estimator.py: does not run: NameError",
    ]
    assert [s for s in said if s not in str(caught.value)] == [], str(caught.value)
    assert "is_no_problem" not in str(caught.value)
    with pytest.raises(ModelFolderError, match=r"checks\.3"):
        broken.train(run_id="t")
    assert world.ask("SELECT count(*) FROM ponte.snapshot") == 0


def test_a_check_of_a_missing_column_keeps_a_batch_from_being_claimed(trained: World) -> None:
    broken = trained.with_model(checks=check("expect_column_values_to_not_be_null", column="pirce"))
    with pytest.raises(ModelFolderError, match=r"checks\.0\.column: features.sql returns no column 'pirce'"):
        broken.run(run_id="r")
    assert trained.ask(NUMBER_OF_BATCHES) == 0


# ---------------------------------------------------------------- champion and artifact


def test_without_a_champion_nothing_is_claimed(trained: World) -> None:
    other = World(db=trained.db, store=trained.store, folder=write_model(trained.folder.path.parent, "other"))
    with pytest.raises(NoChampion, match="train other first"):
        other.run(run_id="r")
    assert trained.ask(NUMBER_OF_BATCHES) == 0


def flip_a_bit(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


ARTIFACTS: Mapping[str, tuple[Callable[[Path], object], str]] = {
    "a bit of the model": (lambda p: flip_a_bit(p / "model.joblib"), "changed file model.joblib"),
    "a truncated model": (lambda p: (p / "model.joblib").write_bytes(b""), "changed file model.joblib"),
    "a changed estimator": (lambda p: (p / "estimator.py").write_text("raise SystemExit"), "changed file estimator.py"),
    "a bit of the manifest": (lambda p: flip_a_bit(p / "manifest.json"), "not what was registered"),
    "a missing file": (lambda p: (p / "golden.parquet").unlink(), "missing file golden.parquet"),
    "an extra file": (lambda p: (p / "payload.py").write_text("evil"), "extra file payload.py"),
    "a missing manifest": (lambda p: (p / "manifest.json").unlink(), "a stored file is missing"),
    "a missing folder": (shutil.rmtree, "a stored file is missing"),
}


@pytest.mark.parametrize("name", ARTIFACTS)
def test_an_artifact_that_is_not_what_was_registered_is_not_loaded(
    trained: World, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import joblib

    trained.run(run_id="before")
    seen = trained.published_checksum()
    change, said = ARTIFACTS[name]
    change(Path(trained.store.root.path) / trained.champion().path)
    monkeypatch.setattr(joblib, "load", lambda *_: pytest.fail("unpickled"))

    with pytest.raises(ArtifactRefused, match=said):
        trained.run(run_id="r")
    assert trained.published_checksum() == seen
    assert trained.ask("SELECT count(*) FROM ponte.shard WHERE batch_id = 2") == 0
    assert trained.ask("SELECT status FROM ponte.batch WHERE batch_id = 2") == "checked"


def test_an_older_artifact_in_the_place_of_a_newer_one_is_refused(trained: World) -> None:
    """A whole, once valid folder of another version: the registry's digest tells, and whose it is gets named."""
    other = trained.with_model(files={"features.sql": FEATURES_SQL + "-- again\n"})
    second = other.train(run_id="second").version
    assert second.version == 2
    root = Path(trained.store.root.path)
    shutil.rmtree(root / second.path)
    shutil.copytree(root / registry.get_version(trained.db, "visits", 1).path, root / second.path)

    with pytest.raises(ArtifactRefused, match="a manifest that says model visits, version 1"):
        load_version(trained.store, second)


def test_a_rejected_window_can_be_scored_by_the_next_run(trained: World) -> None:
    trained.execute("UPDATE shop.visit SET day = day + 700 WHERE day >= :week", week=WEEK)
    assert_rejected(trained, "r", WEEK, "no row")
    trained.execute("UPDATE shop.visit SET day = day - 700 WHERE day >= :week", week=NEXT_WEEK)
    trained.run(run_id="again")

    assert trained.ask("SELECT count(*) FROM predictions.visits WHERE window_start = :week", week=WEEK) == 350


# ---------------------------------------------------------------- values that no estimator expects


def conserved(world: World, batch_id: int, model: str = "visits") -> tuple[int, int, int]:
    """Return rows frozen, published and in quarantine, which add up."""
    frozen, published, aside = (
        world.ask("SELECT row_count FROM ponte.batch WHERE batch_id = :id", id=batch_id),
        world.ask(f'SELECT count(*) FROM predictions."{model}" WHERE batch_id = :id', id=batch_id),
        world.ask("SELECT count(*) FROM ponte.quarantine WHERE batch_id = :id", id=batch_id),
    )
    assert frozen == published + aside
    return frozen, published, aside


ONE = "visit_id = 2200"
#: What is in the source → (the statement that puts it there, how many rows of 350 are set aside).
VALUES: dict[str, tuple[str, int]] = {
    "NaN in one row": (f"UPDATE shop.visit SET distance = 'NaN' WHERE {ONE}", 0),
    "infinity in one row": (f"UPDATE shop.visit SET distance = 'Infinity' WHERE {ONE}", 1),
    "infinities in seven rows": (
        ("UPDATE shop.visit SET distance = '-Infinity' WHERE visit_id IN (2100, 2150, 2151, 2152, 2300, 2448, 2449)"),
        7,
    ),
    "a number beyond single precision": (f"UPDATE shop.visit SET distance = 1e300 WHERE {ONE}", 0),
    "a category that was never seen": (f"UPDATE shop.visit SET shop = 'moon' WHERE {ONE}", 0),
    "only categories that were never seen": (
        "UPDATE shop.visit SET shop = 'moon ' || visit_id WHERE day >= '2024-02-12'",
        0,
    ),
    "odd text": (f"UPDATE shop.visit SET shop = E'a\\nb\\t\\\\ ''\"%s 😀' WHERE {ONE}", 0),
    "empty text": (f"UPDATE shop.visit SET shop = '' WHERE {ONE}", 0),
    "a text of 1 MB": (f"UPDATE shop.visit SET shop = repeat('ä', 500000) WHERE {ONE}", 0),
    "a hundred texts of 1 MB": (
        (
            "UPDATE shop.visit SET shop = repeat(chr(65 + visit_id::int % 26), 1000000) "
            "WHERE visit_id >= 2100 AND visit_id < 2200"
        ),
        0,
    ),
    "NULL in every column of a row": (
        f"UPDATE shop.visit SET shop = NULL, items = NULL, price = NULL, distance = NULL, member = NULL WHERE {ONE}",
        0,
    ),
    "NULL in every column of every row": (
        (
            "UPDATE shop.visit SET shop = NULL, items = NULL, price = NULL, distance = NULL, member = NULL "
            "WHERE day >= '2024-02-12'"
        ),
        0,
    ),
}


@pytest.mark.parametrize("name", VALUES)
def test_a_value_that_nobody_expects_is_scored_or_set_aside_and_nothing_is_lost(trained: World, name: str) -> None:
    """What the estimator can score it scores; what it refuses, it alone is set aside, with what it said."""
    statement, expected = VALUES[name]
    trained.execute(statement)
    # Rows without any difference get one score, which a guard would refuse: here it is about the rows.
    settings = '[guard]\ncolumns = "off"\nconstant_score = "allow"\nunscored_maximum = 1.0'
    batch = trained.with_model(chunk_rows=60, shard_rows=200, checks=settings).run(run_id="r")

    assert conserved(trained, batch.batch_id) == (350, 350 - expected, expected)
    assert trained.ask("SELECT count(*) FROM predictions.visits WHERE score IS NULL OR NOT score BETWEEN 0 AND 1") == 0
    for reasons, distance in trained.rows("SELECT reasons, content->>'distance' FROM ponte.quarantine"):
        assert "infinity" in reasons[0]["error"].lower()
        assert distance in ("Infinity", "-Infinity")


@pytest.mark.parametrize(("column", "value"), [("distance", "'Infinity'"), ("distance", "'-Infinity'")])
def test_infinity_in_every_row_rejects_the_batch(scored: World, column: str, value: str) -> None:
    scored.execute(f"UPDATE shop.visit SET {column} = {value} WHERE day >= :week", week=WEEK)
    why = assert_rejected(scored, "r", WEEK, "more rows cannot be scored")
    assert "rows: ValueError" in why
    assert scored.ask("SELECT count(*) FROM ponte.quarantine") == 0


def test_rows_without_any_difference_are_refused_by_a_guard_and_not_shown(trained: World) -> None:
    """An extract that came with its columns empty looks like this."""
    trained.execute(VALUES["NULL in every column of every row"][0])
    why = assert_rejected(trained, "r", WEEK, "a guard has tripped")
    assert "constant_score" in why


# ---------------------------------------------------------------- names


def test_a_table_and_columns_whose_names_need_quoting_are_the_authors_own_business(world: World) -> None:
    """ "Order"."select" is named in the author's SQL only; what Ponte makes is named after the model."""
    world.execute('CREATE SCHEMA "Order"')
    world.execute('CREATE VIEW "Order"."select" AS SELECT visit_id AS "Key", shop AS "from", items AS "group by", '
                  'distance AS "a%b", day, known_at, returned FROM shop.visit')  # fmt: skip
    where = (
        'FROM "Order"."select" AS "table" WHERE day >= CAST(:window_start AS date) AND day < CAST(:window_end AS date)'
    )
    world = world.with_model(
        key='["order"]',
        files={
            "features.sql": f'SELECT "Key" AS "order", "from" AS shop, "group by" AS "select", "a%b" AS "where" '
            f"{where}",
            "labels.sql": f'SELECT "Key" AS "order", returned::int AS label, known_at AS labelled_at {where}',
            "estimator.py": write_model(world.folder.path.parent).text("estimator.py").replace(
                '["items", "price", "distance", "member", "shop_rate"]', '["select", "where"]'),
        },
        checks=check("expect_column_values_to_not_be_null", "quarantine", column="select")
        + check("expect_compound_columns_to_be_unique", "quarantine", column_list=["order", "where"])
        + "[quarantine]\nbudget = 0.3\n[guard]\nunscored_maximum = 1.0\n",
    )  # fmt: skip
    world.train(run_id="t")
    world.execute("UPDATE shop.visit SET distance = 'Infinity', items = 1 WHERE visit_id = 2200")
    batch = world.run(run_id="r")
    missing = world.ask(
        "SELECT count(*) FROM shop.visit WHERE items IS NULL AND day >= :w AND day < CAST(:w AS date) + 7", w=WEEK
    )
    assert conserved(world, batch.batch_id) == (350, 350 - missing - 1, missing + 1)
    assert (
        world.ask("SELECT count(*) FROM ponte.quarantine WHERE shard IS NOT NULL AND content->>'where' = 'Infinity'")
        == 1
    )


@pytest.mark.parametrize("name", ["select", "user", "table", "order", "all", "end"])
def test_a_model_can_have_the_name_of_an_sql_keyword(world: World, name: str) -> None:
    """Trained, scored, replaced, guarded, retired, and gone back to."""
    folder = write_model(
        world.folder.path.parent,
        name,
        checks=check("expect_column_values_to_not_be_null", "quarantine", column="items")
        + "[quarantine]\nbudget = 0.3\n[retention]\nreplaced_batches = 0\nweeks = 1\n",
    )
    keyword = World(db=world.db, store=world.store, folder=folder)
    keyword.train(run_id="t")
    keyword.run(run_id="a")
    keyword.run(run_id="b")
    batch = keyword.run(run_id="a", week=NEXT_WEEK)
    assert conserved(keyword, batch.batch_id, name)[2] > 0
    assert keyword.rows("SELECT batch_id FROM ponte.retention_event") == [(1,)]
    assert keyword.data_tables() == [f"{name}__prediction_2", f"{name}__prediction_3"]
    assert keyword.ask(f'SELECT count(*) FROM predictions."{name}_latest" WHERE batch_id = 3') > 300


# ---------------------------------------------------------------- 3 rows in 100 000

MANY = 100_000
REFUSES = 'ValueError: could not convert string to float: "n/a"'
#: Refuses three keys, by raising for whatever chunk they are in.
THREE_BAD = """\
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline


class Refuse(TransformerMixin, BaseEstimator):
    def fit(self, rows, labels=None):
        return self

    def transform(self, rows):
        if (rows["distance"] == 66.5).any():
            raise ValueError('could not convert string to float: "n/a"')
        return rows[["items", "distance"]].fillna(0.0)

    def __sklearn_is_fitted__(self):
        return True


def build_estimator():
    return make_pipeline(Refuse(), LogisticRegression())
"""
FEW_COLUMNS = (
    "SELECT visit_id, shop, items, distance FROM shop.visit "
    "WHERE day >= CAST(:window_start AS date) AND day < CAST(:window_end AS date)"
)


def test_three_rows_of_a_hundred_thousand_are_set_aside_and_all_others_are_published(world: World) -> None:
    world = world.with_model(
        files={"features.sql": FEW_COLUMNS, "estimator.py": THREE_BAD},
        gate="beats_baseline = false",
        bound="minimum = 0.0",
        checks='[guard]\ncolumns = "off"',
    )
    world.train(run_id="t")
    world.execute(
        "INSERT INTO shop.visit (visit_id, day, items, distance, returned, spent, known_at) "
        "SELECT n, :week, n % 8, n % 12, false, 0, now() FROM generate_series(100000, 99999 + :more) AS n",
        week=WEEK, more=MANY - 350,
    )  # fmt: skip
    bad = [100_000, 165_535, 199_649]
    world.execute("UPDATE shop.visit SET distance = 66.5 WHERE visit_id = ANY(:bad)", bad=bad)
    batch = world.run(run_id="r")

    assert conserved(world, batch.batch_id) == (MANY, MANY - 3, 3)
    entries = world.rows("SELECT (key->>'visit_id')::bigint, reasons FROM ponte.quarantine ORDER BY 1")
    assert entries == [(n, [{"error": REFUSES}]) for n in bad]
    assert world.ask("SELECT count(DISTINCT visit_id) FROM predictions.visits") == MANY - 3
    assert world.ask("SELECT count(*) FROM predictions.visits WHERE visit_id = ANY(:bad)", bad=bad) == 0
    assert world.ask("SELECT outcome FROM ponte.guard_result WHERE guard = 'unscored'") == "passed"
