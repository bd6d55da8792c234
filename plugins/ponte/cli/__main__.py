"""What `./ponte` runs."""

from __future__ import annotations

from ponte.cli.app import app

app(prog_name="ponte")
