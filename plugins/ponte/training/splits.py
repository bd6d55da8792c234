"""Does an estimator say the same of a row whoever its neighbours are? What scores a batch in chunks has to."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from ponte.errors import TrainingRefused
from ponte.versions.predicting import Fitted, Predictions, differing, predict
from ponte.versions.signature import Signature

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

    Array = np.ndarray[Any, Any]

log = logging.getLogger(__name__)

#: So many rows, evenly spread, are predicted one by one: each costs a whole call.
ALONE = 30


def require_same_in_pieces(fitted: Fitted, rows: pa.Table, signature: Signature, *, where: str) -> None:
    """Raise TrainingRefused unless rows have one prediction each: among all, in halves, reversed, apart and alone.

    The same means what `predicting.differing` lets pass. where : begins the message's place. Otherwise raises what
    `predict` raises of all rows at once. The message holds counts and no content of rows.
    """
    whole = predict(fitted.estimator, rows, signature, fitted.output)
    found = [
        f"{name}: {said}"
        for name, pieces in _splits(rows.num_rows)
        if (said := _difference(fitted, rows, signature, whole, pieces)) is not None
    ]
    if found:
        raise TrainingRefused(
            "the estimator's prediction of a row depends on the rows beside it",
            where=f"{where}, {rows.num_rows} rows of the holdout",
            got="; ".join(found),
            expected="the predictions of all rows at once: a batch is scored in chunks",
            fix="let no step look at its whole input when it predicts (ranks, means, codes or counts of the chunk): "
            "learn them in fit() and keep them, or make them in features.sql",
        )
    log.info("%d holdout rows have the same predictions whole, halved, reversed, apart and alone", rows.num_rows)


def _splits(count: int) -> Iterator[tuple[str, list[Array]]]:
    """The places of the rows of each piece."""
    import numpy as np

    places = np.arange(count)
    yield "halved", np.array_split(places, 2)
    yield "reversed", [places[::-1]]
    # Rows that lie side by side come apart, in as many pieces as each has rows.
    step = max(math.isqrt(count), 1)
    yield "every row apart from its neighbours", [places[first::step] for first in range(step)]
    alone = np.unique(np.linspace(0, count - 1, min(count, ALONE)).astype(int))
    yield f"{len(alone)} rows one by one", np.array_split(alone, max(len(alone), 1))


def _difference(
    fitted: Fitted, rows: pa.Table, signature: Signature, whole: Predictions, pieces: list[Array]
) -> str | None:
    """Return what is different when the rows are predicted piece by piece, None when nothing is."""
    import numpy as np

    known = np.zeros(rows.num_rows, dtype=bool)
    now = Predictions(whole.prediction.copy(), None if whole.score is None else whole.score.copy())
    failed: list[str] = []
    for places in pieces:
        try:
            said = predict(fitted.estimator, rows.take(places), signature, fitted.output)
        except MemoryError:
            raise
        except Exception as error:  # noqa: BLE001 - the author's estimator may raise anything
            failed.append(type(error).__name__)
            continue
        known[places] = True
        now.prediction[places] = said.prediction
        if now.score is not None and said.score is not None:
            now.score[places] = said.score
    bad = differing(whole, now, fitted.output) & known
    parts = [f"{len(failed)} of {len(pieces)} pieces raise {', '.join(sorted(set(failed)))}"] if failed else []
    if bad.any():
        figures = (whole.prediction, now.prediction) if fitted.output.task == "regression" else (whole.score, now.score)
        greatest = "in their labels"
        if figures[0] is not None and figures[1] is not None:
            greatest = f"by up to {np.abs(figures[1][bad] - figures[0][bad]).max():.3g}"
        parts.append(f"{int(bad.sum())} rows differ, {greatest}")
    return " and ".join(parts) or None
