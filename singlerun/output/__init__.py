"""The command's output: captured by the wrapper, relayed by a process, kept in segments."""
