"""Versions and aliases: no gap, no double, no half; one wins a race and the other is told."""

from __future__ import annotations

import re
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from tests.postgres.batches.test_fence import at_once
from tests.postgres.children import DieWhileWriting, in_child
from tests.sample_model import FEATURES_SQL, World, write_model

from ponte.decisions import promotion
from ponte.errors import AliasMoved, NoChampion, PonteError
from ponte.storage.artifacts import ArtifactStore, StoredFolder
from ponte.versions import aliases, registry
from ponte.versions.aliases import Alias
from ponte.versions.loading import load_version
from ponte.versions.registry import Version

VERSIONS = "SELECT version FROM ponte.version ORDER BY 1"
EVENTS = "SELECT version, previous_version, actor FROM ponte.alias_event WHERE alias = 'champion' ORDER BY event_id"


def another(world: World, version: Version, train_key: str, **changes: object) -> registry.Version:
    """Register a copy of `version` under another key, without training anything."""

    def write(number: int) -> Version:
        names = Version.__dataclass_fields__
        return Version(**{name: getattr(version, name) for name in names} | {"version": number, "train_key": train_key})

    return registry.register(world.db, world.folder.name, train_key, write)


def test_versions_are_numbered_without_a_gap(trained: World) -> None:
    first = trained.champion()

    def fail(number: int) -> Version:
        raise OSError(f"disk full while writing {number}")

    assert another(trained, first, "a").version == 2
    with pytest.raises(OSError, match="disk full while writing 3"):
        registry.register(trained.db, "visits", "b", fail)
    assert trained.rows(VERSIONS) == [(1,), (2,)]
    assert another(trained, first, "c").version == 3
    assert another(trained, first, "b").version == 4
    assert another(trained, first, "a").version == 2
    assert trained.rows(VERSIONS) == [(1,), (2,), (3,), (4,)]


def test_two_copies_that_register_the_same_key_at_once_make_one_version(trained: World) -> None:
    first = trained.champion()
    for number in range(10):
        results = at_once([lambda key=f"key {number}": another(trained, first, key)] * 2)
        assert results[0] == results[1], results

    assert [v for (v,) in trained.rows(VERSIONS)] == list(range(1, 12))


def test_different_keys_at_once_get_different_numbers(trained: World) -> None:
    first = trained.champion()
    results = at_once([lambda key=str(n): another(trained, first, key) for n in range(6)])

    assert sorted(v.version for v in results) == list(range(2, 8))


def test_a_process_killed_while_it_writes_leaves_no_version_and_the_next_try_works(world: World) -> None:
    written = world.snapshot(run_id="t")
    child = in_child(world, "fit", written.snapshot_id, run_id="t", mischief=DieWhileWriting())

    assert child.ending() == "killed"
    (left_over,) = version_folders(world)
    assert (left_over / "manifest.json").exists()
    assert world.rows(VERSIONS) == []
    version = world.train(run_id="t").version
    assert world.rows(VERSIONS) == [(1,)]
    assert version_folders(world) == {left_over, Path(world.store.root.path) / version.path}
    world.run(run_id="r")


def version_folders(world: World) -> set[Path]:
    return set((Path(world.store.root.path) / "visits" / "versions").iterdir())


def test_the_files_of_every_version_lie_in_a_folder_of_their_own(trained: World) -> None:
    second = trained.with_model(files={"features.sql": FEATURES_SQL + "-- again\n"}).train(run_id="second").version

    for version in (registry.get_version(trained.db, "visits", 1), second):
        assert re.fullmatch(rf"visits/versions/{version.version}-[0-9a-f]{{8}}", version.path)


def test_a_run_that_lost_its_session_while_it_wrote_destroys_no_version(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The lock on the number ends with the session, so another run takes the number before the files are written."""
    written = {"late": world.snapshot(run_id="late")}
    elsewhere = world.folder.path.parent.with_name("elsewhere")
    elsewhere.mkdir()
    estimator = world.folder.text("estimator.py") + "# other\n"
    other = replace(world, folder=write_model(elsewhere, files={"estimator.py": estimator}))
    written["prompt"] = other.snapshot(run_id="prompt")
    write, taken = ArtifactStore.write_folder, []

    def write_too_late(store: ArtifactStore, *arguments: Any) -> StoredFolder:
        if not taken:
            taken.append(None)
            ended = world.rows("SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory'")
            assert ended == [(True,)]
            taken[0] = other.fit(written["prompt"].snapshot_id, run_id="prompt")
            loads(other, taken[0])
        return write(store, *arguments)

    def loads(owner: World, version: Version) -> None:
        assert load_version(owner.store, version).version == version

    monkeypatch.setattr(ArtifactStore, "write_folder", write_too_late)
    late = world
    with pytest.raises(sa.exc.OperationalError):
        late.fit(written["late"].snapshot_id, run_id="late")
    assert world.rows("SELECT version, run_id FROM ponte.version") == [(1, "prompt")]
    loads(other, taken[0])
    retried = late.fit(written["late"].snapshot_id, run_id="late")
    assert retried.version == 2
    loads(late, retried)
    loads(late, taken[0])


def test_an_unknown_version_is_named_with_those_that_exist(trained: World) -> None:
    with pytest.raises(PonteError, match=r"got: 7\n  expected: one of \[1\]"):
        registry.get_version(trained.db, "visits", 7)


def test_a_model_without_champion_says_what_to_do(world: World) -> None:
    with pytest.raises(NoChampion, match="trigger the DAG visits__train"):
        world.run(run_id="r")
    assert world.ask("SELECT count(*) FROM ponte.batch") + world.ask("SELECT count(*) FROM ponte.claim") == 0


def move(world: World, version: int, expected: Alias | None, actor: str) -> Alias:
    with world.db.begin() as connection:
        return aliases.append_move(
            connection, "visits", version, expected=expected, actor=actor, reason="test", evidence={"from": actor}
        )


def test_of_two_that_move_an_alias_from_the_same_state_one_wins(trained: World) -> None:
    first = trained.champion()
    versions = [another(trained, first, key).version for key in "ab"]
    for number in range(10):
        seen = aliases.current_alias(trained.db, "visits")
        results = at_once([lambda v=v, n=number, seen=seen: move(trained, v, seen, f"{n} to {v}") for v in versions])
        assert sorted(type(r).__name__ for r in results) == ["Alias", "AliasMoved"], results
        (winner,) = [r for r in results if isinstance(r, Alias)]
        assert aliases.current_alias(trained.db, "visits") == winner

    events = trained.rows(EVENTS)
    assert len(events) == 11
    assert all(event[1] == before[0] for before, event in pairwise(events))


def test_of_two_first_moves_one_wins(world: World) -> None:
    world.train(run_id="t", promote=False)
    results = at_once([lambda actor=actor: move(world, 1, None, actor) for actor in "ab"])

    assert sorted(type(r).__name__ for r in results) == ["Alias", "AliasMoved"], results
    assert len(world.rows(EVENTS)) == 1


def test_who_repeats_its_own_move_gets_the_same_event(trained: World) -> None:
    """Also when somebody else has moved the alias on since."""
    first = trained.champion()
    second = another(trained, first, "a").version
    seen = aliases.current_alias(trained.db, "visits")
    moved = move(trained, second, seen, "me")

    assert move(trained, second, seen, "me") == moved
    move(trained, 1, moved, "somebody")
    assert move(trained, second, seen, "me") == moved
    assert aliases.champion(trained.db, "visits").version == 1
    with pytest.raises(AliasMoved, match="moved to version 2 by me"):
        move(trained, second, seen, "you")
    assert [event[0] for event in trained.rows(EVENTS)] == [1, 2, 1]


def test_a_verdict_expires_when_the_champion_moves(trained: World) -> None:
    """What was held against version 1 is not promoted over version 3."""
    changed = trained.with_model(files={"features.sql": FEATURES_SQL + "-- changed\n"})
    run = changed.train(run_id="second", promote=False)
    third = another(trained, trained.champion(), "third").version
    move(trained, third, aliases.current_alias(trained.db, "visits"), "a person")

    assert run.verdict.passed
    with pytest.raises(AliasMoved, match=f"moved to version {third} by a person"):
        promotion.promote(trained.db, run.verdict_id, actor="second")
    assert trained.champion().version == third


def test_the_champion_of_any_moment_is_a_query(trained: World) -> None:
    before = trained.ask("SELECT clock_timestamp()")
    second = another(trained, trained.champion(), "a").version
    move(trained, second, aliases.current_alias(trained.db, "visits"), "me")

    champion = "SELECT ponte.champion_at('visits', :moment)"
    assert trained.ask(champion, moment=before) == 1
    assert trained.ask("SELECT ponte.champion_at('visits', clock_timestamp())") == second
    assert trained.ask("SELECT ponte.champion_at('visits', '2020-01-01')") is None
    assert trained.rows("SELECT version, champion FROM ponte.version_overview ORDER BY 1") == [(1, False), (2, True)]
