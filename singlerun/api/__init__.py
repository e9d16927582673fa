"""The Python interface: hold a name around a block, run a command."""
