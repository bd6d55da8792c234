"""The whole stack on one machine: an embedded PostgreSQL and the four components of Airflow, as ordinary processes.

Used by `make up`, `make down` and `make status` (`python -m ponte.local --help`).
Everything it writes lies below one folder (`.ponte`), so removing that folder removes the installation.
"""
