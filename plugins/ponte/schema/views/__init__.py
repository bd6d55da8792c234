"""The views of the schema `ponte`: `<name>.sql` is all of a view as it is now, with its comments.

No revision holds the text of a view (but for those of before there were these files), so whoever reads or changes one
has one place to look. A view can stand only on tables as they are now, so the views are made when the last revision
has run, and in no state between two.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from graphlib import TopologicalSorter
from pathlib import Path

import sqlalchemy as sa

FOLDER = Path(__file__).parent


def make_views(connection: sa.Connection) -> None:
    """Make every view as its file says, in the caller's transaction; rights on one that is there stay.

    PostgreSQL refuses to take a column from a view that is there: the revision that wants to has dropped the view.
    """
    texts = {file.stem: file.read_text(encoding="utf-8") for file in FOLDER.glob("*.sql")}
    connection = connection.execution_options(no_parameters=True)  # a percent sign means itself
    for name in in_order(texts):
        connection.exec_driver_sql(texts[name])


def in_order(texts: Mapping[str, str]) -> list[str]:
    """Return the names of views, each after those that its text speaks of; raises CycleError when none can be first.

    >>> in_order({"a": "CREATE VIEW ponte.a AS TABLE ponte.b", "b": "CREATE VIEW ponte.b AS TABLE ponte.version"})
    ['b', 'a']
    """
    spoken_of = {name: {*re.findall(r"\bponte\.(\w+)", text)} & texts.keys() - {name} for name, text in texts.items()}
    return list(TopologicalSorter(spoken_of).static_order())
