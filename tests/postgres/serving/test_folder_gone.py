"""A model folder goes while the API answers for it."""

from __future__ import annotations

import shutil

import pytest
from tests.postgres.serving.served import ROW, Served

from ponte.serving.batching import Batch


def test_what_was_answered_while_the_folder_went_is_kept(own: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    service = own.service
    keep = service.keep

    def go_first(batch: Batch) -> None:
        shutil.rmtree(own.world.folder.path)
        own.look()
        keep(batch)

    monkeypatch.setattr(service, "keep", go_first)
    assert own.predict([ROW]).status_code == 200
    assert service.journal.flush()
    assert own.world.ask("SELECT count(*) FROM predictions.visits_live") == 1
    assert own.predict([ROW]).status_code == 404
