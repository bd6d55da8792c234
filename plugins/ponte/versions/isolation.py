"""Find the rows that an estimator cannot score, by halves, so that one bad row costs no more than itself."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ponte.errors import PonteError, UnpredictableRows

if TYPE_CHECKING:
    import pyarrow as pa

    from ponte.versions.predicting import Predictions

#: Longer messages are cut: an estimator may put the data it was given into its message.
MESSAGE_LENGTH = 500


class TooManyUnscored(PonteError):
    """More rows could not be scored than the caller allows."""


@dataclass(slots=True)
class Isolated:
    """Rows with their predictions, in parts of consecutive rows, and the rows without."""

    scored: list[tuple[pa.Table, Predictions]] = field(default_factory=list)
    #: A table of one row or more, the kind of what is wrong with them (see `kinds`), and what the estimator said.
    unscored: list[tuple[pa.Table, str, str]] = field(default_factory=list)
    unscored_rows: int = 0
    #: How many of them by kind: the class of what was raised. It holds no value of a row, as the words may.
    kinds: Counter[str] = field(default_factory=Counter)


def isolate(predict: Callable[[pa.Table], Predictions], rows: pa.Table, *, allowed: int) -> Isolated:
    """Return the predictions of all rows that can be predicted, and the others with their reasons.

    allowed : raises TooManyUnscored as soon as more rows than this turn out bad, so that an estimator that can score
    nothing is found out at once. One bad row in n costs about 2 * log2(n) predictions of ever fewer rows; an estimator
    that returned NaN says which rows, and costs two. MemoryError, and a PonteError about anything but rows, is raised.
    """
    found = Isolated()
    _split(predict, rows, allowed, found)
    return found


def _split(predict: Callable[[Any], Predictions], rows: pa.Table, allowed: int, found: Isolated) -> None:
    if not rows.num_rows:
        return
    try:
        found.scored.append((rows, predict(rows)))
    except UnpredictableRows as error:
        bad = error.rows
        _set_aside(rows.filter(_mask(bad)), error.what, error.what, allowed, found)
        _split(predict, rows.filter(_mask(~bad)), allowed, found)
    except (PonteError, MemoryError):
        raise
    except Exception as error:  # noqa: BLE001 - the author's estimator may raise anything
        if rows.num_rows == 1:
            name = type(error).__name__
            _set_aside(rows, name, f"{name}: {error}", allowed, found)
            return
        half = rows.num_rows // 2
        _split(predict, rows.slice(0, half), allowed, found)
        _split(predict, rows.slice(half), allowed, found)


def _set_aside(rows: pa.Table, kind: str, reason: str, allowed: int, found: Isolated) -> None:
    reason = reason if len(reason) <= MESSAGE_LENGTH else reason[: MESSAGE_LENGTH - 1] + "…"
    reason = reason.encode(errors="replace").decode().replace("\0", "?")  # neither fits into jsonb
    found.unscored.append((rows, kind, reason))
    found.unscored_rows += rows.num_rows
    found.kinds[kind] += rows.num_rows
    if found.unscored_rows > allowed:
        got, expected = in_words(found.kinds), f"at most {allowed} rows"
        raise TooManyUnscored("too many rows cannot be scored", got=got, expected=expected)


def in_words(kinds: Counter[str]) -> str:
    """Return how many rows there are of each kind, the most frequent first, for people who may not read rows.

    >>> in_words(Counter({"ValueError": 2}))
    '2 rows: ValueError'
    """
    return "; ".join(f"{rows} rows: {kind}" for kind, rows in kinds.most_common())


def _mask(rows: Any) -> pa.Array[Any]:
    import pyarrow as pa

    mask: pa.Array[Any] = pa.array(rows)
    return mask
