"""The server's configuration: files, their high and low level, and the first start.

`load.load` reads a file; `record.LowConfig` is what the rest of the server sees.
"""
