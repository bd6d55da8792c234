"""How the columns of a sample go together: which one gives the label away, which moment lies after another."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from ponte.authoring.source import SourceColumn

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

#: A column that explains this share of what the commonest label leaves open nearly equals the label.
GIVES_AWAY = 0.95
#: The same of the ROC AUC of a number alone, and of the correlation with a number.
AUC_ALONE, CORRELATION = 0.98, 0.99
#: From these on a person should look at the column: it may be made of the label, or known later.
NEARLY_GIVES_AWAY, AUC_NEAR, CORRELATION_NEAR = 0.7, 0.9, 0.8
#: Values of a column that are looked at one by one.
_MOST_VALUES = 100
#: Rows per value, on average, below which a value says only which row it is.
_ROWS_PER_VALUE = 10
_TWO = 2


def giveaways(
    sample: pd.DataFrame, label: SourceColumn, columns: Sequence[SourceColumn], *, task: str
) -> tuple[dict[str, str], dict[str, str]]:
    """Return the columns that nearly equal the label, and those that come near it; both with how near, in words."""
    equal: dict[str, str] = {}
    near: dict[str, str] = {}
    said = sample[label.name]
    for column in columns:
        if column.name == label.name or column.family is None or column.name not in sample:
            continue
        for measured, equals, comes_near, words in _measures(sample[column.name], said, column, task=task):
            if measured >= equals:
                equal[column.name] = f"it nearly equals {label.name}: {words}"
            elif measured >= comes_near:
                near[column.name] = words
            else:
                continue
            break
    return equal, near


def _measures(
    values: pd.Series[Any], label: pd.Series[Any], column: SourceColumn, *, task: str
) -> Iterator[tuple[float, float, float, str]]:
    """Yield what a column says of the label: a figure, from where on it equals it, or comes near, and it in words."""
    numbers = column.family in ("integer", "number", "boolean")
    if task == "regression":
        if numbers:
            found = _correlation(values, label)
            yield abs(found), CORRELATION, CORRELATION_NEAR, f"their correlation is {found:.3f}"
        return
    share = _explained(values, label)
    if share is not None:
        yield share, GIVES_AWAY, NEARLY_GIVES_AWAY, f"its value alone tells the label of {share:.0%} of the rows"
    if numbers and label.nunique() == _TWO:
        alone = _auc(values.to_numpy(dtype=float), (label == sorted(label.unique())[1]).to_numpy())
        alone = max(alone, 1 - alone)
        yield alone, AUC_ALONE, AUC_NEAR, f"alone it has a ROC AUC of {alone:.3f}"


def share_later(sample: pd.DataFrame, column: SourceColumn, time: SourceColumn) -> tuple[float, float]:
    """Return the share of rows in which one moment lies on a later day than another, and by how many days most do.

    The second is the 99th percentile, in days, at least 0. NULL counts as not later.
    """
    import pandas as pd

    gaps = (_moments(sample[column.name]) - _moments(sample[time.name])).dt.total_seconds() / 86_400
    later = float((gaps > (1 if time.family == "date" else 0)).mean()) if len(gaps) else 0.0
    most = gaps.quantile(0.99) if gaps.notna().any() else 0.0
    return later, max(float(most), 0.0) if pd.notna(most) else 0.0


def _moments(values: pd.Series[Any]) -> pd.Series[Any]:
    import pandas as pd

    return pd.to_datetime(values, utc=True, errors="coerce")


def _explained(values: pd.Series[Any], label: pd.Series[Any]) -> float | None:
    """Return the share of the labels that the value tells, of those that the commonest label gets wrong."""
    known = values.notna()
    if not known.any() or values[known].nunique() > min(_MOST_VALUES, known.sum() / _ROWS_PER_VALUE):
        return None
    counts = label[known].groupby([values[known].astype(str), label[known].astype(str)]).size()
    right = float(counts.groupby(level=0).max().sum()) / float(known.sum())
    usual = float(label[known].value_counts().iloc[0]) / float(known.sum())
    return None if usual >= 1 else (right - usual) / (1 - usual)


def _correlation(values: pd.Series[Any], label: pd.Series[Any]) -> float:
    import numpy as np

    first, second = values.astype(float), label.astype(float)
    known = np.isfinite(first) & np.isfinite(second)
    if first[known].nunique() < _TWO or second[known].nunique() < _TWO:
        return 0.0
    with np.errstate(over="ignore", invalid="ignore"):
        found = float(first[known].corr(second[known]))
    return found if np.isfinite(found) else 0.0


def _auc(values: np.ndarray[Any, Any], positive: np.ndarray[Any, Any]) -> float:
    import numpy as np
    from scipy.stats import rankdata

    known = np.isfinite(values)
    ranks, hit = rankdata(values[known]), positive[known]
    ones, zeros = int(hit.sum()), int((~hit).sum())
    if not ones or not zeros:
        return 0.5
    return float((ranks[hit].sum() - ones * (ones + 1) / 2) / (ones * zeros))
