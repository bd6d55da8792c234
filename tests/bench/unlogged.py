"""`./ponte serve` that keeps nothing of what it answers: what keeping costs is the difference."""

import os
import sys

os.environ["OMP_NUM_THREADS"] = "1"

from ponte.notebook.surroundings import runtime_of
from ponte.runtime import models_root
from ponte.schema import roles
from ponte.serving.app import make_service, run

place = runtime_of("", roles.API)
service = make_service(place.db, place.store, models_root())
service.keep = lambda _: None  # type: ignore[method-assign]
run(service, host="127.0.0.1", port=int(sys.argv[1]))
