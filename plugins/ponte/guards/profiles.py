"""A few figures of a scored batch, computed once, in the database, and kept.

Later batches are compared with it when its rows may be gone.
"""

from __future__ import annotations

import datetime as dt
import json
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from ponte.batches.lifecycle import Batch, frozen_name, prediction_name
from ponte.model.spec import Guard
from ponte.storage.database import insert_row, quote
from ponte.versions.registry import Version

#: Predictions beyond it are summed up as numeric.
HUGE = 1e140

_UNSCORED = sa.text("SELECT count(*) FROM ponte.quarantine WHERE batch_id = :id AND shard IS NOT NULL")


@dataclass(frozen=True, kw_only=True, slots=True)
class Profile:
    """A row of `ponte.batch_profile`."""

    batch_id: int
    #: Rows frozen, rows with a prediction, rows the estimator could not score.
    row_count: int
    scored_count: int
    unscored_count: int
    #: One figure; of a multiclass model one per class; none without scores. Of a regression: the predictions.
    score_mean: tuple[float, ...]
    score_sd: tuple[float, ...]
    distinct_scores: bool
    #: Share of each predicted class; empty for a regression.
    class_shares: dict[str, float]
    newest_feature: dt.datetime | None


_COLUMNS = ", ".join(f"f.{name}" for name in Profile.__dataclass_fields__)
#: The table `earlier (window_start, batch_id)`: of each window of :model before :window the batch with rows that people
#: see, or saw until retention dropped it; where a person has said what is the new normal, from that window on.
EARLIER = """WITH normal AS (
        SELECT max(window_start) AS since FROM ponte.normal_event WHERE model = :model AND window_start <= :window
    ), retired AS (
        SELECT DISTINCT ON (window_start) window_start, batch_id FROM ponte.retention_event
        WHERE model = :model AND published
        ORDER BY window_start, event_id DESC
    ), seen AS (
        SELECT window_start, batch_id FROM ponte.published WHERE model = :model
        UNION ALL
        SELECT window_start, batch_id FROM retired r
        WHERE NOT EXISTS (
            SELECT FROM ponte.published p WHERE p.model = :model AND p.window_start = r.window_start
        )
    ), earlier AS (
        SELECT s.window_start, s.batch_id FROM seen s JOIN ponte.batch_profile f USING (batch_id)
        CROSS JOIN normal n
        WHERE s.window_start < :window AND f.row_count > 0 AND s.window_start >= coalesce(n.since, s.window_start)
    )"""
_EARLIER = sa.text(f"""{EARLIER}
    SELECT {_COLUMNS} FROM earlier e JOIN ponte.batch_profile f USING (batch_id)
    ORDER BY e.window_start DESC LIMIT :count""")


def take_profile(connection: sa.Connection, batch: Batch, version: Version, rules: Guard) -> Profile:
    """Compute the profile of a scored batch from its prediction table, and keep it, in the caller's transaction."""
    assert batch.row_count is not None
    own = quote(*prediction_name(batch))
    figures = _score_figures(connection, own, version)
    shares: dict[str, float] = {}
    if version.task != "regression":
        rows = connection.exec_driver_sql(f"SELECT prediction::text, count(*) FROM {own} GROUP BY prediction").all()
        shares = {row[0]: row[1] / max(1, figures["count"]) for row in rows}
    profile = Profile(
        batch_id=batch.batch_id,
        row_count=batch.row_count,
        scored_count=figures["count"],
        unscored_count=connection.execute(_UNSCORED, {"id": batch.batch_id}).scalar_one(),
        score_mean=figures["mean"],
        score_sd=figures["sd"],
        distinct_scores=figures["distinct"],
        class_shares=shares,
        newest_feature=_newest_feature(connection, batch, rules),
    )
    values = {name: getattr(profile, name) for name in Profile.__dataclass_fields__}
    values |= {"score_mean": list(profile.score_mean), "score_sd": list(profile.score_sd)}
    insert_row(connection, "ponte.batch_profile", {**values, "class_shares": json.dumps(shares)})
    return profile


def _score_figures(connection: sa.Connection, own: str, version: Version) -> dict[str, Any]:
    if version.task == "regression":
        # Sums of double precision hold squares, which may be none any more. Those of numeric may, and are slower.
        huge = connection.exec_driver_sql(f"SELECT max(abs(prediction)) > {HUGE} FROM {own}").scalar_one()
        columns = ["prediction::numeric" if huge else "prediction"]
    elif version.task == "multiclass":
        columns = [f"scores[{place}]" for place in range(1, len(version.output.classes) + 1)]
    else:
        columns = ["score"]
    figures = ", ".join(f"avg({c}), coalesce(stddev_pop({c}), 0), min({c}) < max({c})" for c in columns)
    count, *rest = connection.exec_driver_sql(f"SELECT count(*), {figures} FROM {own}").one()
    means, spreads, distinct = rest[0::3], rest[1::3], rest[2::3]
    without = any(mean is None for mean in means)  # no row, or no probabilities
    return {
        "count": count,
        "mean": () if without else tuple(float(mean) for mean in means),
        "sd": () if without else tuple(float(spread) for spread in spreads),
        "distinct": any(distinct),
    }


def _newest_feature(connection: sa.Connection, batch: Batch, rules: Guard) -> dt.datetime | None:
    if rules.freshness_column is None:
        return None
    query = f"SELECT max({quote(rules.freshness_column)})::timestamptz FROM {quote(*frozen_name(batch))}"
    found: dt.datetime | None = connection.exec_driver_sql(query).scalar_one()
    return found


def earlier_profiles(connection: sa.Connection, batch: Batch, rules: Guard) -> list[Profile]:
    """Return the profiles of the batches for the windows before this one, the latest first.

    Of each window the one that people see, or saw until the retention of the model dropped its rows.
    """
    values = {"model": batch.model, "window": batch.window_start, "count": rules.batches}
    rows = connection.execute(_EARLIER, values).mappings()
    return [Profile(**{**r, "score_mean": tuple(r["score_mean"]), "score_sd": tuple(r["score_sd"])}) for r in rows]
