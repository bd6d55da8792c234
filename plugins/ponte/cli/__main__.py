"""What `./ponte` runs."""

from __future__ import annotations

from ponte.cli.app import main

main()
