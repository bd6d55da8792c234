"""Two versions of a model whose folder changed between them, and a browser with a session: for the tests of pages."""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.airflow_connections import set_connections

if TYPE_CHECKING:
    from httpx import Response
    from starlette.testclient import TestClient
    from tests.sample_model import World

    from ponte.storage.database import Database

HOSTILE = "<script>document.title='ran'</script>\u202e" + "W" * 500

Open = Callable[[str | None], "TestClient"]


def two_versions(world: World) -> None:
    """Train version 2 beside champion 1, of a folder whose texts would like to be more than text."""
    text = world.folder.text("estimator.py") + f"\n# {HOSTILE}\n" + "# x\n" * 1_000
    changed = world.with_model(files={"estimator.py": text, "README.md": "# " + "W" * 1_000_000})
    changed.train(run_id="second", promote=False)
    changed.mark(2, "not bad", run_id="looked at")
    changed.mark(2, "bad", run_id="marked")


def preview(client: TestClient, form: str, typed: dict[str, str]) -> Response:
    """Return the answer to a form of `/ponte/act/` with what is typed; "*" stands for the first of a list."""
    text = client.get(f"/ponte{form}").text
    hidden = dict(re.findall(r'"hidden" name="(\w+)" value="([^"]*)"', text))
    listed = re.findall(r'<option value="(\d+)"', text)
    fields = {name: listed[0] if value == "*" else value for name, value in typed.items()}
    sent = {**{name: html.unescape(value) for name, value in hidden.items()}, **fields, "step": "preview"}
    return client.post("/ponte/act", data=sent, headers={"Sec-Fetch-Site": "same-origin"})


@contextmanager
def browser(db: Database, artifacts: str) -> Iterator[Open]:
    """Yield a function that gives a client with the session of a user of that role, without one for None."""
    from airflow.api_fastapi.app import create_auth_manager
    from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser
    from fastapi import FastAPI
    from starlette.testclient import TestClient

    from ponte.web.app import app

    with pytest.MonkeyPatch.context() as patch:
        set_connections(db, patch)
        patch.setenv("PONTE_ARTIFACTS", Path(artifacts).as_uri())
        patch.setenv(
            "AIRFLOW__API_AUTH__JWT_SECRET", "not a secret, and longer than sixty-four bytes for its algorithm"
        )
        manager = create_auth_manager()
        opened: list[TestClient] = []

        def log_in(role: str | None) -> TestClient:
            server = FastAPI()
            server.mount("/ponte", app())
            found = TestClient(server, raise_server_exceptions=False, follow_redirects=False)
            if role is not None:
                user = SimpleAuthManagerUser(username="ada", role=role)
                found.cookies.set("_token", manager.generate_jwt(user, expiration_time_in_seconds=600))
            opened.append(found)
            return found

        yield log_in
        for one in opened:
            one.close()
