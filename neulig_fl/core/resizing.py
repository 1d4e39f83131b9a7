"""How an image becomes a model's square input: said by a model, done by whoever has images."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Resize:
    """How an image becomes a model's square input, in OpenCLIP's words.

    Args:
        size: height and width of the result.
        mode: `shortest` scales the short side and cuts the middle, as CLIP does; `longest` scales
            the long side and fills up with black; `squash` scales both sides.
        interpolation: `bicubic` or `bilinear`, between pixels.
    """

    size: int
    mode: str = "shortest"
    interpolation: str = "bicubic"


def resize(to: int | Resize) -> Resize:
    """A size alone means CLIP's own way."""
    return to if isinstance(to, Resize) else Resize(to)
