"""What the process of the API sets for itself before it serves."""

from __future__ import annotations

import subprocess
import sys

RUN = """
import gc, uvicorn
from pathlib import Path
from upath import UPath
from ponte.serving.app import make_service, run
from ponte.storage.artifacts import ArtifactStore
from ponte.storage.database import Database

uvicorn.run = lambda *_, **__: print(len(gc.get_objects()), gc.get_freeze_count(), *gc.get_threshold())
run(make_service(Database("postgresql://nowhere"), ArtifactStore(UPath("memory://none")), Path()), host="", port=0)
"""


def test_the_collector_of_cycles_passes_the_libraries_by() -> None:
    """A full collection through them would hold up every answer for a tenth of a second."""
    done = subprocess.run([sys.executable, "-c", RUN], capture_output=True, text=True, check=True)
    looked_through, passed_by, wait, *_ = map(int, done.stdout.split())
    assert passed_by > 100_000 > 10 * looked_through
    assert wait == 5_000, "else it looks a hundred times a second through what is on its way"
