"""Fixtures: one embedded PostgreSQL per process, a private database per test; a test pays only for what it asks.

Besides, of pytest itself: how tests are shared out (workers.py), which are fast (fast.py), which cases have their turn
(rotation.py).
"""

# ruff: noqa: E402 - the environment comes before the imports

from __future__ import annotations

import os

# Before anything loads OpenMP or a BLAS: their threads spin while they wait, which costs minutes on shared cores.
os.environ["OMP_WAIT_POLICY"] = "passive"
for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")
os.environ["GX_ANALYTICS_ENABLED"] = "false"

import itertools
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests import rotation

if TYPE_CHECKING:
    import sqlalchemy as sa
    from tests.sample_model import World

    from ponte.storage.artifacts import ArtifactStore
    from ponte.storage.database import Database

pytest_plugins = ["tests.fast", "tests.workers"]

_SUPERUSER = "postgres"
_PASSWORD = "sesame"  # noqa: S105 - of a server that listens on a private unix socket only
_OPTIONS = {
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "shared_buffers": "64MB",
    "max_wal_size": "512MB",  # the data may lie in memory
    "scram_iterations": "1",  # a connection in 5 ms; with the default, most of a test would be logging in
}
#: Bytes that have to be free where a server's data shall lie: four times what they have been seen to take, and WAL.
_ROOM = 1024**3


def pytest_configure(config: pytest.Config) -> None:
    """Give the run its number, once: workers inherit it."""
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(rotation.Counter(config))


class Cluster:
    """A running server on which tests make databases."""

    def __init__(self, folder: Path) -> None:
        from ponte.embedded import postgres

        self._postgres, self._data = postgres, folder / "data"
        self._numbers = itertools.count(1)
        self._server = self._start()
        self._make_roles()

    def _start(self):
        return self._postgres.start(self._data, superuser_password=_PASSWORD, options=_OPTIONS)

    def _make_roles(self) -> None:
        from ponte.schema import roles

        with self._admin() as admin:
            roles.ensure_logins(admin, dict.fromkeys(roles.LOGINS, _PASSWORD))
            roles.ensure_memberships(admin)

    def url(self, database: str = _SUPERUSER, role: str = _SUPERUSER) -> str:
        """Return the URL by which a role connects, by default the superuser."""
        return self._server.url(database, role, _PASSWORD, "psycopg2")

    def execute(self, statement: str, database: str = _SUPERUSER) -> None:
        """Run one statement as superuser, outside any transaction."""
        with self._admin(database) as admin:
            admin.exec_driver_sql(statement)

    def _admin(self, database: str = _SUPERUSER) -> sa.Connection:
        import sqlalchemy as sa

        engine = sa.create_engine(self.url(database), isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)
        return engine.connect()

    @contextmanager
    def database(self, template: str | None = None) -> Iterator[tuple[str, str]]:
        """Make a database, a copy of `template` if given; yield its name and its owner's URL; drop it."""
        from ponte.schema import roles

        name = f"test_{next(self._numbers)}"
        source = f"TEMPLATE {template} STRATEGY file_copy" if template else ""
        self.execute(f"CREATE DATABASE {name} OWNER {roles.OWNER} {source}")
        try:
            if not template:
                with self._admin(name) as admin:
                    roles.close_to_public(admin)
            yield name, self.url(name, roles.OWNER)
        finally:
            self.execute(f"DROP DATABASE {name} WITH (FORCE)")

    def crash_and_restart(self) -> None:
        """Stop as a power cut would, and start again: what was not committed is gone, every session is cut."""
        self._postgres.stop(self._data, mode="immediate")
        self._start()

    def log(self) -> str:
        """Return what the server has written into its log."""
        return self._server.log_file.read_text(encoding="utf-8")

    def stop(self) -> None:
        """End the server; its data are thrown away."""
        self._postgres.stop(self._data, mode="immediate")


@dataclass(frozen=True)
class Template:
    """A world to copy: a database, and the artifacts and model folders that belong to it."""

    database: str
    artifacts: Path
    models: Path

    @contextmanager
    def copy(self, server: Cluster, folder: Path) -> Iterator[World]:
        """Yield a private copy, its files below `folder`; its database is dropped at the end."""
        from tests.sample_model import World
        from upath import UPath

        from ponte.model.folders import get_folder
        from ponte.storage.artifacts import ArtifactStore
        from ponte.storage.database import Database

        for source, name in ((self.artifacts, "artifacts"), (self.models, "models")):
            shutil.copytree(source, folder / name, dirs_exist_ok=True)
        with server.database(self.database) as (_, url):
            yield World(
                db=Database(url),
                store=ArtifactStore(UPath(folder / "artifacts")),
                folder=get_folder(folder / "models", "visits"),
            )

    @contextmanager
    def after(self, server: Cluster, folder: Path, change: Callable[[World], object]) -> Iterator[Template]:
        """Yield the template that `change` makes of a copy: what many tests begin with is done once."""
        with self.copy(server, folder) as world:
            change(world)
            name = str(world.db.url.database)
            # Great Expectations keeps its connections, and only a database that nobody is connected to can be copied.
            server.execute(
                f"SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = '{name}' "
                "AND backend_type = 'client backend'"
            )
            yield Template(name, folder / "artifacts", folder / "models")


@pytest.fixture(scope="module", autouse=True)
def no_thread_is_left() -> Iterator[None]:
    """A thread of ours that outlives its module works on, with the generators and connections of other tests."""
    yield
    assert not [thread.name for thread in threading.enumerate() if thread.name.startswith("ponte-")]


@pytest.fixture(scope="session")
def postgres_programs() -> None:
    """Asked for by whatever starts a PostgreSQL: its tests are not fast, see fast.py."""


@pytest.fixture(scope="session")
def airflow() -> None:
    """Asked for by whatever imports or starts Airflow: its tests are not fast, see fast.py."""


def _data_folder() -> Path:
    """Return a new folder in shared memory, where there is one with room, in a short path (a socket's has 107 bytes).

    A database per test is files that are written and removed at once: a disk would only be in the way.
    """
    memory = Path("/dev/shm")  # noqa: S108 - mkdtemp makes a folder of our own in there
    roomy = memory.is_dir() and os.access(memory, os.W_OK) and shutil.disk_usage(memory).free > _ROOM
    return Path(tempfile.mkdtemp(prefix="ponte-test-", dir=memory if roomy else None))


@pytest.fixture(scope="session")
def server(postgres_programs: None) -> Iterator[Cluster]:
    """An embedded PostgreSQL, one in each process that runs tests."""
    folder = _data_folder()
    cluster = None
    try:
        cluster = Cluster(folder)
        yield cluster
    finally:
        if cluster is not None:
            cluster.stop()
        else:
            from ponte.embedded import postgres

            postgres.stop(folder / "data", mode="immediate")
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def empty_url(server: Cluster) -> Iterator[str]:
    """URL of a database without anything in it, dropped after the test."""
    with server.database() as (_, url):
        yield url


@pytest.fixture(scope="session")
def migrated(server: Cluster) -> Iterator[str]:
    """Name of a template database with Ponte's migrations and grants applied."""
    from ponte.schema import provision

    with server.database() as (name, url):
        provision.upgrade(url)
        yield name


@pytest.fixture
def db(server: Cluster, migrated: str) -> Iterator[Database]:
    """A private database with Ponte's migrations applied, dropped after the test."""
    from ponte.storage.database import Database

    with server.database(migrated) as (_, url):
        yield Database(url)


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    """An empty artifact store."""
    from upath import UPath

    from ponte.storage.artifacts import ArtifactStore

    return ArtifactStore(UPath(tmp_path / "artifacts"))


@pytest.fixture
def models_root(tmp_path: Path) -> Path:
    """An empty folder for model folders."""
    root = tmp_path / "models"
    root.mkdir(exist_ok=True)
    return root


@pytest.fixture(scope="session")
def shop_template(server: Cluster, migrated: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Template]:
    """The shop's visits and the model folder `visits`, nothing trained."""
    from tests.sample_model import load_visits, write_model

    from ponte.storage.database import Database

    folder = tmp_path_factory.mktemp("shop")
    with server.database(migrated) as (name, url):
        load_visits(Database(url))
        (folder / "artifacts").mkdir()
        (folder / "models").mkdir()
        write_model(folder / "models")
        yield Template(name, folder / "artifacts", folder / "models")


@pytest.fixture
def world(server: Cluster, shop_template: Template, tmp_path: Path) -> Iterator[World]:
    """The shop's visits and the model folder `visits`, nothing trained."""
    with shop_template.copy(server, tmp_path) as world:
        yield world


@pytest.fixture(scope="session")
def trained_template(
    server: Cluster, shop_template: Template, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Template]:
    """The same with a champion of `visits`."""
    folder = tmp_path_factory.mktemp("trained")
    with shop_template.after(server, folder, lambda world: world.train(run_id="first")) as found:
        yield found


@pytest.fixture
def trained(server: Cluster, trained_template: Template, tmp_path: Path) -> Iterator[World]:
    """A private copy of a world in which version 1 of `visits` is champion."""
    with trained_template.copy(server, tmp_path) as world:
        yield world


@pytest.fixture(scope="session")
def scored_template(
    server: Cluster, trained_template: Template, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Template]:
    """The same, and the champion has scored and published WEEK."""
    folder = tmp_path_factory.mktemp("scored")
    with trained_template.after(server, folder, lambda world: world.run(run_id="before")) as found:
        yield found


@pytest.fixture
def scored(server: Cluster, scored_template: Template, tmp_path: Path) -> Iterator[World]:
    """A private copy of a world in which the run `before` has published WEEK, as batch 1 of version 1."""
    with scored_template.copy(server, tmp_path) as world:
        yield world
