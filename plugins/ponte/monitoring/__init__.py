"""Is a version still right? Drift, labels as they come, realised quality, alarms."""
