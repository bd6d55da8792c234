"""The contract with an author: one module per part of the model folder."""
