"""The web form of a model, from its signature and card: pure functions, no HTTP."""
