"""What the files beside a checkpoint say of it: OpenCLIP's config, Hugging Face's image processor.

A folder's files speak of its weights. Those beside a file speak of it only where it has one of the
usual names or is alone: a folder of downloads holds configs of other models too.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from neulig_fl.checkpoints.places import ENDINGS, IN_FOLDER, json_of

OPEN_CLIP = "open_clip_config.json"
PROCESSOR = "preprocessor_config.json"

_RESAMPLE = {2: "bilinear", 3: "bicubic"}
"""Pillow's numbers, which Hugging Face writes."""

Preprocessing = Mapping[str, Any]
"""OpenCLIP's `mean`, `std`, `interpolation`, `resize_mode`, as far as a file says them."""

KEYS = ("mean", "std", "interpolation", "resize_mode")


def preprocessing(path: Path) -> tuple[str, Preprocessing] | None:
    """How images are prepared for a checkpoint, and which file beside it says so.

    Args:
        path: the checkpoint's file or folder, as the user gave it.

    Returns:
        The file's name and what it says; None where no file says anything.

    Raises:
        CheckpointError: the file is not JSON.
    """
    for folder in _folders(path):
        said = _read(folder / OPEN_CLIP).get("preprocess_cfg")
        known = said if isinstance(said, dict) else {}
        own = {k: known[k] for k in KEYS if known.get(k) is not None}
        if own:
            return OPEN_CLIP, own
        found = _of_processor(_read(folder / PROCESSOR))
        if found:
            return PROCESSOR, found
    return None


def activation(path: Path) -> str | None:
    """`quick_gelu` or `gelu`, as OpenCLIP's config says it; None for a tower of timm's."""
    for folder in _folders(path):
        model = _read(folder / OPEN_CLIP).get("model_cfg")
        if isinstance(model, dict):
            vision = model.get("vision_cfg")
            timm = isinstance(vision, dict) and vision.get("timm_model_name")
            return None if timm else "quick_gelu" if model.get("quick_gelu") else "gelu"
    return None


def _folders(path: Path) -> list[Path]:
    """Where files about a checkpoint lie: beside it, and beside what a link leads to."""
    if path.is_dir():
        return [path]
    places = dict.fromkeys((path, path.resolve()))
    return [each.parent for each in places if _is_meant(each)]


def _is_meant(file: Path) -> bool:
    if file.name in IN_FOLDER:
        return True
    try:
        return [f.name for f in file.parent.iterdir() if f.suffix in ENDINGS] == [file.name]
    except OSError:
        return False


def _read(path: Path) -> Mapping[str, Any]:
    return json_of(path) if path.is_file() else {}


def _of_processor(said: Mapping[str, Any]) -> Preprocessing:
    """Hugging Face's words for the same: an image processor of CLIP's or SigLIP's.

    Its mean and deviation are in units of pixel * rescale_factor; ours are of pixel / 255.
    """
    rescaled = said.get("do_rescale", True)
    unit = 1.0 / (255.0 * said.get("rescale_factor", 1.0 / 255.0)) if rescaled else 1.0 / 255.0
    found: dict[str, Any] = {}
    if said.get("do_normalize", True):
        given = {k: said[f"image_{k}"] for k in ("mean", "std") if f"image_{k}" in said}
        found = {k: [round(unit * v, 9) for v in values] for k, values in given.items()}
    else:
        found = {"mean": [0.0, 0.0, 0.0], "std": [round(unit, 9)] * 3}
    resample = said.get("resample")
    if isinstance(resample, int) and resample in _RESAMPLE:
        found["interpolation"] = _RESAMPLE[resample]
    size = said.get("size")
    if isinstance(size, int) or (isinstance(size, dict) and "shortest_edge" in size):
        found["resize_mode"] = "shortest"
    elif isinstance(size, dict) and {"height", "width"} <= set(size):
        found["resize_mode"] = "shortest" if said.get("do_center_crop") else "squash"
    return found
