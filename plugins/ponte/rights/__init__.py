"""What a person may do in Airflow, per model: runs started in the name of the person, and runs refused."""
