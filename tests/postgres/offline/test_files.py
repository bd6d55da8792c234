"""`./ponte predict`: what is said of the rows of a file is what is said of the same rows of a batch."""

from __future__ import annotations

import csv
import io
import os
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.door import ponte, unread
from tests.sample_model import WEEK, World

from ponte.offline import files
from ponte.offline.files import predict_rows

FEATURES = ("shop", "items", "price", "distance", "member", "shop_rate")
HEAD = "visit_id,shop,items,price,distance,member,shop_rate\n"


def rows_of_week(world: World) -> pd.DataFrame:
    """Score and publish the week, and return its frozen rows."""
    batch = world.run(run_id="scored", until="publish")
    columns = ", ".join(("visit_id", *FEATURES))
    frozen = world.ask("SELECT frozen_table FROM ponte.batch WHERE batch_id = :id", id=batch.batch_id)
    rows = world.rows(f"SELECT {columns} FROM ponte_data.{frozen} ORDER BY visit_id")
    return pd.DataFrame(rows, columns=["visit_id", *FEATURES])


def published(world: World) -> list[tuple[Any, ...]]:
    return world.rows(
        "SELECT visit_id, prediction, score, model_version FROM predictions.visits WHERE window_start = :week "
        "ORDER BY visit_id",
        week=WEEK,
    )


def content(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_a_file_is_predicted_as_the_same_rows_of_a_batch_to_the_last_bit(
    door: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = rows_of_week(door)
    expected = published(door)
    rows.to_csv("rows.csv", index=False)
    rows.astype({"price": float}).to_parquet("rows.parquet")
    assert ponte("predict", "visits", "rows.csv", "--output", "said.parquet") == 0
    assert [tuple(row.values()) for row in pq.read_table("said.parquet").to_pylist()] == expected
    assert ponte("predict", "visits", "rows.parquet", "-o", "said.csv") == 0
    said = content(Path("said.csv").read_text())
    assert [(int(r["visit_id"]), int(r["prediction"]), float(r["score"]), int(r["model_version"])) for r in said] == (
        expected
    )
    capsys.readouterr()
    assert ponte("predict", "visits", "rows.csv") == 0
    shown = capsys.readouterr()
    assert shown.out == Path("said.csv").read_text()
    assert shown.err == "350 rows read, 350 predicted by version 1 of visits.\n"
    assert sorted(p.name for p in tmp_path.iterdir() if p.is_file()) == [
        *("rows.csv", "rows.parquet", "said.csv", "said.parquet")
    ]


def test_each_row_that_cannot_be_scored_is_rejected_with_its_reason_and_no_other(
    door: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(files, "CHUNK_ROWS", 4)  # a bad value must not change what the others of its chunk mean
    Path("rows.csv").write_bytes(
        HEAD.encode()
        + b"1,mill,3,10.5,2.5,t,0.5\n"
        + b"2,mill,three,10.5,2.5,t,0.5\n"
        + b"3,mill,3\n"
        + b",mill,3,10.5,2.5,t,0.5\n"
        + b'5,"qu""ay",3.0,10.5,,,0.5\n'
        + b"6,\xff,3,1e999,2.5,t,0.5\n"
        + b"5,park,3,-inf,2.5,t,0.5\n"
        + b"8,\xc3\xbc,3,10.5,2.5,t,0.5\n"
        + b"9,mill,3,10.5,2.5,t,0.5,more\n"
    )
    assert ponte("predict", "visits", "rows.csv", "--output", "said.csv") == 4
    assert [row["visit_id"] for row in content(Path("said.csv").read_text())] == ["1", "5", "8"]
    rejected = content(Path("said.csv.rejected.csv").read_text())
    assert {row["rejected_row"]: row["rejected_reason"] for row in rejected} == {
        "2": "items is no integer: 'three'",
        "3": "3 values, and there are 7 columns: 3,mill,3",
        "4": "visit_id is NULL, and is of the key",
        "6": "shop is no text: '�'; price is no number: '1e999'",
        "7": "cannot be scored: ValueError: Input X contains infinity or a value too large for dtype('float64').",
        "9": "8 values, and there are 7 columns: 9,mill,3,10.5,2.5,t,0.5,more",
    }
    assert rejected[0]["items"] == "three"
    assert "9 rows read, 3 predicted by version 1 of visits, 6 rejected" in capsys.readouterr().err
    # Corrected, it can be given again; then there is nothing to reject, and no old file that says so.
    text = Path("said.csv.rejected.csv").read_text().splitlines()
    Path("again.csv").write_text("\n".join([text[0], text[1].replace('"three"', "3")]) + "\n")
    assert ponte("predict", "visits", "again.csv", "--output", "said.csv") == 0
    assert not Path("said.csv.rejected.csv").exists()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", ["no names of columns"]),
        (HEAD.replace("price", "prise"), ["no 'price' (number)", "did you mean 'prise'"]),
        (HEAD.replace(",", ";"), ["--delimiter", "';'"]),
        (HEAD.replace("shop_rate", "shop_rate,shop"), ["there twice", "shop"]),
    ],
)
def test_a_file_that_is_not_what_it_should_be_ends_with_one_message_and_writes_nothing(
    door: World, tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, words: list[str]
) -> None:
    Path("rows.csv").write_text(text)
    Path("said.csv").write_text("of before")
    assert ponte("predict", "visits", "rows.csv", "--output", "said.csv") == 1
    message = capsys.readouterr().err
    assert all(word in message for word in words), message
    assert Path("said.csv").read_text() == "of before"
    assert sorted(p.name for p in tmp_path.iterdir() if p.is_file()) == ["rows.csv", "said.csv"]


def test_standard_input_another_delimiter_another_word_for_null_and_no_row(
    door: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Given:
        buffer = io.BytesIO(b"\xef\xbb\xbf" + HEAD.replace(",", "\t").encode() + b"1\tmill\tNA\t10.5\t2.5\tt\t0.5\r\n")

    monkeypatch.setattr("sys.stdin", Given)
    assert ponte("predict", "visits", "-", "--delimiter", "\\t", "--null", "NA") == 0
    assert [row["visit_id"] for row in content(capsys.readouterr().out)] == ["1"]
    Path("rows.csv").write_text(HEAD)
    assert ponte("predict", "visits", "rows.csv") == 0
    assert capsys.readouterr().out == '"visit_id","prediction","score","model_version"\n'


def test_one_row_is_said_as_pairs(door: World, capsys: pytest.CaptureFixture[str]) -> None:
    row = {"shop": "mill", "items": "3", "price": "10.5", "distance": "", "member": "yes", "shop_rate": "0.5"}
    pairs = [word for name, value in row.items() for word in ("--record", f"{name}={value}")]
    assert ponte("predict", "visits", *pairs) == 0
    said = content(capsys.readouterr().out)
    Path("rows.csv").write_text(HEAD + "1,mill,3,10.5,,yes,0.5\n")
    assert ponte("predict", "visits", "rows.csv") == 0
    assert {"visit_id": "1", **said[0]} == content(capsys.readouterr().out)[0]
    assert ponte("predict", "visits", *pairs, "--record", "items=many") == 4
    assert "items is no integer: 'many'" in capsys.readouterr().err
    assert ponte("predict", "visits", "--record", "shop=mill") == 1
    assert "no 'items' (integer)" in capsys.readouterr().err


def test_several_classes_have_a_column_each_and_a_regression_has_none(
    world: World, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    import datetime as dt

    from ponte.offline.source import of_record
    from ponte.offline.writing import Output
    from ponte.versions.loading import load_version

    for task, columns in (
        ("multiclass", ["prediction", "score_low", "score_much", "score_some", "model_version"]),
        ("regression", ["prediction", "model_version"]),
    ):
        trained = world.with_model(task=task).train(run_id=task).version
        loaded = load_version(world.store, trained)
        source = of_record(["shop=mill", "items=3", "price=9", "distance=", "member=t", "shop_rate=0.5"])
        target = io.BytesIO()
        counts = predict_rows(
            loaded, source, Output(None, target), Output(None, io.BytesIO()), now=dt.datetime.now(dt.UTC)
        )
        assert (counts.read, counts.predicted, counts.rejected) == (1, 1, 0)
        said = content(target.getvalue().decode())
        assert list(said[0]) == columns
        scores = [float(value) for name, value in said[0].items() if name.startswith("score_")]
        assert not scores or sum(scores) == pytest.approx(1)


def test_files_appear_whole_or_not_at_all_and_rows_that_are_lost_are_noticed(
    door: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from ponte.scoring.scorer import Scored, Scorer

    Path("rows.csv").write_text(HEAD + "1,mill,3,10.5,2.5,t,0.5\n2,mill,x,10.5,2.5,t,0.5\n")
    really = Scorer.score

    def forgets(self: Scorer, rows: pa.Table, **more: Any) -> Scored:
        return really(self, rows.slice(1), **more)

    monkeypatch.setattr(Scorer, "score", forgets)
    assert ponte("predict", "visits", "rows.csv", "--output", "said.csv") == 1
    assert "rows were lost" in capsys.readouterr().err
    assert [p.name for p in tmp_path.iterdir() if p.is_file()] == ["rows.csv"]


def test_nothing_is_written_to_the_database_and_nobody_could(door: World, tmp_path: Path) -> None:
    import sqlalchemy as sa

    from ponte.notebook.surroundings import runtime_of
    from ponte.schema import roles

    Path("rows.csv").write_text(HEAD + "1,mill,3,10.5,2.5,t,0.5\n")
    receipts = door.ask("SELECT count(*) FROM ponte.receipt")
    assert ponte("predict", "visits", "rows.csv", "--output", "said.csv") == 0
    assert door.ask("SELECT count(*) FROM ponte.receipt") == receipts
    viewer = runtime_of("visits", roles.VIEWER).db
    with pytest.raises(sa.exc.ProgrammingError, match="permission denied"), viewer.begin() as connection:
        connection.exec_driver_sql("INSERT INTO ponte.receipt (model) VALUES ('visits')")


def test_a_reader_that_has_seen_enough_ends_the_command_in_silence(door: World, tmp_path: Path) -> None:
    Path("rows.csv").write_text(HEAD + "1,mill,3,10.5,2.5,t,0.5\n" * 10_000)
    assert unread("predict", "visits", "rows.csv") == (141, "")
    assert unread("predict", "visits", *(f"--record={n}=1" for n in FEATURES if n not in ("shop", "member")),
                  "--record=shop=mill", "--record=member=t")[0] == 141  # fmt: skip
    assert [p.name for p in tmp_path.iterdir() if p.is_file()] == ["rows.csv"]


def kept_rows(door: World) -> list[Any]:
    return door.rows(
        "SELECT visit_id, prediction, score, source, model_version FROM predictions.visits_live ORDER BY 1"
    )


def test_what_is_kept_is_what_stands_in_the_file(
    door: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = rows_of_week(door)
    rows.to_csv(tmp_path / "week.csv", index=False)
    with (tmp_path / "week.csv").open("a") as file:
        file.write("x,mill,1,2,3,true,0.5\n")
    assert ponte("predict", "visits", "week.csv", "-o", "out.csv", "--keep") == 4
    assert "and kept in predictions.visits_live" in capsys.readouterr().err
    written = pd.read_csv(tmp_path / "out.csv").sort_values("visit_id")
    expected = [(r.visit_id, r.prediction, r.score, "offline", 1) for r in written.itertuples()]
    assert [tuple(row) for row in kept_rows(door)] == expected
    assert len(expected) == len(rows)
    assert door.ask("SELECT count(DISTINCT request_id) FROM predictions.visits_live") == len(rows)
    assert door.ask("SELECT sum(row_count) FROM ponte.live_count") == len(rows)
    states = "SELECT count(*) FROM predictions.visits_live, ponte.request_state(request_id) WHERE state = 'answered'"
    assert door.ask(states) == len(rows)


def test_a_row_without_its_key_is_kept_without_it(door: World) -> None:
    record = [
        f"--record={name}={value}" for name, value in zip(FEATURES, ("mill", 3, 20, 1.5, "true", 0.3), strict=True)
    ]
    assert ponte("predict", "visits", *record, "--keep") == 0
    assert [(row[0], row[3]) for row in kept_rows(door)] == [(None, "offline")]


def test_a_run_that_is_interrupted_keeps_no_row_and_leaves_no_file(
    door: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows_of_week(door).to_csv(tmp_path / "week.csv", index=False)
    monkeypatch.setattr(files, "CHUNK_ROWS", 100)
    score, calls = files._score, iter([None, None, KeyboardInterrupt])

    def interrupted(*arguments: Any, **options: Any) -> Any:
        if error := next(calls):
            raise error
        return score(*arguments, **options)

    monkeypatch.setattr(files, "_score", interrupted)
    assert ponte("predict", "visits", "week.csv", "-o", "out.csv", "--keep") == 130
    assert kept_rows(door) == []
    assert not list(tmp_path.glob("*out.csv*"))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("rows.csv", "-o", "said.csv", "--rejected", "folder/../said.csv"), ["need a file each", "--rejected"]),
        (("rows.csv", "-o", "folder/../rows.csv"), ["would replace the rows", "--output"]),
        (("link.csv", "-o", "rows.csv"), ["would replace the rows", "--output"]),
        (("rows.csv", "-o", "folder"), ["cannot be written", "folder"]),
        (("rows.csv", "-o", "said.csv", "--rejected", "folder"), ["cannot be written", "folder"]),
        (("rows.csv", "-o", "said.csv", "--rejected", "pipe"), ["cannot be written", "pipe"]),
        (("rows.csv", "-o", "nowhere/said.csv"), ["cannot be written", "No such file or directory"]),
        (("rows.csv", "--delimiter", ", "), ["divides no values", "one character"]),
        (("rows.csv", "--delimiter", ""), ["divides no values", "one character"]),
        (("rows.csv", "--delimiter", "\u00b7"), ["divides no values", "one character"]),
    ],
)
def test_what_cannot_be_done_is_said_before_a_file_is_touched(
    door: World, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], words: list[str]
) -> None:
    text = HEAD + "1,mill,3,10.5,2.5,t,0.5\n2,mill,x,10.5,2.5,t,0.5\n"
    Path("rows.csv").write_text(text)
    Path("link.csv").symlink_to("rows.csv")
    Path("folder").mkdir()
    os.mkfifo("pipe")  # as /dev/null, no file that may be replaced or removed
    assert ponte("predict", "visits", *arguments) == 1
    said = capsys.readouterr().err
    assert all(word in said for word in words), said
    assert Path("rows.csv").read_text() == text
    assert Path("pipe").is_fifo()
    assert sorted(p.name for p in tmp_path.iterdir() if p.is_file()) == ["link.csv", "rows.csv"]


def test_a_disk_that_is_full_and_a_name_that_is_no_model_are_said(
    door: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("rows.csv").write_text(HEAD + "1,mill,3,10.5,2.5,t,0.5\n")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    assert ponte("predict", "visits", "rows.csv", "-o", "said.csv") == 1
    assert "No space left on device" in capsys.readouterr().err
    assert [p.name for p in tmp_path.iterdir() if p.is_file()] == ["rows.csv"]
    for command in (("predict", "visit", "rows.csv"), ("predict", "visit", "rows.csv", "--version", "1"),
                    ("export", "visit", "folder")):  # fmt: skip
        assert ponte(*command) == 1
        said = capsys.readouterr().err
        assert "no such model" in said, said
        assert "did you mean 'visits'?" in said
