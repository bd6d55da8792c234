"""Judge a frozen table, whatever it was frozen for: what stops it, which rows are set aside."""
