"""Fixtures of the tests that disturb a scoring run."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from tests.conftest import Cluster, Template
    from tests.postgres.stages import Stages
    from tests.sample_model import World


@pytest.fixture(scope="session")
def stages(server: Cluster, migrated: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stages]:
    """A scoring run before each of its steps; it takes some seconds, once."""
    from tests.postgres.stages import prepare

    with prepare(server, migrated, tmp_path_factory.mktemp("stages")) as found:
        yield found


@pytest.fixture(scope="session")
def crash_report() -> Iterator[dict[str, dict[str, str]]]:
    """What came of each crash point, by way; written at the end when PONTE_CRASH_REPORT says where."""
    from tests.postgres.crash_points import POINTS, WAYS

    found: dict[str, dict[str, str]] = defaultdict(dict)
    yield found
    if path := os.environ.get("PONTE_CRASH_REPORT"):
        lines = [f"| crash point | {' | '.join(WAYS)} |", "|---" * (len(WAYS) + 1) + "|"]
        lines += [
            f"| {point} | {' | '.join(found[point].get(way, '') for way in WAYS)} |"
            for point in POINTS
            if point in found
        ]
        Path(path).write_text("\n".join(lines) + "\n", encoding="utf-8")


@pytest.fixture(scope="session")
def undisturbed_template(
    server: Cluster, trained_template: Template, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Template]:
    """A world with small shards that nobody has disturbed."""
    from tests.postgres.traces import SMALL

    folder = tmp_path_factory.mktemp("undisturbed")
    with trained_template.after(
        server, folder, lambda world: world.with_model(**SMALL).run(run_id="undisturbed")
    ) as found:
        yield found


@pytest.fixture
def undisturbed(
    server: Cluster, undisturbed_template: Template, tmp_path: Path
) -> Iterator[tuple[World, dict[str, object]]]:
    """A private copy of it, and the state that a run without faults leaves."""
    from tests.postgres.traces import state

    from ponte.batches import lifecycle as batches

    with undisturbed_template.copy(server, tmp_path) as world:
        batch = batches.get_batch(world.db, 1)
        expected = state(world, batch.batch_id)
        assert len(expected["shards"]) == 2
        assert expected["pointer"] == [(batch.window_start, True)]
        yield world, expected


@pytest.fixture
def slow(trained: World) -> tuple[World, dict[str, object]]:
    """As `undisturbed`, but now the visits sleep in the middle of the week as long as shop.slow has a row."""
    from tests.postgres.traces import SMALL, state

    world = trained.with_model(**SMALL)
    world.execute("CREATE TABLE shop.slow (seconds integer)")
    world.execute("ALTER TABLE shop.visit RENAME TO stored_visit")
    world.execute(
        "CREATE VIEW shop.visit AS SELECT * FROM shop.stored_visit WHERE CASE WHEN visit_id = 2300 "
        "THEN pg_sleep(coalesce((SELECT max(seconds) FROM shop.slow), 0)) IS NOT NULL ELSE true END"
    )
    expected = state(world, world.run(run_id="undisturbed").batch_id)
    world.execute("INSERT INTO shop.slow VALUES (30)")
    return world, expected


#: What is drawn in full: whatever is about training itself, or about values that no axis may be able to measure.
DRAWN = ("training", "model", "test_bad_input.py")
_SVG: dict[str, str] = {}


@pytest.fixture(scope="module", autouse=True)
def drawn_once(request: pytest.FixtureRequest) -> Iterator[None]:
    """Write each kind of plot once: it takes a quarter of a training, and no test in here looks at a report.

    What is to be drawn is computed each time all the same. tests/unit/pages looks at the plots.
    """
    from ponte.pages import plots

    def written(drawing: Figure, *, title: str, caption: str) -> str:
        if title not in _SVG:
            _SVG[title] = really(drawing, title=title, caption=caption)
        return _SVG[title]

    really = plots.to_svg
    with pytest.MonkeyPatch.context() as patch:
        if not set(DRAWN) & set(request.path.relative_to(Path(__file__).parent).parts):
            patch.setattr(plots, "to_svg", written)
        yield
