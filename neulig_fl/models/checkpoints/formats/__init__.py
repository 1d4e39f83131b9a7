"""Formats of weight files: one file each, with `recognises(path, start)` and `read(path)`."""
