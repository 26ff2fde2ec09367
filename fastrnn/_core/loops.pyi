"""Nothing here is for Python: see `scan`."""
