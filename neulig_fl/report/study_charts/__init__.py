"""Figures of a study, over its seeds: one file each, as in `charts/`."""
