"""The files of the bundled micro models."""

from __future__ import annotations

from pathlib import Path

FOLDER = Path(__file__).parent / "micro"
"""`NAME.json`: OpenCLIP's configuration; `NAME.safetensors`: the bundled weights; `entries.json`:
name and shape of every floating entry of the image encoders, in the order of their state dicts."""
