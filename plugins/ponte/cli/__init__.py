"""The one door for people and scripts: `./ponte`, one module per group of commands."""
