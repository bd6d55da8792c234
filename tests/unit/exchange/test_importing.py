"""What an import is measured on, and which columns it is asked with."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
from tests.sample_model import AS_OF, write_model

from ponte.errors import ArtifactRefused, PonteError, SignatureMismatch
from ponte.exchange.arriving import accept
from ponte.exchange.importing import measuring_windows, signature_of
from ponte.storage.columns import Column
from ponte.versions.signature import Signature

KEY = (Column(name="id", family="integer"),)
A, B = (Column(name=name, family="number") for name in "ab")


@pytest.mark.parametrize(
    ("until", "unseen", "first"),
    [
        # Six windows end on 2024-02-12, a Monday; a training would fit on four.
        ("2024-01-28", 2, "2024-01-01"),
        ("2024-01-29", 1, "2024-01-08"),  # its first day was seen
        ("2024-02-04", 1, "2024-01-08"),
        ("2023-01-01", 6, "2023-12-04"),
    ],
)
def test_only_windows_that_begin_after_the_last_day_seen_measure(
    tmp_path: Path, until: str, unseen: int, first: str
) -> None:
    import datetime as dt

    day = dt.date.fromisoformat(until)
    windows, count = measuring_windows(write_model(tmp_path), day, as_of=AS_OF)
    assert count == unseen
    assert all(window.start > day for window in windows[-count:])
    assert (str(windows[0].start), len(windows)) == (first, unseen + 4)
    with pytest.raises(PonteError, match="no window is left"):
        measuring_windows(write_model(tmp_path), dt.date(2024, 2, 5), as_of=AS_OF)


def test_features_are_those_of_the_estimator_in_its_order() -> None:
    signature = Signature(key=KEY, features=(A, B), label="integer", types=4, categories={"a": ("x",)})

    def of(**facts: object) -> Signature:
        return signature_of(SimpleNamespace(**facts), signature, where="here")

    assert of(feature_names_in_=["b", "a"]).features == (B, A)
    assert of(n_features_in_=2).features == of().features == (A, B)
    assert of(feature_names_in_=["b", "a"]).categories == of().categories == {}
    for facts, words in (
        ({"feature_names_in_": ["a", "c"]}, "no 'c'; 'b', which it does not know"),
        ({"feature_names_in_": ["a"]}, "'b', which it does not know"),
        ({"n_features_in_": 3}, "2 columns: a, b"),
    ):
        with pytest.raises(SignatureMismatch, match=words):
            of(**facts)


def test_an_mlflow_folder_leads_to_no_file_outside_of_it(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"x")
    folder = tmp_path / "model"
    folder.mkdir()
    with pytest.raises(PonteError, match="no MLflow model"):
        accept(folder, sha256=None, trusted=True)
    (folder / "MLmodel").write_text("flavors:\n  sklearn:\n    pickled_model: ../secret\n")
    with pytest.raises(PonteError, match="no scikit-learn estimator"):
        accept(folder, sha256=None, trusted=True)
    (folder / "model.pkl").write_bytes(b"y")
    (folder / "MLmodel").write_text("flavors:\n  sklearn:\n    pickled_model: model.pkl\n")
    with pytest.raises(ArtifactRefused, match="nobody has said"):
        accept(folder, sha256=None, trusted=False)
    assert accept(folder, sha256=None, trusted=True).content == b"y"
