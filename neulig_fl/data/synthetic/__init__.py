"""Procedural 32x32 RGB images, each from a generator of its own.

What is drawn and how much it is disturbed are apart: a module here draws one kind of thing, and a
`Style` says how far it is turned, moved, lit, blurred and cluttered. The tasks draw in styles of
their own; the bundled models are pre-trained on plainer ones, so that the checkpoint knows
something of every task without having seen one of its images.
"""

from __future__ import annotations

from neulig_fl.data.synthetic.canvas import SIZE, Pixels, Style

__all__ = ["SIZE", "Pixels", "Style"]
