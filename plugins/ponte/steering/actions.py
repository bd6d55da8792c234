"""The decisions that there are: their DAG, their fields, the help for each."""
