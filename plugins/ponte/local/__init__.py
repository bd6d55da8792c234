"""The whole stack on one machine: an embedded PostgreSQL and the four components of Airflow, as ordinary processes.

Used by `./ponte up`, `./ponte down`, `./ponte status` and the others.
Everything it writes lies below one folder (`.ponte`), so removing that folder removes the installation.
"""
