"""Airflow operators over the library, one per stage. The only place that imports airflow."""
