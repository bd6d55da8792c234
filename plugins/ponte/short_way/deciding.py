"""When predict() of an estimator needs not be asked, because its probabilities say what it would return."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]

#: Two probabilities of at most so many roundings' difference may be equal but for rounding.
TIE_ROUNDINGS = 100


def says_the_most_probable(estimator: Any, probabilities: Array) -> bool:
    """Tell whether predict() is known to return, for each of these rows, the class of the highest probability.

    probabilities : shape (n, n_classes), as predict_proba() of the same estimator returned them. Only for classes of
    scikit-learn whose code says so, and not for classes derived from them.
    """
    import numpy as np
    from sklearn.calibration import CalibratedClassifierCV
    from sklearn.ensemble import ExtraTreesClassifier, HistGradientBoostingClassifier, RandomForestClassifier
    from sklearn.linear_model import LogisticRegression

    if type(estimator) in (CalibratedClassifierCV, ExtraTreesClassifier, RandomForestClassifier):
        return True  # predict() is the argmax of predict_proba()
    if type(estimator) not in (HistGradientBoostingClassifier, LogisticRegression):
        return False
    # predict() is the argmax of what the probabilities are computed from, by a function that grows with it: the same,
    # unless rounding has made two of them equal.
    least = probabilities.max(axis=1, keepdims=True) - TIE_ROUNDINGS * np.finfo(probabilities.dtype).eps
    return int(np.count_nonzero(probabilities >= least)) == len(probabilities)
