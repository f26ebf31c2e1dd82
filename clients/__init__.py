"""The Python client: back up, restore and look, as a library."""
