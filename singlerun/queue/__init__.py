"""Queues of jobs: add to one, work it off, and wake its worker."""
