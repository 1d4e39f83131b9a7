"""What a model answers: features of images, and logits by a head of class names."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from neulig_fl.models.families import Family, device


def classify(features: Tensor, head: Tensor) -> Tensor:
    """Logits: the head applied to features of unit length.

    Args:
        features: (queries, dim).
        head: (classes, dim), the logit scale included.

    Returns:
        (queries, classes).
    """
    return nn.functional.normalize(features, dim=-1) @ head.T


@torch.inference_mode()
def encode(encoder: nn.Module, images: np.ndarray, family: Family, batch_size: int = 256) -> Tensor:
    """Features of images, float32 of shape (images, dim), on the CPU; eval mode."""
    where = device()
    encoder.to(where).eval()
    parts = [
        encoder(family.normalise(images[i : i + batch_size]).to(where)).float().cpu()
        for i in range(0, len(images), batch_size)
    ]
    return torch.cat(parts) if parts else torch.zeros(0, family.dim)
