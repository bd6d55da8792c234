"""A challenger beside the champion: on the same rows, unseen, and decided by weeks that no version was chosen by."""

from __future__ import annotations

import datetime as dt
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa
from tests.sample_model import ESTIMATOR, FEATURES_SQL, LATER, NOW, WEEK, World, run_named

from ponte.duels import beside, challengers
from ponte.duels.beside import Duel, score_beside
from ponte.duels.challengers import set_challenger, withdraw_challenger
from ponte.duels.deciding import Decision, decide_duel
from ponte.duels.figures import measure_duels
from ponte.duels.sweeping import sweep_duels
from ponte.errors import PonteError, VersionMarkedBad
from ponte.publishing import janitor

if TYPE_CHECKING:
    from tests.conftest import Cluster, Template

WEEKS = [WEEK + dt.timedelta(days=7 * n) for n in range(4)]
#: Learns less than the champion: what it says differs, and by labels it is hardly worse.
WEAKER = ESTIMATOR.format(kind="LogisticRegression").replace("LogisticRegression()", "LogisticRegression(C=0.05)")
AFTER_DUEL: dict[str, Any] = {
    "promotion": "after_duel",
    "gate": 'champion_indistinguishable = "keep"\nchampion_margin = 0.02\nduel_windows = 1',
    "checks": "[monitoring]\nmaturities = [7]",
}
THOUSANDFOLD = FEATURES_SQL.replace("v.items,", "v.items * 1000 AS items,")
STATE = "SELECT status, own_rows, row_count, unscored_rows, compared_rows, why FROM ponte.duel_batch ORDER BY duel_id"


def candidate(world: World, **changes: Any) -> World:
    """Return a world of the same data in which version 2 was trained and judged, and what follows followed."""
    files = {"estimator.py": WEAKER, **changes.pop("files", {})}
    world = world.with_model(files=files, **{**AFTER_DUEL, **changes})
    run = world.train(run_id="second", promote=False)
    challengers.promote(world.db, world.folder.spec, run.verdict_id, actor="second")
    return world


@pytest.fixture(scope="module")
def duelling_template(
    server: Cluster, trained_template: Template, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Template]:
    """Version 1 is champion, version 2 its challenger; nothing is scored."""
    folder = tmp_path_factory.mktemp("duelling")
    with trained_template.after(server, folder, candidate) as found:
        yield found


@pytest.fixture
def duelling(server: Cluster, duelling_template: Template, tmp_path: Path) -> Iterator[World]:
    """A private copy of a world in which version 2 is challenger."""
    with duelling_template.copy(server, tmp_path) as world:
        yield world


def duel(world: World, batch_id: int) -> Duel | str:
    """Do what the task `duel` does."""
    return score_beside(world.db, world.store, world.folder, batch_id, now=NOW)


def publish(world: World, week: dt.date = WEEK, **changes: Any) -> int:
    """Score and publish a week, without cleaning up; return the batch."""
    return world.run(run_id=f"week {week}", week=week, until="publish", **changes).batch_id


def judged(world: World, *weeks: dt.date) -> None:
    """Play whole weeks, and the monitor after their labels have come."""
    for week in weeks:
        batch_id = publish(world, week)
        assert isinstance(duel(world, batch_id), Duel)
        world.clean(batch_id)
    world.monitor(now=LATER)
    measure_duels(world.db, world.folder)


def decide(world: World, run: str = "monitor") -> Decision:
    return decide_duel(world.db, world.folder, run=run_named(run), actor=run)


def challenger(world: World) -> int | None:
    rows = world.rows("SELECT version FROM ponte.challenger WHERE model = 'visits'")
    return rows[0][0] if rows else None


# ---------------------------------------------------------------- who is challenger


def test_a_version_that_cannot_be_told_from_the_champion_becomes_challenger_once(duelling: World) -> None:
    assert duelling.champion().version == 1
    assert challenger(duelling) == 2
    [(verdict_id, outcome)] = duelling.rows("SELECT verdict_id, outcome FROM ponte.gate_verdict WHERE version = 2")
    assert outcome == "refused"
    again = challengers.promote(duelling.db, duelling.folder.spec, verdict_id, actor="second")
    assert again.champion is None
    assert "version 2 is held against champion 1" in again.duel
    assert duelling.ask("SELECT count(*) FROM ponte.alias_event WHERE alias = 'challenger'") == 1


@pytest.mark.parametrize(
    ("changes", "champion", "then"),
    [
        ({"promotion": "auto"}, 1, None),
        ({"bound": "minimum = 0.99"}, 1, None),  # the gate has more against it
        ({"gate": 'champion_indistinguishable = "promote"'}, 1, 2),  # passed: it has to be shown all the same
    ],
    ids=["no duel asked for", "refused", "passed"],
)
def test_only_what_a_duel_can_answer_is_answered_by_one(
    trained: World, changes: dict[str, Any], champion: int, then: int | None
) -> None:
    world = candidate(trained, **changes)
    assert (world.champion().version, challenger(world)) == (champion, then)


def test_the_first_version_has_nobody_to_fight(world: World) -> None:
    world = world.with_model(**AFTER_DUEL)
    run = world.train(run_id="first", promote=False)
    promoted = challengers.promote(world.db, world.folder.spec, run.verdict_id, actor="first")
    assert (promoted.duel, world.champion().version, challenger(world)) == ("", 1, None)


def test_a_champion_that_is_marked_bad_is_replaced_without_a_duel(trained: World) -> None:
    trained.mark(1, "bad", run_id="mark")
    world = candidate(trained)
    assert (world.champion().version, challenger(world)) == (2, None)


def test_a_person_sets_and_withdraws_a_challenger_once(trained: World) -> None:
    world = candidate(trained, promotion="auto")
    said = {"actor": "ada", "reason": "let us see"}
    for _ in range(2):
        set_challenger(world.db, "visits", 2, run=run_named("set"), **said)
        assert challenger(world) == 2
    with pytest.raises(PonteError, match="not challenger"):
        withdraw_challenger(world.db, "visits", 1, run=run_named("other"), **said)
    for _ in range(2):
        withdraw_challenger(world.db, "visits", 2, run=run_named("withdraw"), **said)
        assert challenger(world) is None
    events = world.rows("SELECT version, previous_version, actor FROM ponte.alias_event WHERE alias = 'challenger'")
    assert events == [(2, None, "ada"), (None, 2, "ada")]
    set_challenger(world.db, "visits", 2, run=run_named("again"), **said)
    assert challenger(world) == 2


def test_who_cannot_be_challenger(trained: World) -> None:
    world = candidate(trained, promotion="auto")
    said = {"actor": "ada", "reason": "let us see"}
    with pytest.raises(PonteError, match="challenge itself"):
        set_challenger(world.db, "visits", 1, run=run_named("one"), **said)
    with pytest.raises(PonteError, match="no such version"):
        set_challenger(world.db, "visits", 7, run=run_named("two"), **said)
    world.mark(2, "bad", run_id="mark")
    with pytest.raises(VersionMarkedBad):
        set_challenger(world.db, "visits", 2, run=run_named("three"), **said)


def test_a_newer_version_does_not_push_a_challenger_out(duelling: World) -> None:
    world = duelling.with_model(files={"estimator.py": WEAKER.replace("0.05", "0.2")}, **AFTER_DUEL)
    run = world.train(run_id="third", promote=False)
    promoted = challengers.promote(world.db, world.folder.spec, run.verdict_id, actor="third")
    assert promoted.duel.startswith(
        "version 2 is challenger until its duel is decided; ponte__challenge puts version 3"
    )
    assert challenger(world) == 2


# ---------------------------------------------------------------- on the same rows


def test_it_predicts_the_rows_that_the_champion_predicted_and_nobody_sees_it(duelling: World) -> None:
    batch_id = publish(duelling)
    before, frozen = duelling.published_checksum(), duelling.ask("SELECT frozen_table FROM ponte.batch")
    done = duel(duelling, batch_id)
    assert isinstance(done, Duel)
    assert (done.status, done.own_rows, done.frozen_table) == ("scored", False, frozen)
    assert done.compared_rows == 350
    assert duelling.published_checksum() == before
    assert duelling.ask("SELECT count(*) FROM ponte.batch") == 1
    assert duelling.ask("SELECT max(epoch) FROM ponte.claim") == 1
    table = f"ponte_data.{done.prediction_table}"
    query = f"""SELECT count(*) FILTER (WHERE p.prediction <> q.prediction), avg(abs(p.score - q.score))
        FROM predictions.visits p JOIN {table} q USING (visit_id)"""
    differing, distance = duelling.rows(query)[0]
    shown = duelling.rows("SELECT champion_version, challenger_version, agreement, score_difference FROM ponte.duel")
    assert shown == [(1, 2, pytest.approx(1 - differing / 350), pytest.approx(distance))]
    assert 0 < distance < 0.2
    for role, allowed in (("ponte_analyst", False), ("ponte_viewer", False), ("ponte_monitor", True)):
        may = duelling.ask("SELECT has_table_privilege(:role, :name, 'SELECT')", role=role, name=table)
        assert may is allowed


def test_with_another_text_it_reads_its_own_rows_of_the_same_keys(trained: World) -> None:
    world = candidate(trained, files={"features.sql": THOUSANDFOLD})
    batch_id = publish(world)
    world.execute("DELETE FROM shop.visit WHERE visit_id % 50 = 0")
    done = duel(world, batch_id)
    assert isinstance(done, Duel)
    assert (done.own_rows, done.frozen_table) == (True, "visits__duel_rows_1")
    assert (done.row_count, done.compared_rows) == (343, 343)
    assert world.ask("SELECT max(items) FROM ponte_data.visits__duel_rows_1") > 1000


def test_rows_that_were_swept_before_are_frozen_again(duelling: World) -> None:
    batch_id = publish(duelling)
    duelling.clean(batch_id)
    done = duel(duelling, batch_id)
    assert isinstance(done, Duel)
    assert (done.own_rows, done.compared_rows) == (True, 350)


@pytest.mark.parametrize(
    ("prepare", "why"),
    [
        (lambda world: world.run(run_id="r", until="guard"), "the batch was not published"),
        (lambda world: world.mark(2, "bad", run_id="mark") or world.run(run_id="r"), "challenger 2 is marked bad"),
        (lambda world: world.set_champion(2) and world.run(run_id="r"), "version 2 has scored the batch itself"),
        (
            lambda world: world.execute(
                "UPDATE ponte.batch SET hindsight = true WHERE batch_id = :id", id=publish(world)
            ),
            "one of the two may have learned from what happened after as_of",
        ),
    ],
    ids=["unpublished", "bad", "itself", "hindsight"],
)
def test_when_there_is_nothing_to_hold_against_each_other(
    duelling: World, prepare: Callable[[World], object], why: str
) -> None:
    prepare(duelling)
    assert duel(duelling, 1) == why
    assert duelling.rows(STATE) == []


def test_without_a_challenger_nothing_happens(scored: World) -> None:
    assert duel(scored, 1) == "there is no challenger"


# ---------------------------------------------------------------- as if once


def test_twice_is_once(duelling: World) -> None:
    batch_id = publish(duelling)
    first, second = duel(duelling, batch_id), duel(duelling, batch_id)
    assert first == second
    assert duelling.ask("SELECT count(*) FROM ponte_data.visits__duel_1") == 350
    assert duelling.ask("SELECT count(*) FROM ponte.receipt WHERE step = 'duel'") == 1


@pytest.mark.parametrize("own", [False, True], ids=["same rows", "own rows"])
def test_two_at_once_are_once(duelling: World, own: bool) -> None:
    batch_id = publish(duelling)
    if own:
        duelling.clean(batch_id)
    results: list[object] = []

    def run() -> None:
        try:
            results.append(duel(duelling, batch_id))
        except Exception as error:  # noqa: BLE001 - looked at below
            results.append(error)

    threads = [threading.Thread(target=run) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results[0] == results[1]
    assert duelling.rows(STATE) == [("scored", own, 350, 0, 350, None)]
    assert duelling.ask("SELECT count(*) FROM ponte_data.visits__duel_1") == 350


class Killed(BaseException):
    """What a statement raises in the place of a process that ends."""


@pytest.mark.parametrize("own", [False, True], ids=["same rows", "own rows"])
def test_killed_before_any_transaction_commits_it_goes_on(
    duelling: World, monkeypatch: pytest.MonkeyPatch, own: bool
) -> None:
    """Each try ends a commit earlier than the one that would have finished, until none is left."""
    batch_id = publish(duelling)
    if own:
        duelling.clean(batch_id)
    commits = 0

    def killed(connection: sa.Connection) -> None:
        nonlocal commits
        commits += 1
        if commits == limit:
            raise Killed

    sa.event.listen(duelling.db.engine, "commit", killed)
    for limit in range(1, 30):  # noqa: B007 - read by `killed`
        commits = 0
        try:
            duel(duelling, batch_id)
        except Killed:
            continue
        break
    assert limit > 3
    assert duelling.rows(STATE) == [("scored", own, 350, 0, 350, None)]
    assert [name for name in duelling.data_tables() if "__duel_" in name] == [
        *duelling.rows("SELECT prediction_table FROM ponte.duel_batch")[0],
        *([duelling.ask("SELECT frozen_table FROM ponte.duel_batch")] if own else []),
    ]
    table = duelling.ask("SELECT prediction_table FROM ponte.duel_batch")
    assert duelling.ask(f"SELECT count(*) FROM ponte_data.{table}") == 350


def test_what_fails_is_recorded_and_tried_again(duelling: World, monkeypatch: pytest.MonkeyPatch) -> None:
    batch_id = publish(duelling)
    before = duelling.published_checksum()

    def broken(*_: object) -> None:
        raise PonteError("its files are not what was registered")

    with monkeypatch.context() as patched:
        patched.setattr(beside, "load_registered", broken)
        with pytest.raises(PonteError, match="its files"):
            duel(duelling, batch_id)
    [(status, _, _, _, _, why)] = duelling.rows(STATE)
    assert (status, why) == ("failed", "its files are not what was registered")
    assert duelling.published_checksum() == before
    assert sweep_duels(duelling.db, "visits") == 1
    assert isinstance(duel(duelling, batch_id), Duel)
    assert duelling.rows(STATE) == [("scored", False, 350, 0, 350, None)]


# ---------------------------------------------------------------- cleaning up


def test_the_janitor_keeps_what_an_open_duel_reads_for_a_day(duelling: World) -> None:
    batch_id = publish(duelling)
    beside.open_duel(duelling.db, batch_id)
    frozen = duelling.ask("SELECT frozen_table FROM ponte.batch")
    assert not duelling.clean(batch_id)
    assert frozen in duelling.data_tables()
    assert sweep_duels(duelling.db, "visits") == 0
    duelling.execute("UPDATE ponte.duel_batch SET opened_at = opened_at - interval '25 hours'")
    assert duelling.clean(batch_id)
    assert frozen not in duelling.data_tables()
    sweep_duels(duelling.db, "visits")
    assert duelling.rows("SELECT status, why, frozen_table, prediction_table FROM ponte.duel_batch") == [
        ("failed", "it was not finished within 24 hours", None, None)
    ]


def test_rows_of_its_own_go_when_it_is_scored_and_predictions_with_the_batch(duelling: World) -> None:
    batch_id = publish(duelling)
    duelling.clean(batch_id)
    duel(duelling, batch_id)
    assert sweep_duels(duelling.db, "visits") == 1
    assert [name for name in duelling.data_tables() if "duel" in name] == ["visits__duel_1"]
    world = duelling.with_model(**{**AFTER_DUEL, "checks": "[retention]\nreplaced_batches = 0"})
    world.run(run_id="again")
    assert janitor.tidy(world.db, world.folder)["retired_batches"] + world.ask(
        "SELECT count(*) FROM ponte.retention_event"
    )
    sweep_duels(world.db, "visits")
    assert [name for name in world.data_tables() if "duel" in name] == []


# ---------------------------------------------------------------- labels, and the end


def test_labels_compare_both_on_the_same_rows(duelling: World) -> None:
    from sklearn.metrics import roc_auc_score

    judged(duelling, WEEK)
    rows = duelling.rows(
        """SELECT v.returned::int, p.score, q.score FROM predictions.visits p
        JOIN ponte_data.visits__duel_1 q USING (visit_id) JOIN shop.visit v USING (visit_id)"""
    )
    truth, one, two = zip(*rows, strict=True)
    query = """SELECT maturity_days, champion_value, challenger_value, difference, low, high, labelled_rows
        FROM ponte.duel WHERE metric = 'roc_auc'"""
    [(days, mine, theirs, gap, low, high, count)] = duelling.rows(query)
    assert (days, count) == (7, 350)
    assert (mine, theirs) == (pytest.approx(roc_auc_score(truth, one)), pytest.approx(roc_auc_score(truth, two)))
    assert gap == pytest.approx(theirs - mine)
    assert low < gap < high
    assert high - low < 0.1
    before = duelling.rows("SELECT * FROM ponte.duel_figure ORDER BY 1, 2, 3")
    assert measure_duels(duelling.db, duelling.folder) == {"windows": 0, "figures": 0, "looks": 0}
    assert duelling.rows("SELECT * FROM ponte.duel_figure ORDER BY 1, 2, 3") == before


def test_a_corrected_label_is_a_newer_figure_and_one_that_came_too_late_is_none(duelling: World) -> None:
    batch_id = publish(duelling)
    duel(duelling, batch_id)
    end = dt.datetime.combine(WEEK, dt.time(), dt.UTC) + dt.timedelta(days=7)
    told: list[tuple[int, float]] = []

    def read(days: int) -> None:
        duelling.monitor(now=end + dt.timedelta(days=days))
        measure_duels(duelling.db, duelling.folder)
        [(count, value)] = duelling.rows(
            "SELECT labelled_rows, champion_value FROM ponte.duel WHERE metric = 'accuracy'"
        )
        told.append((count, value))

    duelling.execute("UPDATE shop.visit SET known_at = :late WHERE visit_id = 2102", late=end + dt.timedelta(days=10))
    read(8)
    duelling.execute("UPDATE shop.visit SET returned = NOT returned WHERE visit_id IN (2100, 2101, 2103)")
    read(9)
    read(11)
    assert [count for count, _ in told] == [349, 349, 349]
    assert told[0] != told[1] == told[2]
    assert measure_duels(duelling.db, duelling.folder)["windows"] == 0


def test_no_figure_before_the_maturity(duelling: World) -> None:
    batch_id = publish(duelling)
    duel(duelling, batch_id)
    duelling.monitor(now=dt.datetime.combine(WEEK, dt.time(), dt.UTC) + dt.timedelta(days=13))
    assert measure_duels(duelling.db, duelling.folder)["figures"] == 0


def test_a_challenger_that_was_shown_to_be_no_worse_becomes_champion_once(duelling: World) -> None:
    world = duelling.with_model(files={"estimator.py": WEAKER}, **{**AFTER_DUEL, "gate": "champion_margin = 0.2"})
    judged(world, *WEEKS[:2])
    assert decide(world).outcome == "open"
    judged(world, *WEEKS[2:])
    first = decide(world)
    assert first.outcome == "promoted"
    assert first.why.startswith("no worse than champion 1 after 4 windows, roc_auc")
    assert (world.champion().version, challenger(world)) == (2, None)
    again = decide(world)
    assert (again.outcome, again.champion) == ("promoted", first.champion)
    assert decide(world, "later").outcome == "none"
    events = world.rows("SELECT alias, version, actor FROM ponte.alias_event WHERE event_id > 2 ORDER BY event_id")
    assert events == [("champion", 2, "monitor"), ("challenger", None, "monitor")]


def test_two_monitors_at_once_are_one(duelling: World) -> None:
    world = duelling.with_model(
        files={"estimator.py": WEAKER}, **{**AFTER_DUEL, "gate": "champion_margin = 0.2\nduel_windows = 1"}
    )
    batch_id = publish(world)
    duel(world, batch_id)
    world.monitor(now=LATER)
    said: list[str] = []

    def run() -> None:
        measure_duels(world.db, world.folder)
        said.append(decide(world).outcome)

    threads = [threading.Thread(target=run) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert said == ["promoted", "promoted"]
    assert world.ask("SELECT count(*) FROM ponte.duel_figure WHERE metric = 'roc_auc'") == 1
    assert world.ask("SELECT count(*) FROM ponte.duel_look WHERE metric = 'roc_auc'") == 1
    assert world.ask("SELECT count(*) FROM ponte.alias_event WHERE alias = 'champion'") == 2


@pytest.mark.parametrize("weeks", [1, 2])
def test_what_stays_open_ends_after_twice_the_windows(duelling: World, weeks: int) -> None:
    world = duelling.with_model(
        files={"estimator.py": WEAKER}, **{**AFTER_DUEL, "gate": "champion_margin = 0.0\nduel_windows = 1"}
    )
    judged(world, *WEEKS[:weeks])
    decision = decide(world)
    assert decision.outcome == ("open" if weeks == 1 else "withdrawn")
    assert challenger(world) == (2 if weeks == 1 else None)
    assert world.champion().version == 1
    assert world.rows("SELECT window_count, confidence FROM ponte.duel_look WHERE metric = 'roc_auc' ORDER BY 1") == [
        (n, pytest.approx(0.975)) for n in range(1, weeks + 1)
    ]


def test_a_worse_challenger_is_withdrawn_at_the_first_look(trained: World) -> None:
    blind = ESTIMATOR.format(kind="LogisticRegression").replace(
        "from sklearn.impute", "from sklearn.dummy import DummyClassifier\nfrom sklearn.impute"
    )
    blind = blind.replace("LogisticRegression()", 'DummyClassifier(strategy="prior")')
    world = candidate(trained, files={"estimator.py": blind})
    set_challenger(world.db, "visits", 2, run=run_named("set"), actor="ada", reason="let us see")
    judged(world, WEEK)
    decision = decide(world)
    assert decision.outcome == "withdrawn"
    assert decision.why.startswith("worse than champion 1 after 1 windows")


def test_a_person_decides_unless_the_model_asks_for_a_duel(duelling: World) -> None:
    world = duelling.with_model(
        files={"estimator.py": WEAKER},
        **{**AFTER_DUEL, "promotion": "approval", "gate": "champion_margin = 0.2\nduel_windows = 1"},
    )
    judged(world, WEEK)
    assert decide(world).outcome == "open"
    assert world.champion().version == 1


def test_one_whom_the_gate_has_refused_for_more_is_promoted_by_nobody_but_a_person(trained: World) -> None:
    world = candidate(trained, bound="minimum = 0.99", gate="champion_margin = 0.2\nduel_windows = 1")
    set_challenger(world.db, "visits", 2, run=run_named("set"), actor="ada", reason="let us see")
    judged(world, WEEK)
    decision = decide(world)
    assert decision.outcome == "open"
    assert decision.why.endswith("a person decides")


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda world: world.mark(2, "bad", run_id="mark"), "it is marked bad"),
        (lambda world: world.set_champion(2), "it is champion"),
    ],
)
def test_a_duel_without_a_point_ends(duelling: World, change: Callable[[World], object], why: str) -> None:
    change(duelling)
    decision = decide(duelling)
    assert (decision.outcome, decision.why, challenger(duelling)) == ("withdrawn", why, None)


# ---------------------------------------------------------------- many versions on one holdout


def test_the_third_version_on_one_holdout_is_told_so(trained: World) -> None:
    warned = []
    for n in (2, 3):
        world = trained.with_model(files={"estimator.py": WEAKER.replace("0.05", f"0.{n}")})
        run = world.train(run_id=f"try {n}", promote=False)
        warned.append([r for r in run.verdict.rules if r.rule == "versions judged on windows of this holdout"])
    assert warned[0] == []
    [rule] = warned[1]
    assert (rule.outcome, rule.evidence["versions"]) == ("warning", 3)
    assert rule.evidence["chance"] == pytest.approx(1 - 0.975**3)
    # Windows that lie apart count for nothing.
    later = trained.train(run_id="later", as_of=NOW + dt.timedelta(days=14), promote=False)
    assert not [r for r in later.verdict.rules if r.rule == "versions judged on windows of this holdout"]
