"""Mutants of a module's source, and whether its tests notice them."""
