"""One model: its windows, quality, drift, versions, feedback, cost and retention."""
