"""Prefix any command with ``singlerun``, and only one instance of it runs at a time."""

__version__ = "0.1.0"
