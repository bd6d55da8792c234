"""Verdicts, approvals and marks: a champion falls only to what is better beyond doubt, and who decided is kept."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest
from tests.sample_model import FEATURES_SQL, LATER, TrainingRun, World, run_named

from ponte.decisions import approvals, promotion, verdicts
from ponte.decisions.rules import RuleResult
from ponte.errors import NoChampion, PonteError, VersionMarkedBad
from ponte.versions import aliases

#: Sees the shop and the price only, of which the outcome hardly depends.
BLIND = 'NUMBERS = ["price"]'
SEEING = 'NUMBERS = ["items", "price", "distance", "member", "shop_rate"]'
AGAIN = {"features.sql": FEATURES_SQL + "-- again\n"}
EVENT = "SELECT version, actor, reason, evidence FROM ponte.alias_event ORDER BY event_id DESC LIMIT 1"


def challenge(trained: World, **settings: Any) -> TrainingRun:
    """Train an equal successor of the champion, and leave it to the test to promote it."""
    settings = {"gate": "", "files": AGAIN, **settings}
    return trained.with_model(**settings).train(run_id="next", promote=False)


def rule_of(run: TrainingRun, words: str) -> RuleResult:
    [rule] = [r for r in run.verdict.rules if words in r.rule]
    return rule


def test_a_better_version_is_promoted_and_a_worse_one_is_not(world: World) -> None:
    seeing = world.with_model(gate="")
    text = seeing.folder.text("estimator.py")
    assert SEEING in text
    blind = {"bound": "minimum = 0.5", "gate": "beats_baseline = false"}
    blind |= {"files": {"estimator.py": text.replace(SEEING, BLIND)}}
    assert world.with_model(**blind).train(run_id="blind").alias.version == 1
    better = world.with_model(gate="").train(run_id="seeing")
    worse = world.with_model(**blind).train(run_id="blind again")

    assert rule_of(better, "against champion 1").got.startswith("better, by 0.")
    assert better.alias.version == 2
    assert rule_of(worse, "against champion 2").got.startswith("worse, by -0.")
    assert (worse.version.version, worse.alias) == (1, None)
    assert [r.rule for r in worse.verdict.rules if not r.passed] == ["roc_auc against champion 2"]
    assert world.champion().version == 2
    gap = "SELECT value, low, high FROM ponte.metric WHERE subject = 'difference:champion:1' AND name = 'roc_auc'"
    [(value, low, high)] = world.rows(gap)
    assert 0 < low < value < high < 0.4


def test_an_equal_version_leaves_the_champion_and_a_retry_gets_the_first_verdict(trained: World) -> None:
    run = challenge(trained)

    against = rule_of(run, "champion 1")
    margin = against.evidence["margin"]
    assert 0 < margin < 0.1
    assert (against.got, against.expected) == ("indistinguishable, by 0 [0, 0]", f"better (margin {margin:.3g})")
    assert promotion.promote(trained.db, run.verdict_id, actor="next") is None
    assert trained.champion().version == 1

    # Other figures and another rule; the run was judged already, another run is judged by them.
    changed = trained.with_model(gate='champion_indistinguishable = "promote"', files=AGAIN)
    snapshot_id = run.snapshot.snapshot_id
    assert verdicts.judge(trained.db, changed.folder, 2, snapshot_id, run=run_named("next")) == (
        run.verdict_id,
        run.verdict,
    )
    later, verdict = verdicts.judge(trained.db, changed.folder, 2, snapshot_id, run=run_named("later"))
    assert (later != run.verdict_id, verdict.passed) == (True, True)


def test_the_whole_verdict_is_kept_and_readable_by_rule(trained: World) -> None:
    run = challenge(trained)

    rules = [(r.rule, r.got, r.expected, r.passed, dict(r.evidence)) for r in run.verdict.rules]
    columns = "position, rule, got, expected, passed, evidence"
    stored = trained.rows(
        f"SELECT {columns} FROM ponte.gate_rule WHERE verdict_id = :id ORDER BY position", id=run.verdict_id
    )
    assert stored == [(n, *rule) for n, rule in enumerate(rules)]
    assert len(stored) == 5
    [(kept, passed, event_id)] = trained.rows(
        "SELECT rules, passed, champion_event_id FROM ponte.gate_verdict WHERE version = 2"
    )
    assert [(r["rule"], r["got"], r["expected"], r["passed"], r["evidence"]) for r in kept] == rules
    assert (passed, event_id) == (False, aliases.current_alias(trained.db, "visits").event_id)


def test_a_feature_that_is_the_label_and_a_slice_that_fails_are_refused_by_name(trained: World) -> None:
    leaked = FEATURES_SQL.replace(
        "v.items,", "v.items, v.returned::int * 2.5 AS mood, coalesce(v.shop, 'none') AS place,"
    )
    run = challenge(
        trained,
        files={"features.sql": leaked},
        gate="slice_bound = 0.99",
        evaluation='slices = ["place"]\nslice_rows = 100',
    )

    leak, slices = rule_of(run, "no feature alone"), rule_of(run, "every slice")
    assert (leak.got, leak.passed) == ("mood alone reaches 1", False)
    counts = "SELECT slice, row_count, value FROM ponte.metric WHERE slice <> '' AND name = 'roc_auc' ORDER BY value"
    measured = trained.rows(counts)
    assert {s for s, _, _ in measured} == {f"place={shop}" for shop in ("mill", "quay", "park", "none")}
    assert min(rows for _, rows, _ in measured) >= 100
    for place, condition in (("place=mill", "shop = 'mill'"), ("place=none", "shop IS NULL")):
        rows = f"SELECT count(*) FROM shop.visit WHERE {condition} AND day >= '2024-01-29' AND known_at <= '2024-02-12'"
        assert (place, trained.ask(rows)) in [(s, n) for s, n, _ in measured]
    assert slices.evidence == {s: value for s, _, value in measured}
    assert (slices.passed, slices.got) == (
        False,
        f"{len(measured)} of {len(measured)} fail; worst {measured[0][0]} {measured[0][2]:.4g}",
    )
    assert promotion.promote(trained.db, run.verdict_id, actor="next") is None


# ---------------------------------------------------------------- approvals


def test_only_a_person_who_approves_makes_a_version_champion_where_one_is_asked(trained: World) -> None:
    run = challenge(trained, gate='champion_indistinguishable = "promote"')

    def answer(decision: approvals.Decision, run_id: str, reason: str) -> int:
        return approvals.record_approval(
            trained.db,
            run.verdict_id,
            decision,
            run=run_named(run_id),
            actor=f"who {decision}",
            reason=reason,
            answered_at=LATER,
        )

    def promoted(approval_id: int | None) -> aliases.Alias | None:
        return promotion.promote(
            trained.db, run.verdict_id, actor="next", approval_id=approval_id, approval_required=True
        )

    assert promoted(None) is None
    assert promoted(answer("timed out", "first", "nobody answered")) is None
    assert promoted(answer("rejected", "second", "not on a Friday")) is None
    assert trained.champion().version == 1
    approved = answer("approved", "third", "looks right")
    assert answer("approved", "third", "looks right") == approved, "an answer is kept once"
    assert trained.ask("SELECT approval FROM ponte.version_overview WHERE version = 2") == "approved"
    assert promoted(approved).version == 2

    evidence = {"verdict_id": run.verdict_id, "approval_id": approved}
    assert trained.rows(EVENT) == [(2, "who approved", "looks right", evidence)]
    answers = "SELECT run_id, decision, actor, reason FROM ponte.approval ORDER BY approval_id"
    assert trained.rows(answers) == [
        ("first", "timed out", "who timed out", "nobody answered"),
        ("second", "rejected", "who rejected", "not on a Friday"),
        ("third", "approved", "who approved", "looks right"),
    ]


def test_an_approval_speaks_for_its_own_verdict_only_and_never_for_one_that_did_not_pass(trained: World) -> None:
    refused = challenge(trained)
    [first] = [v for (v,) in trained.rows("SELECT verdict_id FROM ponte.gate_verdict WHERE version = 1")]
    numbers = [
        approvals.record_approval(
            trained.db, verdict, "approved", run=run_named("r"), actor="a person", reason="test", answered_at=LATER
        )
        for verdict in (first, refused.verdict_id)
    ]

    with pytest.raises(PonteError, match=f"no such answer to this verdict[^$]*got: {numbers[0]}"):
        promotion.promote(trained.db, refused.verdict_id, actor="r", approval_id=numbers[0])
    assert promotion.promote(trained.db, refused.verdict_id, actor="r", approval_id=numbers[1]) is None
    assert trained.champion().version == 1


@pytest.mark.parametrize("decisions", [("approved", "rejected"), ("rejected", "approved")], ids="-then-".join)
def test_a_second_answer_of_a_run_is_a_row_of_its_own_and_promotion_follows_the_one_it_is_given(
    trained: World, decisions: tuple[approvals.Decision, approvals.Decision]
) -> None:
    """The task that asked was killed after the first answer, and asked again."""
    run = challenge(trained, gate='champion_indistinguishable = "promote"')

    def answer(decision: approvals.Decision, minute: int) -> int:
        return approvals.record_approval(
            trained.db,
            run.verdict_id,
            decision,
            run=run_named("next"),
            actor="a person",
            reason=f"{decision}, said I",
            answered_at=LATER + dt.timedelta(minutes=minute),
        )

    said = {decision: answer(decision, minute) for minute, decision in enumerate(decisions)}
    repeated = {decision: answer(decision, minute) for minute, decision in enumerate(decisions)}
    assert repeated == said, "the same answer is kept once"
    answers = "SELECT approval_id, decision, reason, answered_at FROM ponte.approval ORDER BY approval_id"
    assert trained.rows(answers) == [
        (said[d], d, f"{d}, said I", LATER + dt.timedelta(minutes=n)) for n, d in enumerate(decisions)
    ]
    assert trained.ask("SELECT approval FROM ponte.version_overview WHERE version = 2") == decisions[-1]

    asked = {"actor": "next", "approval_required": True}
    assert promotion.promote(trained.db, run.verdict_id, **asked, approval_id=said["rejected"]) is None
    assert trained.champion().version == 1
    assert promotion.promote(trained.db, run.verdict_id, **asked, approval_id=said["approved"]).version == 2
    evidence = {"verdict_id": run.verdict_id, "approval_id": said["approved"]}
    assert trained.rows(EVENT) == [(2, "a person", "approved, said I", evidence)]


# ---------------------------------------------------------------- marks


def test_a_champion_marked_bad_scores_nothing_until_the_mark_is_taken_back(trained: World) -> None:
    trained.mark(1, "bad", run_id="m")
    with pytest.raises(VersionMarkedBad, match=r"champion is marked bad\n  where: model visits, version 1\n.*rollback"):
        trained.run(run_id="r")
    assert trained.ask("SELECT (SELECT count(*) FROM ponte.batch) + (SELECT count(*) FROM ponte.claim)") == 0
    assert trained.rows("SELECT bad, champion FROM ponte.version_overview") == [(True, True)]

    trained.mark(1, "bad", run_id="m")
    trained.mark(1, "not bad", run_id="m")
    trained.mark(1, "bad", run_id="m")  # a late repetition of the first run's step
    trained.run(run_id="r")
    marks = "SELECT mark, run_id, actor, reason FROM ponte.version_mark ORDER BY mark_id"
    assert trained.rows(marks) == [("bad", "m", "a person", "test"), ("not bad", "m", "a person", "test")]


def test_a_champion_marked_bad_does_not_keep_a_successor_out(trained: World) -> None:
    trained.mark(1, "bad", run_id="m")
    run = challenge(trained)

    against = rule_of(run, "champion 1")
    assert (against.got, against.expected) == ("not compared", "nothing: it is marked bad")
    assert promotion.promote(trained.db, run.verdict_id, actor="next").version == 2
    trained.run(run_id="r")
    assert trained.rows("SELECT DISTINCT model_version FROM predictions.visits") == [(2,)]


def test_a_version_marked_bad_since_its_verdict_is_not_promoted(trained: World) -> None:
    run = challenge(trained, gate='champion_indistinguishable = "promote"')
    trained.mark(2, "bad", run_id="m")

    with pytest.raises(VersionMarkedBad, match="the version is marked bad\n  where: model visits, version 2"):
        promotion.promote(trained.db, run.verdict_id, actor="next")
    with pytest.raises(VersionMarkedBad):
        trained.set_champion(2)
    assert trained.champion().version == 1
    assert trained.set_champion(2, run_id="by hand", allow_bad=True).version == 2
    assert trained.rows(EVENT)[0][3] == {"by_hand_in_run": "by hand", "run_key": "by hand", "allow_bad": True}


def test_a_first_version_that_was_refused_leaves_the_model_without_champion(world: World) -> None:
    run = world.with_model(gate="", bound="minimum = 0.99").train(run_id="t")

    assert [r.rule for r in run.verdict.rules if not r.passed] == ["roc_auc meets the bound"]
    assert run.alias is None
    with pytest.raises(NoChampion):
        world.champion()
