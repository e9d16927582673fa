"""The command's output: captured, relayed, and kept in segments."""
