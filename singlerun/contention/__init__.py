"""What a run does when it may not start at once: wait, refuse, skip, replace, or honour a limit."""
