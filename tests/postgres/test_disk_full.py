"""The disk of the rows is full: one named fault, nothing is published, and the retry succeeds once there is room."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.conftest import Cluster
from tests.postgres.children import FLOW, run_flow, run_step
from tests.postgres.stages import RUN, Stages
from tests.sample_model import NEXT_WEEK, World

from ponte.errors import DatabaseUnavailable


@pytest.fixture(scope="module")
def small_disk(server: Cluster) -> Iterator[Path]:
    """A file system of 20 MB, with the tablespace `small` on it."""
    folder = Path(tempfile.mkdtemp(prefix="ponte-small-"))
    command = ["mount", "-t", "tmpfs", "-o", "size=20m", "tmpfs", str(folder)]
    mounted = shutil.which("mount") and subprocess.run(command, capture_output=True, text=True, check=False)
    if not mounted or mounted.returncode:
        folder.rmdir()
        pytest.skip(f"a tmpfs cannot be mounted here: {mounted.stderr.strip() if mounted else 'no mount'}")
    try:
        space = folder / "space"
        space.mkdir()
        owner = server._data.stat()
        shutil.chown(space, owner.st_uid, owner.st_gid)
        folder.chmod(0o755)
        server.execute(f"CREATE TABLESPACE small LOCATION '{space}'")
        server.execute("GRANT CREATE ON TABLESPACE small TO PUBLIC")
        yield folder
        server.execute("DROP TABLESPACE small")
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)
        folder.rmdir()


@contextmanager
def full(folder: Path) -> Iterator[None]:
    """Leave no room on the disk."""
    ballast = folder / "ballast"
    with ballast.open("wb") as file:
        room = shutil.disk_usage(folder).free
        file.write(bytes(room))
    try:
        yield
    finally:
        ballast.unlink()


def new_tables_on_the_small_disk(stages: Stages, world: World) -> None:
    stages.server.execute(f"ALTER DATABASE {world.db.url.database} SET default_tablespace = small")


#: The steps that write rows to tables of their own: frozen rows, predictions, the keys of the predictions.
@pytest.mark.parametrize("step", ["freeze", "score", "guard"])
def test_a_full_disk_is_a_passing_fault(stages: Stages, small_disk: Path, step: str) -> None:
    with stages.before("freeze") as world:
        new_tables_on_the_small_disk(stages, world)
        batch_id = None
        for earlier in FLOW[: FLOW.index(step)]:
            batch_id = run_step(world, earlier, batch_id, run_id=RUN)
        with full(small_disk), pytest.raises(DatabaseUnavailable, match=r"No space left on device|DiskFull|53100"):
            run_step(world, step, batch_id, run_id=RUN)
        assert world.published_checksum(NEXT_WEEK) == stages.seen_before
        run_flow(world, run_id=RUN, first=step, batch_id=batch_id)
        stages.assert_as_undisturbed(world)
