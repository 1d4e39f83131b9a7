"""What the files beside a checkpoint say of it: OpenCLIP's config, Hugging Face's image processor.

A folder's files speak of its weights. Those beside a file surely speak of it only where it has one
of the usual names or is alone: a folder of downloads holds configs of other models too.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from neulig_fl.core.errors import CheckpointError, plain
from neulig_fl.models.checkpoints.places import ENDINGS, IN_FOLDER, json_of

OPEN_CLIP = "open_clip_config.json"
PROCESSOR = "preprocessor_config.json"

PROCESSORS = "processor_config.json"

_RESAMPLE = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic", 4: "box", 5: "hamming"}
"""Pillow's numbers, which Hugging Face writes."""

Preprocessing = Mapping[str, Any]
"""OpenCLIP's `mean`, `std`, `interpolation`, `resize_mode`, as far as a file says them."""

KEYS = ("mean", "std", "interpolation", "resize_mode")


@dataclass(frozen=True)
class Said:
    """What one file says of how images are prepared.

    Args:
        source: the file, in words.
        values: by `KEYS`, not yet checked; those that it is silent about are left out.
        meant: whether the file is about the checkpoint, and not about other weights beside it.
    """

    source: str
    values: Preprocessing
    meant: bool


def preprocessing(path: Path) -> list[Said]:
    """How images are prepared for a checkpoint, by each of the files beside it that says it.

    Args:
        path: the checkpoint's file or folder, as the user gave it.

    Raises:
        CheckpointError: a file is not JSON.
    """
    found = []
    for folder, meant in _folders(path):
        where = "" if folder == (path if path.is_dir() else path.parent) else f" in {plain(folder)}"
        whose = "" if meant else ", which may be of other weights in its folder"
        for name, values in _each(folder, meant):
            known = {k: values[k] for k in KEYS if values.get(k) is not None}
            if known:
                found.append(Said(f"{name}{where}{whose}", known, meant))
    return found


def _each(folder: Path, required: bool) -> Iterator[tuple[str, Preprocessing]]:
    """Each config in a folder, in OpenCLIP's words."""
    own = _read(folder / OPEN_CLIP, required).get("preprocess_cfg")
    yield OPEN_CLIP, own if isinstance(own, dict) else {}
    yield PROCESSOR, _of_processor(_read(folder / PROCESSOR, required))
    inner = _read(folder / PROCESSORS, required).get("image_processor")
    yield PROCESSORS, _of_processor(inner if isinstance(inner, dict) else {})


def activation(path: Path) -> str | None:
    """`quick_gelu` or `gelu`, as OpenCLIP's config says it; None for a tower of timm's."""
    for folder, meant in _folders(path):
        model = _read(folder / OPEN_CLIP, meant).get("model_cfg") if meant else None
        if isinstance(model, dict):
            vision = model.get("vision_cfg")
            timm = isinstance(vision, dict) and vision.get("timm_model_name")
            return None if timm else "quick_gelu" if model.get("quick_gelu") else "gelu"
    return None


def contradicts(path: Path, known: str) -> bool:
    """Whether OpenCLIP's config names another activation than the weights or config.json do.

    A config without the key says nothing here: it need not be of the same release.
    """
    for folder, meant in _folders(path):
        model = _read(folder / OPEN_CLIP, meant).get("model_cfg") if meant else None
        if isinstance(model, dict) and isinstance(model.get("quick_gelu"), bool):
            return ("quick_gelu" if model["quick_gelu"] else "gelu") != known
    return False


def _folders(path: Path) -> list[tuple[Path, bool]]:
    """Where files about a checkpoint can lie, and whether they are about it.

    They lie beside it, and beside what a link leads to.
    """
    if path.is_dir():
        return [(path, True)]
    return [(each.parent, _is_meant(each)) for each in dict.fromkeys((path, path.resolve()))]


def _is_meant(file: Path) -> bool:
    if file.name in IN_FOLDER:
        return True
    try:
        return [f.name for f in file.parent.iterdir() if f.suffix in ENDINGS] == [file.name]
    except OSError:
        return False


def _read(path: Path, required: bool) -> Mapping[str, Any]:
    """A file's mapping; of one that may be of other weights, nothing where it is no JSON."""
    try:
        return json_of(path) if path.is_file() else {}
    except CheckpointError:
        if required:
            raise
        return {}


def _of_processor(said: Mapping[str, Any]) -> Preprocessing:
    """Hugging Face's words for the same: an image processor of CLIP's or SigLIP's.

    Its mean and deviation are in units of pixel * rescale_factor; ours are of pixel / 255. What has
    no word of ours is handed on as it is, for the reader to refuse.
    """
    if not said:
        return {}
    found: dict[str, Any] = _normalisation(said)
    resample, size = said.get("resample"), said.get("size")
    if isinstance(resample, int) and not isinstance(resample, bool):
        found["interpolation"] = _RESAMPLE.get(resample, f"resample {resample}")
    elif resample is not None:
        found["interpolation"] = resample.lower() if isinstance(resample, str) else resample
    edge = size.get("shortest_edge") if isinstance(size, dict) else size
    crop = said.get("crop_size")
    sides = crop.values() if isinstance(crop, dict) else [crop]
    if said.get("do_resize", True) is False or (isinstance(edge, int) and {*sides} - {edge, None}):
        found["resize_mode"] = f"size {size} and crop_size {crop}"  # ours has one size
    elif isinstance(edge, int):
        found["resize_mode"] = "shortest"
    elif isinstance(size, dict) and {"height", "width"} <= set(size):
        found["resize_mode"] = "squash"  # a crop of the same size takes nothing away
    elif size is not None:
        found["resize_mode"] = f"size {size}"
    return found


def _normalisation(said: Mapping[str, Any]) -> dict[str, Any]:
    """Mean and deviation of pixel / 255."""
    known = {key: value for key, value in said.items() if value is not None}
    factor = known.get("rescale_factor", 1.0 / 255.0) if known.get("do_rescale", True) else 1.0
    if isinstance(factor, bool) or not isinstance(factor, int | float) or factor <= 0:
        return {"std": f"rescale_factor {factor!r}"}
    unit = 1.0 / (255.0 * factor)
    if not known.get("do_normalize", True):
        return {"mean": [0.0, 0.0, 0.0], "std": [round(unit, 9)] * 3}
    given = {k: said[f"image_{k}"] for k in ("mean", "std") if f"image_{k}" in said}
    return {k: _times(unit, values) for k, values in given.items()}


def _times(unit: float, values: Any) -> Any:
    """Numbers in another unit; what is no list of numbers stays as it is."""
    numbers = isinstance(values, list) and all(isinstance(v, int | float) for v in values)
    return [round(unit * v, 9) for v in values] if numbers else values
