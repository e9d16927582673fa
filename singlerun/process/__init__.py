"""Processes: found, started, identified, signalled, awaited; and what /proc says about them."""
