"""Namings of CLIP's parts: one file each, with `recognises(entries)` and `rename(...)`.

OpenCLIP's own names are the ones that others are brought to, so they have no file.
"""
