"""Say everything that is wrong with the model folders: `make check-models`, and `--help` for any other database."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from ponte.errors import PonteError
from ponte.model.folders import BrokenFolder, find_folders
from ponte.model.inspection import inspect_folder
from ponte.runtime import models_root
from ponte.storage.database import Database


def main(arguments: Sequence[str] | None = None) -> int:
    """Inspect model folders, print what is wrong with each, return the number of broken ones."""
    parser = argparse.ArgumentParser(
        prog="python -m ponte.local.check_models",
        description="Hold model folders against the database and scikit-learn; print every breach of the contract.",
    )
    parser.add_argument("models", nargs="*", help="model names; all when none is given")
    parser.add_argument("--database", required=True, help="PostgreSQL URL of the database the SELECTs run on")
    chosen = parser.parse_args(arguments)
    folders = [f for f in find_folders(models_root()) if not chosen.models or f.name in chosen.models]
    unknown = set(chosen.models) - {f.name for f in folders}
    for name in sorted(unknown):
        print(f"{name}: no such folder in {models_root()}")
    broken = len(unknown)
    for folder in folders:
        try:
            if isinstance(folder, BrokenFolder):
                raise folder.error
            found = inspect_folder(Database(chosen.database), folder)
        except PonteError as error:
            broken += 1
            print(error)
        else:
            print(f"{folder.name}: ok, {len(found.features)} features, label {found.label}")
    return broken


if __name__ == "__main__":
    sys.exit(1 if main() else 0)
