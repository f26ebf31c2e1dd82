"""The index: blobs become sorted rows, and rows answer what a blob is."""
