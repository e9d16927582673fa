"""Keeps the record small: what is too old, too many or too large is forgotten (prune.py)."""
