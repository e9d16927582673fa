"""What is remembered: the run-log."""
