"""Protections: one file each, with `protect` (client side) and `open_sealed` (receiver side)."""
