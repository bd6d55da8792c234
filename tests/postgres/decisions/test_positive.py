"""Another positive class turns every score round: it counts from the next training, and readers are not surprised."""

from __future__ import annotations

from tests.sample_model import World

#: model.toml names the smaller label, 0.
OTHER = "positive = 0"
RULE = "key, label and classes are those of the published predictions"


def test_the_gate_refuses_a_turned_score_where_predictions_are_published_and_says_the_way_out(scored: World) -> None:
    run = scored.with_model(training=OTHER).train(run_id="second", promote=False)
    assert run.version.classes == (1, 0)
    (rule,) = [rule for rule in run.verdict.rules if rule.rule == RULE]
    assert not run.verdict.passed
    assert rule.outcome == "refused"
    assert rule.got == "a score is the probability of 0"
    assert rule.expected == (
        "of 1, as in the published predictions: set [training] positive = 1 and train again, give the changed model a "
        "folder of its own, or promote by hand"
    )
    readable = "SELECT subject, value FROM ponte.metric WHERE version = 2 AND name = 'readable'"
    assert scored.rows(readable) == [("champion:1", 0.0)], "what the other one says is the opposite"


def test_before_anything_is_published_no_reader_is_surprised(world: World) -> None:
    run = world.with_model(training=OTHER).train(run_id="first")
    assert run.verdict.passed, run.verdict.table()
    assert run.alias is not None


def test_a_change_counts_from_the_next_training(scored: World) -> None:
    before = scored.published_checksum()
    edited = scored.with_model(training=OTHER)
    edited.run(run_id="after the edit")
    assert edited.published_checksum() == before


def test_scores_are_published_of_the_named_class(world: World) -> None:
    usual = world.train(run_id="first")
    world.run(run_id="usual")
    scores = dict(world.rows("SELECT visit_id, score FROM predictions.visits"))
    other = world.with_model(training=OTHER)
    number = other.train(run_id="second", promote=False).version.version
    assert number != usual.version.version
    other.set_champion(number)
    other.run(run_id="other")
    turned = dict(other.rows("SELECT visit_id, score FROM predictions.visits"))
    assert turned.keys() == scores.keys()
    assert max(abs(turned[key] + scores[key] - 1) for key in scores) < 1e-9
