"""Schema blobs: JSON text, files and directories, claims, signatures, shares."""
