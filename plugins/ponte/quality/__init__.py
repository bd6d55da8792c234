"""How good is it: figures, their uncertainty, and what they are held against."""
