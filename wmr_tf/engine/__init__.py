"""The classifier as attack and update run it."""
