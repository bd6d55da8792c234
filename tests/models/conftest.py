"""The demo data in a database of their own, loaded once per session."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
from tests.sample_examples import few_comments, few_loans

if TYPE_CHECKING:
    from sqlalchemy import Connection
    from tests.conftest import Cluster

    from ponte.storage.database import Database


@pytest.fixture(scope="session")
def demo_db(server: Cluster, migrated: str) -> Iterator[Database]:
    """Database with Ponte's schema, the flights, and a few rows of the other examples.

    Shared: tests leave nothing behind in it.
    """
    from ponte.demo import flights, tables
    from ponte.storage.database import Database

    with server.database(migrated) as (_, url):
        flights.load(url)
        for dataset, content in (few_loans(), few_comments()):
            tables.load(url, dataset, {dataset.file: content}.__getitem__)
        yield Database(url)


@pytest.fixture
def connection(demo_db: Database) -> Iterator[Connection]:
    """A connection to the demo data."""
    with demo_db.engine.connect() as connection:
        yield connection
