"""Every model at a glance, and what needs a person, the most urgent first."""
