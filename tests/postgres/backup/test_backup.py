"""A backup put back is the same database with the same files; whatever is wrong with one, nothing is lost over it."""

from __future__ import annotations

import datetime as dt
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa
from tests.postgres.checks.test_quarantine import NO_ITEMS
from tests.sample_model import AS_OF, NEXT_WEEK, WEEK, World
from upath import UPath

from ponte.backup import dumping, restoring
from ponte.backup.backups import Digest, Manifest, create, digest_of, list_artifacts, restore, verify, write_stored
from ponte.errors import DatabaseUnavailable, PonteError
from ponte.live.journal import Journal
from ponte.live.tables import LiveTable, Unscored, prepare, request_ids
from ponte.storage.artifacts import ArtifactStore
from ponte.storage.database import Database, is_transient
from ponte.versions import loading, registry

if TYPE_CHECKING:
    from tests.conftest import Cluster, Template

THIRD_WEEK = NEXT_WEEK + dt.timedelta(days=7)
#: A role that owns a table, may read others, and is named in rights and settings of the database.
ROLE = "ponte_test_backup"

#: Owner and rights of everything that has them, whether written down or there by default.
RIGHTS = r"""
SELECT 'relation ' || c.oid::regclass, c.relowner::regrole::text, ARRAY(
    SELECT a::text FROM unnest(coalesce(
        c.relacl, acldefault(CASE c.relkind WHEN 'S' THEN 's' ELSE 'r' END::"char", c.relowner))) a ORDER BY 1)
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname !~ '^(pg_|information_schema)'
UNION ALL SELECT 'schema ' || nspname, nspowner::regrole::text, ARRAY(
    SELECT a::text FROM unnest(coalesce(nspacl, acldefault('n', nspowner))) a ORDER BY 1)
FROM pg_namespace WHERE nspname !~ '^(pg_|information_schema)'
UNION ALL SELECT 'function ' || p.oid::regprocedure, proowner::regrole::text, ARRAY(
    SELECT a::text FROM unnest(coalesce(proacl, acldefault('f', proowner))) a ORDER BY 1)
FROM pg_proc p JOIN pg_namespace n ON n.oid = pronamespace WHERE n.nspname !~ '^(pg_|information_schema)'
UNION ALL SELECT 'language ' || lanname, lanowner::regrole::text, ARRAY(SELECT a::text FROM unnest(lanacl) a ORDER BY 1)
FROM pg_language
UNION ALL SELECT 'function ' || oid::regprocedure, '', ARRAY(SELECT a::text FROM unnest(proacl) a ORDER BY 1)
FROM pg_proc WHERE proname LIKE 'lo\_%'
UNION ALL SELECT 'default ' || defaclobjtype::text || ' ' || defaclnamespace::regnamespace, defaclrole::regrole::text,
    ARRAY(SELECT a::text FROM unnest(defaclacl) a ORDER BY 1)
FROM pg_default_acl
UNION ALL SELECT 'database', datdba::regrole::text, ARRAY[
    ARRAY(SELECT a::text FROM unnest(datacl) a ORDER BY 1)::text, datcollate, datctype, datlocale,
    datlocprovider::text, encoding::text, datconnlimit::text, shobj_description(oid, 'pg_database')]
FROM pg_database WHERE datname = current_database()
UNION ALL SELECT 'setting', coalesce(r.rolname, ''), ARRAY(SELECT unnest(setconfig) ORDER BY 1)
FROM pg_db_role_setting
LEFT JOIN pg_roles r ON r.oid = setrole
WHERE setdatabase = (SELECT oid FROM pg_database WHERE datname = current_database())
ORDER BY 1, 2
"""


@dataclass(frozen=True)
class Pair:
    """A database with its artifact root, as whoever administers them sees them."""

    server: Cluster
    name: str
    root: Path

    @property
    def url(self) -> sa.URL:
        return sa.make_url(self.server._server.url(self.name, "postgres", "sesame"))

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        with Database(self.url).begin() as connection:
            return [tuple(row) for row in connection.exec_driver_sql(query.replace("%", "%%"))]

    def databases(self) -> list[str]:
        """Return the names of all databases that stem from this one."""
        found = replace(self, name="postgres").rows(
            f"SELECT datname FROM pg_database WHERE datname ~ '^{self.name}(_|$)'"
        )
        return sorted(name for (name,) in found)

    def content(self) -> dict[str, Any]:
        """Return a checksum of every table, view and sequence, and who may do what."""
        relations = self.rows(
            "SELECT format('%I.%I', nspname, relname) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
            "WHERE relkind IN ('r', 'p', 'v') AND nspname !~ '^(pg_|information_schema)' ORDER BY 1"
        )
        checksum = "SELECT count(*) || ':' || coalesce(md5(string_agg(t::text, ',' ORDER BY t::text)), '') FROM {} t"
        return {
            **{name: self.rows(checksum.format(name)) for (name,) in relations},
            "partitions": self.rows(
                "SELECT inhparent::regclass::text, inhrelid::regclass::text FROM pg_inherits ORDER BY 1, 2"
            ),
            "sequences": self.rows("SELECT schemaname, sequencename, last_value FROM pg_sequences ORDER BY 1, 2"),
            "rights": self.rows(RIGHTS),
        }

    def files(self) -> dict[str, bytes]:
        return {p.relative_to(self.root).as_posix(): p.read_bytes() for p in self.root.rglob("*") if p.is_file()}

    def create(self, folder: Path) -> Manifest:
        return create(folder, self.url, self.root.as_uri())

    def restore(self, folder: Path, *, replace: bool = False) -> str | None:
        return restore(folder, self.url, self.root.as_uri(), replace=replace)[1]

    def world(self, old: World) -> World:
        """Return the same world on this database and this artifact root."""
        db = Database(old.db.url.set(database=self.name))
        return World(db=db, store=ArtifactStore(UPath(self.root)), folder=old.folder)


def answer_live(world: World) -> None:
    """Leave a live row, feedback on it, a request without an answer, and a count of what was dropped."""
    now = dt.datetime.now(dt.UTC)
    prepare(world.db, "visits")
    answered, failed = request_ids(2, now)
    journal = Journal(world.db, limit=2)
    columns = {"prediction": 1, "scored_at": now, "model_version": 1, "visit_id": [7], "features": ['{"shop": "mill"}']}
    table = LiveTable.of(world.champion())
    failure = Unscored(request_id=failed, model="visits", source="api", asked_at=now, why="no", kind="ValueError")
    journal.put(table, {**columns, "request_id": [answered]}, source="api", asked_at=now, unscored=[failure])
    journal.put(table, {**columns, "request_id": request_ids(1, now)}, source="api", asked_at=now)
    assert journal.flush()
    world.ask("SELECT ponte.give_live_feedback(CAST(:id AS uuid), 'wrong', '0', 'no', 'website')", id=answered)


@pytest.fixture(scope="module")
def two_weeks(
    server: Cluster, trained_template: Template, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Template]:
    """A champion, two published weeks, rows in quarantine, and live rows with what belongs to them."""

    def score(world: World) -> None:
        world = world.with_model(checks=NO_ITEMS)
        world.run(run_id="first week")
        world.run(run_id="second week", week=NEXT_WEEK)
        answer_live(world)

    with trained_template.after(server, tmp_path_factory.mktemp("two weeks"), score) as found:
        yield found


@pytest.fixture
def world(server: Cluster, two_weeks: Template, tmp_path: Path) -> Iterator[World]:
    """A private copy of it."""
    with two_weeks.copy(server, tmp_path) as world:
        yield world


@pytest.fixture
def role(server: Cluster) -> str:
    """A role that is there for the session."""
    unless = f"IF to_regrole('{ROLE}') IS NULL"
    server.execute(f"DO $$ BEGIN {unless} THEN CREATE ROLE {ROLE} LOGIN PASSWORD 'sesame'; END IF; END $$")
    return ROLE


@pytest.fixture
def pair(server: Cluster, world: World) -> Iterator[Pair]:
    """What is backed up; databases that are kept beside it are dropped after the test."""
    pair = Pair(server, str(world.db.url.database), Path(world.store.root.path))
    yield pair
    for name in pair.databases():
        if name != pair.name:
            server.execute(f"DROP DATABASE {name} WITH (FORCE)")
    if pair.name not in pair.databases():
        server.execute(f"CREATE DATABASE {pair.name}")  # the fixture below drops it


@pytest.fixture
def elsewhere(pair: Pair, tmp_path: Path) -> Pair:
    """A database that does not exist, and an artifact root without anything."""
    return Pair(pair.server, f"{pair.name}_elsewhere", tmp_path / "elsewhere")


# ---------------------------------------------------------------- the round trip


def give_rights(pair: Pair, role: str) -> None:
    """Set all that a database can have beside its content."""
    for statement in (
        f"REVOKE CONNECT ON DATABASE {pair.name} FROM PUBLIC",
        f"GRANT CONNECT, TEMPORARY ON DATABASE {pair.name} TO {role} WITH GRANT OPTION",
        f"ALTER DATABASE {pair.name} SET search_path = ponte, \"$user\", 'public'",
        f"ALTER DATABASE {pair.name} SET ponte.motto = 'it''s 100 %, \\ and all'",
        f"ALTER ROLE {role} IN DATABASE {pair.name} SET statement_timeout = '1h'",
        f"ALTER DATABASE {pair.name} CONNECTION LIMIT 90",
        f"COMMENT ON DATABASE {pair.name} IS 'it''s 100 %, :all of it'",
        f"GRANT USAGE ON SCHEMA ponte, predictions, ponte_data TO {role}",
        f"GRANT SELECT ON predictions.visits TO {role}",
        f"GRANT UPDATE (status) ON ponte.batch TO {role}",
        f"ALTER TABLE ponte_data.visits__prediction_1 OWNER TO {role}",
        f"ALTER DEFAULT PRIVILEGES IN SCHEMA shop GRANT SELECT ON TABLES TO {role}",
        "REVOKE EXECUTE ON FUNCTION ponte.champion_at FROM PUBLIC",
        'CREATE TABLE shop."50 % off: ""it\'s"" \\" AS SELECT 1 AS n',
    ):
        pair.server.execute(statement.replace("%", "%%"), pair.name)


def test_what_is_put_back_is_what_was_there(
    pair: Pair, elsewhere: Pair, world: World, tmp_path: Path, role: str
) -> None:
    give_rights(pair, role)
    before, files = pair.content(), pair.files()
    assert before["ponte.quarantine"] != [("0:",)]
    assert len(before["partitions"]) > 2
    for name in ("ponte_data.live_visits", "ponte.live_feedback", "ponte.live_unscored", "ponte.live_dropped"):
        assert before[name] != [("0:",)], name
    manifest = pair.create(tmp_path / "backup")
    assert manifest.dump.row_counts["ponte.version"] == 1
    assert manifest.dump.row_counts["ponte_data.visits__prediction_1"] > 300
    assert verify(tmp_path / "backup") == manifest
    assert (tmp_path / "backup").stat().st_mode & 0o777 == 0o700, "it holds everything"
    assert elsewhere.restore(tmp_path / "backup") is None
    assert elsewhere.content() == before
    assert elsewhere.files() == files
    assert pair.content() == before
    analyzed = "SELECT 1 FROM pg_stats WHERE tablename = 'visits__prediction_1' AND attname = 'score'"
    assert elsewhere.rows(analyzed) == [(1,)], "or its first queries are planned blindly"


def test_scoring_goes_on_where_it_stood(pair: Pair, elsewhere: Pair, world: World, tmp_path: Path) -> None:
    last = world.ask("SELECT max(batch_id) FROM ponte.batch")
    pair.create(tmp_path / "backup")
    elsewhere.restore(tmp_path / "backup")
    expected = world.run(run_id="third week", week=THIRD_WEEK)
    there = elsewhere.world(world)
    answer_live(there)
    assert there.ask("SELECT count(*) FROM predictions.visits_live") == 2
    batch = there.run(run_id="third week", week=THIRD_WEEK)
    assert batch.batch_id == expected.batch_id == last + 1
    assert there.published_checksum(THIRD_WEEK) == world.published_checksum(THIRD_WEEK)
    again = there.train(run_id="again", as_of=AS_OF + dt.timedelta(days=14))
    assert again.version.version == 2


def test_the_old_database_is_kept_and_its_sessions_end(pair: Pair, world: World, tmp_path: Path) -> None:
    before, files = pair.content(), pair.files()
    pair.create(tmp_path / "backup")
    world.run(run_id="third week", week=THIRD_WEEK)
    later = pair.content()
    [lost, changed, *_] = sorted(pair.root.rglob("*.joblib")) + sorted(pair.root.rglob("*.parquet"))
    lost.unlink()
    changed.write_bytes(b"changed")
    with world.db.engine.connect() as open_session:
        open_session.exec_driver_sql("SELECT 1")
        kept = pair.restore(tmp_path / "backup", replace=True)
        with pytest.raises(sa.exc.OperationalError, match=r"closed|terminating"):
            open_session.exec_driver_sql("SELECT 1")
    assert kept is not None
    assert pair.databases() == [pair.name, kept]
    assert pair.content() == before
    assert pair.files() == files
    assert replace(pair, name=kept).content() == later


def test_an_empty_database_needs_no_permission(pair: Pair, migrated: str, tmp_path: Path) -> None:
    before = pair.content()
    pair.create(tmp_path / "backup")
    pair.server.execute(f"DROP DATABASE {pair.name} WITH (FORCE)")
    pair.server.execute(f"CREATE DATABASE {pair.name} TEMPLATE {migrated}")
    assert pair.restore(tmp_path / "backup") is None
    assert pair.databases() == [pair.name]
    assert pair.content() == before


def test_artifacts_may_be_in_object_storage(pair: Pair, elsewhere: Pair, tmp_path: Path) -> None:
    pair.create(tmp_path / "backup")
    restore(tmp_path / "backup", elsewhere.url, "memory://store/artifacts")
    found = {name: path.read_bytes() for name, path in list_artifacts(UPath("memory://store/artifacts")).items()}
    assert found == pair.files()
    second = create(tmp_path / "second", elsewhere.url, "memory://store/artifacts")
    assert (tmp_path / "second" / "artifacts").is_dir()
    assert second.dump == verify(tmp_path / "backup").dump


def test_files_that_are_still_being_written_are_left_out(pair: Pair, tmp_path: Path) -> None:
    files = pair.files()
    for hidden in (".x.partial/a", "v/.tmp", "v/.x/a"):
        (pair.root / hidden).parent.mkdir(parents=True, exist_ok=True)
        (pair.root / hidden).write_text("half")
    assert list_artifacts(UPath(pair.root.as_uri())).keys() == files.keys()
    manifest = pair.create(tmp_path / "backup")
    assert {name for name in manifest.files if name.startswith("artifacts/")} == {f"artifacts/{n}" for n in files}


@pytest.mark.parametrize("where", ["file", "memory"])
def test_a_file_that_changes_while_it_is_copied_is_not_kept(where: str, tmp_path: Path) -> None:
    root = UPath(tmp_path.as_uri() if where == "file" else f"memory://{tmp_path.name}")
    with pytest.raises(PonteError, match="changed while it was copied"):
        write_stored(io.BytesIO(b"right"), root / "v" / "a", Digest("0" * 64, 5))
    assert root.fs.find(root.path) == []


# ---------------------------------------------------------------- a backup that is not one


def largest(folder: Path, pattern: str) -> Path:
    return max(folder.rglob(pattern), key=lambda path: path.stat().st_size)


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def rewrite(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change the manifest as if the backup had been written so."""
    manifest = json.loads((folder / "manifest.json").read_text())
    change(manifest)
    (folder / "manifest.json").write_text(json.dumps(manifest))


def forget(folder: Path, pattern: str) -> None:
    """Remove an artifact as if the backup had never held it."""
    file = largest(folder, pattern)
    file.unlink()
    rewrite(folder, lambda manifest: manifest["files"].pop(file.relative_to(folder).as_posix()))


DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "tampered artifact": (lambda f: flip(largest(f, "*.joblib")), "changed file artifacts/"),
    "tampered dump": (lambda f: flip(largest(f, "*.dat.gz")), "changed file database/"),
    "truncated dump": (lambda f: os.truncate(largest(f, "*.dat.gz"), 100), "changed file database/"),
    "missing file": (lambda f: largest(f, "*.parquet").unlink(), "missing file artifacts/"),
    "missing part of the dump": (lambda f: largest(f, "*.dat.gz").unlink(), "missing file database/"),
    "extra file": (lambda f: (f / "artifacts" / "more").write_text("x"), "extra file artifacts/more"),
    "forgotten part of a version": (lambda f: forget(f, "*.joblib"), "the database names artifacts that are not there"),
    "forgotten snapshot": (lambda f: forget(f, "*.parquet"), "the database names artifacts that are not there"),
    "no manifest": (lambda f: (f / "manifest.json").unlink(), "this is no backup"),
    "half a manifest": (lambda f: os.truncate(f / "manifest.json", 1000), "manifest.json is damaged"),
    "another format": (lambda f: (f / "manifest.json").write_text('{"format": 99}'), "unknown format"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_backup_is_refused_before_anything_is_done(
    damage: str, pair: Pair, elsewhere: Pair, tmp_path: Path
) -> None:
    change, said = DAMAGES[damage]
    pair.create(tmp_path / "backup")
    change(tmp_path / "backup")
    with pytest.raises(PonteError, match=said):
        verify(tmp_path / "backup")
    with pytest.raises(PonteError, match=said):
        elsewhere.restore(tmp_path / "backup")
    assert elsewhere.databases() == []
    assert not elsewhere.root.exists()


def break_the_data(folder: Path) -> str:
    """Damage the dump so that pg_restore finds out, half way."""
    file = largest(folder, "*.dat.gz")
    flip(file)
    digest = digest_of(file)
    entry = {"sha256": digest.sha256, "byte_count": digest.byte_count}
    rewrite(folder, lambda manifest: manifest["files"].update({f"database/{file.name}": entry}))
    return "pg_restore failed"


def lose_a_row(folder: Path) -> str:
    rewrite(folder, lambda manifest: manifest["dump"]["row_counts"].update({"ponte.batch": 99}))
    return r"ponte\.batch: 2 rows, in the backup 99"


def lose_a_table(folder: Path) -> str:
    rewrite(folder, lambda manifest: manifest["dump"]["row_counts"].update({"ponte.gone": 1}))
    return r"ponte\.gone: None rows, in the backup 1"


@pytest.mark.parametrize("wrong", [break_the_data, lose_a_row, lose_a_table], ids=lambda f: f.__name__)
def test_a_restore_that_fails_half_way_leaves_the_old_database(
    wrong: Callable[[Path], str], pair: Pair, world: World, tmp_path: Path
) -> None:
    pair.server.execute(f"REVOKE ALL ON DATABASE {pair.name} FROM PUBLIC")  # as it is in production
    pair.create(tmp_path / "backup")
    world.run(run_id="third week", week=THIRD_WEEK)
    before, files = pair.content(), pair.files()
    said = wrong(tmp_path / "backup")
    with world.db.engine.connect() as session:
        with pytest.raises(PonteError, match=said):
            pair.restore(tmp_path / "backup", replace=True)
        session.exec_driver_sql("SELECT 1")
    assert pair.databases() == [pair.name]
    assert pair.rows("SELECT rolname FROM pg_roles WHERE rolname LIKE '%restored%'") == []
    assert pair.content() == before
    assert pair.files() == files


def test_rows_are_loaded_by_somebody_who_may_do_nothing_else(
    pair: Pair, elsewhere: Pair, world: World, tmp_path: Path
) -> None:
    """A CHECK of the trainer's is evaluated by whoever loads the rows: a superuser would do there what it says."""
    trainer = Database(world.db.url.set(username="ponte_trainer"))
    check = "current_setting('is_superuser') = 'off' AND set_config('role', 'none', false) IS NOT NULL"
    with trainer.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE ponte_data.mine AS SELECT 1 AS n")
        connection.exec_driver_sql(f"ALTER TABLE ponte_data.mine ADD CHECK ({check})")
    # What is somebody else's is loaded as ever, whatever its checks need: here a right to read, not rows, which may
    # come later.
    reads = (
        "CREATE FUNCTION shop.known(n int) RETURNS boolean LANGUAGE sql RETURN (SELECT count(*) FROM shop.visit) >= 0"
    )
    with Database(pair.url).begin() as connection:
        for statement in (
            reads,
            "REVOKE EXECUTE ON FUNCTION shop.known FROM PUBLIC",
            "CREATE TABLE shop.checked AS SELECT 1 AS n",
            "ALTER TABLE shop.checked ADD CHECK (shop.known(n))",
            "SELECT lo_from_bytea(0, 'large')",
        ):
            connection.exec_driver_sql(statement)
    pair.create(tmp_path / "b")
    elsewhere.restore(tmp_path / "b")
    assert elsewhere.content() == pair.content()
    assert pair.rows("SELECT rolname FROM pg_roles WHERE rolname LIKE '%restored%'") == []


def test_a_constraint_that_would_be_checked_as_superuser_is_refused(
    pair: Pair, elsewhere: Pair, world: World, tmp_path: Path
) -> None:
    """In a circle of dependencies pg_dump adds it at the end, when the rows are there."""
    with Database(world.db.url.set(username="ponte_trainer")).begin() as connection:
        for statement in (
            "CREATE TABLE ponte_data.b (n int)",
            "CREATE TABLE ponte_data.a (n int)",
            "ALTER TABLE ponte_data.b ADD COLUMN x ponte_data.a",
            "ALTER TABLE ponte_data.a ADD CONSTRAINT late CHECK ((NULL::ponte_data.b) IS NULL)",
        ):
            connection.exec_driver_sql(statement)
    pair.create(tmp_path / "b")
    with pytest.raises(PonteError, match=r"(?s)constraints that Ponte does not make.* late "):
        elsewhere.restore(tmp_path / "b")


def test_a_server_that_dies_in_a_restore_does_not_hide_why(
    pair: Pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pair.create(tmp_path / "b")
    gone = sa.make_url("postgresql+psycopg2://postgres@/postgres").update_query_dict({"host": str(tmp_path)})

    run_program = restoring.run_program

    def fill_the_disk(program: str, arguments: list[str], url: sa.URL) -> None:
        if "--section=data" not in arguments:
            return run_program(program, arguments, url)
        monkeypatch.setattr(restoring, "_maintenance", lambda _: Database(gone).begin())
        raise PonteError(f"{program} failed", got="No space left on device")

    monkeypatch.setattr(restoring, "run_program", fill_the_disk)
    with pytest.raises(PonteError, match="No space left"):
        pair.restore(tmp_path / "b", replace=True)
    monkeypatch.undo()
    said = capsys.readouterr().err
    left = [line.partition("superuser: ")[2] for line in said.splitlines() if line.startswith("left behind")]
    assert len(left) == 2, "the database and the role that loads it"
    for statement in left:
        pair.server.execute(statement)
    assert pair.databases() == [pair.name]


def test_a_lost_race_for_the_name_leaves_the_old_database(
    pair: Pair, world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pair.create(tmp_path / "backup")
    before = pair.content()
    monkeypatch.setattr(restoring, "require_room", lambda *_, **__: None)
    with world.db.engine.connect() as session:
        session.exec_driver_sql("SELECT 1")
        with pytest.raises(sa.exc.DBAPIError, match="being accessed by other users"):
            pair.restore(tmp_path / "backup")
    assert pair.databases() == [pair.name]
    assert pair.content() == before


def test_a_session_that_enters_before_the_name_is_taken_means_another_attempt(
    pair: Pair, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    fresh, entered, quote = f"{pair.name}_restored", [], restoring.quote
    pair.server.execute(f"CREATE DATABASE {fresh}")
    pair.server.execute("CREATE TABLE restored AS SELECT 1 AS n", fresh)

    def enter(*names: str) -> str:
        """Others were sent away; the rename comes next."""
        if names == (pair.name,) and not entered:
            entered.append(world.db.engine.connect())
        return quote(*names)

    monkeypatch.setattr(restoring, "quote", enter)
    kept = restoring.take_name(pair.url, fresh, replace=True)
    [session] = entered
    with pytest.raises(sa.exc.OperationalError, match=r"closed|terminating"):
        session.exec_driver_sql("SELECT 1")
    assert pair.databases() == [pair.name, kept]
    assert pair.rows("SELECT n FROM restored") == [(1,)]


# ---------------------------------------------------------------- refusals


def test_rows_are_not_overwritten_without_permission(pair: Pair, tmp_path: Path) -> None:
    pair.create(tmp_path / "backup")
    before = pair.content()
    with pytest.raises(PonteError, match="the database is not empty"):
        pair.restore(tmp_path / "backup")
    assert pair.databases() == [pair.name]
    assert pair.content() == before


def test_an_empty_database_in_use_is_not_replaced_without_permission(
    pair: Pair, migrated: str, world: World, tmp_path: Path
) -> None:
    pair.create(tmp_path / "backup")
    pair.server.execute(f"DROP DATABASE {pair.name} WITH (FORCE)")
    pair.server.execute(f"CREATE DATABASE {pair.name} TEMPLATE {migrated}")
    with world.db.engine.connect() as session:
        session.exec_driver_sql("SELECT 1")
        with pytest.raises(PonteError, match=r"the database is in use(.|\n)*got: ponte\w* ponte"):
            pair.restore(tmp_path / "backup")
    assert pair.databases() == [pair.name]


def test_a_stored_file_that_differs_is_not_overwritten_without_permission(
    pair: Pair, elsewhere: Pair, tmp_path: Path
) -> None:
    pair.create(tmp_path / "backup")
    shutil.copytree(pair.root, elsewhere.root)
    largest(elsewhere.root, "*.joblib").write_bytes(b"changed")
    files = elsewhere.files()
    with pytest.raises(PonteError, match=r"stored files differ(.|\n)*model\.joblib"):
        elsewhere.restore(tmp_path / "backup")
    assert elsewhere.databases() == []
    assert elsewhere.files() == files


def test_a_backup_goes_into_a_new_folder(pair: Pair, tmp_path: Path) -> None:
    (tmp_path / "backup").mkdir()
    (tmp_path / "backup" / "mine").write_text("mine")
    with pytest.raises(PonteError, match="not empty"):
        pair.create(tmp_path / "backup")
    assert [p.name for p in (tmp_path / "backup").iterdir()] == ["mine"]


@pytest.mark.parametrize("pattern", ["*.joblib", "manifest.json", "*.parquet"])
def test_a_database_whose_artifacts_are_lost_is_no_backup(pair: Pair, tmp_path: Path, pattern: str) -> None:
    [lost, *_] = pair.root.rglob(pattern)
    lost.unlink()
    with pytest.raises(PonteError, match=rf"the database names artifacts that are not there(.|\n)*{lost.name}"):
        pair.create(tmp_path / "backups" / "backup")
    assert list((tmp_path / "backups").iterdir()) == []


def test_a_role_that_is_missing_is_named(pair: Pair, elsewhere: Pair, tmp_path: Path) -> None:
    pair.server.execute("CREATE ROLE ponte_test_gone")
    pair.server.execute("GRANT SELECT ON ponte.batch TO ponte_test_gone", pair.name)
    pair.create(tmp_path / "backup")
    pair.server.execute("DROP OWNED BY ponte_test_gone", pair.name)
    pair.server.execute("DROP ROLE ponte_test_gone")
    with pytest.raises(PonteError, match=r"got: ponte_test_gone\n(.|\n)*\./ponte provision"):
        elsewhere.restore(tmp_path / "backup")
    assert elsewhere.databases() == []


def test_an_older_server_is_refused(pair: Pair, elsewhere: Pair, tmp_path: Path) -> None:
    dump = pair.create(tmp_path / "backup").dump
    got = dump.server_version
    rewrite(tmp_path / "backup", lambda manifest: manifest["dump"].update(server_version="100.1 (Debian 100.1-1)"))
    with pytest.raises(PonteError, match=rf"older(.|\n)*got: {re.escape(got)}\n *expected: 100 or newer"):
        elsewhere.restore(tmp_path / "backup")
    assert elsewhere.databases() == []
    major = int(got.partition(".")[0])
    for version, fine in ((f"{major + 1}beta1", False), (f"{major}.99", True), ("9.6.24", True)):
        with nullcontext() if fine else pytest.raises(PonteError, match="older"):
            restoring.require_room(elsewhere.url, replace(dump, server_version=version), replace=False)


# ---------------------------------------------------------------- while others work, and when it is killed


def environment(pair: Pair) -> dict[str, str]:
    found = {name: value for name, value in os.environ.items() if not name.startswith(("PONTE_", "PG"))}
    return {**found, "PYTHONPATH": "plugins", "PONTE_ARTIFACTS": pair.root.as_uri()}


def command(pair: Pair, *arguments: str | Path, **variables: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "ponte.cli", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**environment(pair), **variables},
        # A shell starts what runs in the background deaf to SIGINT, and so would be what that starts.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509 - one system call
    )


def wait_for(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL], ids=lambda s: s.name)
def test_a_backup_that_is_killed_is_none(pair: Pair, tmp_path: Path, how: signal.Signals) -> None:
    backups = tmp_path / "backups"
    os.mkfifo(pair.root / "zz_pipe")  # nobody writes to it: copying the artifacts never ends
    process = command(pair, "backup", backups / "backup", "--database", pair.url.render_as_string(False))
    wait_for(lambda: list(backups.glob(".backup.*.partial/artifacts/*")))
    time.sleep(0.5)
    assert [p.suffix for p in backups.iterdir()] == [".partial"]
    process.send_signal(how)
    process.communicate(timeout=60)
    (pair.root / "zz_pipe").unlink()
    assert not (backups / "backup").exists()
    if how is not signal.SIGKILL:
        assert process.returncode == 130
        assert list(backups.iterdir()) == []
    with pytest.raises(PonteError, match="this is no backup"):
        verify(backups / "backup")
    pair.create(backups / "backup")


def as_airflow_does(step: Callable[[], object]) -> None:
    """Run a step; after a passing fault again, up to four times."""
    for left in reversed(range(5)):
        try:
            step()
        except Exception as error:
            if not left or not (isinstance(error, DatabaseUnavailable) or is_transient(error)):
                raise
            time.sleep(0.5)
        else:
            return


def test_a_backup_of_a_database_at_work_is_of_one_moment(
    pair: Pair, elsewhere: Pair, world: World, tmp_path: Path
) -> None:
    stop, faults = threading.Event(), []

    def work() -> None:
        number = 0
        try:
            while not stop.is_set():
                number += 1
                week = (WEEK, NEXT_WEEK, THIRD_WEEK)[number % 3]
                as_airflow_does(lambda week=week, number=number: world.run(run_id=f"run {number}", week=week))
                if number % 4 == 0:
                    as_of = AS_OF + dt.timedelta(days=7 * (number // 4))
                    # Not champions: they may know how the weeks ended that are scored here.
                    as_airflow_does(
                        lambda as_of=as_of, number=number: world.train(run_id=f"t {number}", as_of=as_of, promote=False)
                    )
        except Exception as error:  # noqa: BLE001 - shown by the test
            faults.append(error)

    worker = threading.Thread(target=work)
    worker.start()
    try:
        folders = [tmp_path / f"backup {n}" for n in range(4)]
        for folder in folders:
            pair.create(folder)
    finally:
        stop.set()
        worker.join()
    assert not faults
    batches = []
    for folder in folders:
        verify(folder)
        elsewhere.restore(folder, replace=True)
        there = elsewhere.world(world)
        batches.append(there.ask("SELECT max(batch_id) FROM ponte.batch"))
        # Of each batch that was finished every row is there, published or set aside.
        assert not there.rows(
            "SELECT * FROM ponte.batch_overview b WHERE published AND rows_frozen <> rows_quarantined + "
            "(SELECT count(*) FROM predictions.visits v WHERE v.batch_id = b.batch_id)"
        )
        for (number,) in there.rows("SELECT version FROM ponte.version"):
            loading.load_version(there.store, registry.get_version(there.db, "visits", number))
    assert batches[0] < batches[-1]


def test_a_table_that_is_gone_when_it_would_be_locked_means_another_attempt(
    pair: Pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pair.server.execute("CREATE TABLE shop.brief AS SELECT 1 AS n", pair.name)
    attempts, relations, run = [], dumping.relations, dumping.run_program

    def drop_between(connection: sa.Connection, kinds: str) -> list[str]:
        found = relations(connection, kinds)
        pair.server.execute("DROP TABLE IF EXISTS shop.brief", pair.name)
        return found

    def fail_in_parallel(program: str, arguments: list[str], url: sa.URL) -> None:
        attempts.append(arguments[2])
        run(program, arguments, url)
        if arguments[2] == "--jobs=2":
            raise PonteError("could not obtain lock")

    monkeypatch.setattr(dumping, "PAUSES", (0, 0, 0))
    monkeypatch.setattr(dumping, "relations", drop_between)
    monkeypatch.setattr(dumping, "run_program", fail_in_parallel)
    pair.create(tmp_path / "backup")
    assert attempts == ["--jobs=2", "--jobs=1"]
    verify(tmp_path / "backup")


def test_a_table_that_is_locked_means_another_attempt(
    pair: Pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses = []
    with Database(pair.url).engine.connect() as other:
        other.exec_driver_sql("LOCK TABLE shop.visit IN ACCESS EXCLUSIVE MODE")

        def let_go(seconds: float) -> None:
            pauses.append(seconds)
            other.rollback()

        monkeypatch.setattr(dumping.time, "sleep", let_go)
        pair.create(tmp_path / "backup")
    assert pauses == [1]
    verify(tmp_path / "backup")


# ---------------------------------------------------------------- the command line


def test_the_commands_work_together_and_never_show_the_password(pair: Pair, tmp_path: Path) -> None:
    url, folder = pair.url.render_as_string(False), tmp_path / "backup"
    process = command(pair, "backup", folder, "--database", url)
    said, progress = process.communicate()
    assert process.returncode == 0, progress
    assert said.startswith(f"{folder}: ")
    assert "database" in progress
    process = command(pair, "backup", folder, "--verify")
    assert "is whole" in process.communicate()[0]
    process = command(pair, "restore", folder, "--database", url)
    _, why = process.communicate()
    assert process.returncode == 1
    assert "the database is not empty" in why
    process = command(pair, "restore", folder, "--replace", "--database", url)
    said, _ = process.communicate()
    assert process.returncode == 0
    assert f"The database that was there is now {pair.name}_before_" in said
    process = command(pair, "backup", tmp_path / "second", "--database", url.replace("sesame", "secret"))
    said, why = process.communicate()
    assert process.returncode == 1
    assert "authentication failed" in why
    assert "secret" not in said + why
    assert not any("sesame" in file.read_text(errors="replace") for file in folder.rglob("*.json"))


def test_without_an_argument_it_is_the_database_ponte_of_the_administrator(pair: Pair, tmp_path: Path) -> None:
    there = replace(pair, name="ponte")
    admin = replace(pair, name="postgres").url.render_as_string(False)
    pair.create(tmp_path / "backup")
    try:
        # A shell leaves the tilde of `make restore FOLDER=~/backup` alone.
        process = command(pair, "restore", "~/backup", HOME=str(tmp_path), PONTE_ADMIN_URL=admin)
        said, why = process.communicate()
        assert process.returncode == 0, why
        assert said.startswith(f"{tmp_path / 'backup'} is restored as database ponte: ")
        assert there.content() == pair.content()
    finally:
        pair.server.execute("DROP DATABASE IF EXISTS ponte WITH (FORCE)")


def test_without_a_database_the_commands_ask_which(pair: Pair, tmp_path: Path) -> None:
    for name in ("backup", "restore"):
        process = command(pair, name, tmp_path / "backup", PONTE_HOME=str(tmp_path / "home"))
        said, why = process.communicate()
        assert (process.returncode, said) == (1, "")
        assert "which database?" in why
    assert not (tmp_path / "backup").exists()
    assert not (tmp_path / "home").exists()


def test_no_program_is_given_the_password_as_an_argument(
    pair: Pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started, popen = [], subprocess.Popen

    def start(arguments: list[str], **options: Any) -> Any:
        started.append((arguments, options["env"]))
        return popen(arguments, **options)

    monkeypatch.setattr(dumping.subprocess, "Popen", start)
    pair.create(tmp_path / "backup")
    assert started
    for arguments, variables in started:
        assert "sesame" not in " ".join(arguments)
        assert variables["PGPASSWORD"] == "sesame"
