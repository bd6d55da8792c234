"""Alarms: what is worse than it used to be, told once, answered by people."""
