"""The command lines: options and a call; the work is in the library."""
