"""Does drift do harm? What the quality that was estimated of a batch, before labels, says of that."""

from __future__ import annotations

from typing import Literal

import sqlalchemy as sa

from ponte.model.folders import ModelFolder
from ponte.model.spec import METRICS

#: worse: the whole interval of the estimate is beyond the gate's bound, or without one worse than the version's figure
#: on its holdout; better: the whole interval is better than that figure; unclear: neither; unknown: no estimate.
Outlook = Literal["worse", "better", "unclear", "unknown"]

_OWN_FIGURE = sa.text("""SELECT m.value FROM ponte.metric m JOIN ponte.version v USING (model, version, snapshot_id)
    WHERE m.model = :model AND m.version = :version AND m.subject = 'candidate' AND m.slice = '' AND m.name = :metric""")


def outlook(
    estimate: tuple[float, float] | None, *, bound: float | None, own: float | None, higher_is_better: bool
) -> Outlook:
    """Return what an estimate means.

    estimate : lower and upper end of its interval; None: there is none.
    bound, own : what the gate demands, and what the version reached on its holdout; None: not known.
    """
    if estimate is None:
        return "unknown"
    sign = 1 if higher_is_better else -1
    worst, best = sorted(sign * end for end in estimate)
    limit = bound if bound is not None else own
    if limit is not None and best < sign * limit:
        return "worse"
    if own is not None and worst > sign * own:
        return "better"
    return "unclear"


def outlook_of(connection: sa.Connection, folder: ModelFolder, batch_id: int, version: int) -> Outlook:
    """Return what the estimate of the gate's metric says of a batch."""
    gate, higher = folder.spec.gate, METRICS[folder.spec.task][folder.spec.gate.metric]
    values = {"model": folder.name, "version": version, "metric": gate.metric, "batch": batch_id}
    own = connection.execute(_OWN_FIGURE, values).scalar_one_or_none()
    bound = gate.minimum if higher else gate.maximum
    return outlook(None, bound=bound, own=own, higher_is_better=higher)
