"""What every child needs, imported once by the server that forks them."""

import adbc_driver_postgresql.dbapi
import alembic.command
import great_expectations
import joblib
import pandas as pd
import psycopg2
import pyarrow.parquet
import scipy
import sklearn.compose
import sklearn.impute
import sklearn.linear_model
import sklearn.pipeline
import sklearn.preprocessing
import tests.sample_model  # noqa: F401
import upath

__all__ = [
    "adbc_driver_postgresql",
    "alembic",
    "great_expectations",
    "joblib",
    "pd",
    "psycopg2",
    "pyarrow",
    "scipy",
    "sklearn",
    "upath",
]
