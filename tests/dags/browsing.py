"""Browsers with the session of a user: at Ponte's pages as Airflow mounts them, and at Airflow's whole API server."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa
from tests.airflow_connections import set_connections

if TYPE_CHECKING:
    from fastapi import FastAPI
    from starlette.testclient import TestClient

    from ponte.storage.artifacts import ArtifactStore
    from ponte.storage.database import Database

ROOT = Path(__file__).parents[2]
SECRET = "not a secret, and longer than sixty-four bytes for its algorithm"  # noqa: S105

#: Opens a client by the role of its user; None: without a session.
Open = Callable[..., "TestClient"]


@contextmanager
def pages(db: Database, store: ArtifactStore | None = None) -> Iterator[Open]:
    """Yield a function that opens a client at Ponte's pages; `below` is the path that Airflow is served below."""
    from airflow.api_fastapi.app import create_auth_manager
    from airflow.plugins_manager import get_fastapi_plugins
    from fastapi import FastAPI

    with pytest.MonkeyPatch.context() as patch:
        set_connections(db, patch)
        patch.setenv("PONTE_ARTIFACTS", Path(store.root.path).as_uri() if store else "memory://none")
        patch.setenv("AIRFLOW__API_AUTH__JWT_SECRET", SECRET)
        [mounted] = get_fastapi_plugins()[0]

        def server(below: str) -> FastAPI:
            app = FastAPI(root_path=below)
            app.mount(mounted["url_prefix"], mounted["app"])
            return app

        with clients(server, create_auth_manager()) as log_in:
            yield log_in


@contextmanager
def api_server(models: Path) -> Iterator[FastAPI]:
    """Yield Airflow's API server with Ponte's plugin; the DAGs of the models are in its database, none is paused."""
    from airflow.api_fastapi.app import create_app, purge_cached_app
    from airflow.dag_processing.bundles.manager import DagBundlesManager
    from airflow.dag_processing.dagbag import DagBag, sync_bag_to_db
    from airflow.models import DagModel
    from airflow.utils.session import create_session
    from sqlalchemy import update

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PONTE_MODELS", str(models))
        patch.setenv("AIRFLOW__API_AUTH__JWT_SECRET", SECRET)
        patch.setenv("AIRFLOW__API__SECRET_KEY", SECRET)
        bag = DagBag(str(ROOT / "dags"))
        DagBundlesManager().sync_bundles_to_db()
        sync_bag_to_db(bag, "dags-folder", None)
        with create_session() as session:
            session.execute(update(DagModel).values(is_paused=False))
        purge_cached_app()
        yield create_app(apps="core")
        purge_cached_app()


@contextmanager
def clients(server: Callable[[str], FastAPI], manager: Any) -> Iterator[Open]:
    """Yield a function that opens a client at what `server` returns for a path, and closes all of them at the end."""
    from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser
    from starlette.testclient import TestClient

    opened: list[TestClient] = []

    def log_in(role: str | None, *, below: str = "") -> TestClient:
        found = TestClient(server(below), raise_server_exceptions=False, follow_redirects=False)
        if role is not None:
            user = SimpleAuthManagerUser(username=f"a {role}", role=role)
            found.cookies.set("_token", manager.generate_jwt(user))
        opened.append(found)
        return found

    yield log_in
    for one in opened:
        one.close()


@contextmanager
def questions() -> Iterator[list[str]]:
    """Yield what Ponte's database is asked meanwhile, without the settings of sessions."""
    asked: list[str] = []

    def note(connection: sa.Connection, _cursor: object, statement: str, *_: object) -> None:
        if connection.dialect.name == "postgresql" and not statement.startswith("SET"):
            asked.append(statement)

    sa.event.listen(sa.Engine, "before_cursor_execute", note)
    try:
        yield asked
    finally:
        sa.event.remove(sa.Engine, "before_cursor_execute", note)
