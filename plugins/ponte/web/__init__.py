"""Pages inside Airflow's web server, behind its login."""
