"""What the workers share out: stories stay whole and in order, the long ones begin, the rest is as it was shuffled."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tests import workers


@pytest.mark.parametrize(
    ("nodeid", "pile"),
    [
        ("tests/e2e/test_stack.py::test_a[x]", "e2e"),
        ("tests/dags/test_runs.py::test_b", "dags"),
        ("tests/dags/deeper/test_runs.py::test_b", "dags"),
        ("tests/models/test_contract.py::test_c[a::b]", "models"),
        ("tests/postgres/test_crash.py::test_d", "tests/postgres/test_crash.py"),
        ("tests/unit/test_gate.py::test_e", "tests/unit/test_gate.py"),
    ],
)
def test_one_worker_takes_a_file_or_a_folder_whose_tests_belong_together(nodeid: str, pile: str) -> None:
    assert workers.together(nodeid) == pile


def sorted_by(config: Any) -> list[str]:
    """Return the tests of four files in the order in which they are run."""
    shuffled = ["unit/test_u.py::b", "e2e/test_e.py::3", "dags/test_d.py::z", "e2e/test_e.py::1", "unit/test_u.py::a"]
    shuffled += ["postgres/test_p.py::q", "e2e/test_e.py::2", "dags/test_d.py::y"]
    items: list[Any] = []
    for name in shuffled:
        file, test = name.split("::")
        line = int(test) if test.isdigit() else 0
        items.append(SimpleNamespace(nodeid=f"tests/{name}", path=Path(file), reportinfo=lambda line=line: ("", line)))
    workers.pytest_collection_modifyitems(config, items)
    return [item.nodeid.removeprefix("tests/") for item in items]


STORY = ["e2e/test_e.py::1", "e2e/test_e.py::2", "e2e/test_e.py::3"]


def test_workers_begin_with_what_takes_longest() -> None:
    dags = ["dags/test_d.py::z", "dags/test_d.py::y"]
    rest = ["postgres/test_p.py::q", "unit/test_u.py::b", "unit/test_u.py::a"]
    assert sorted_by(SimpleNamespace(workerinput={})) == STORY + dags + rest


def test_one_process_ends_with_the_story_and_leaves_the_rest_as_it_was_shuffled() -> None:
    rest = ["unit/test_u.py::b", "dags/test_d.py::z", "unit/test_u.py::a", "postgres/test_p.py::q", "dags/test_d.py::y"]
    assert sorted_by(SimpleNamespace()) == rest + STORY
