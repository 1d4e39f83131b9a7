"""What a file is that is no checkpoint: a pointer, a page, a text, weights of another framework."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from neulig_fl.core.errors import plain

HEAD = 4096
"""Bytes at a file's start by which it is told what it is."""

ALLOWED = (
    "allowed: safetensors, a PyTorch file (.pt, .pth, .bin, .ckpt) with a state dict or a whole "
    "model, a Hugging Face CLIP folder"
)

_NUMPY = (
    "write them under the model's names: `safetensors.numpy.save_file(dict(numpy.load(FILE)), "
    "'own.safetensors')`; allowed: safetensors, a PyTorch file with a state dict"
)
_IMAGE = ("is an image, not the weights", "give the file of the weights")
_BEGINNINGS = (
    (
        b"\x93NUMPY",
        "is a NumPy file of one array (.npy), which has no names",
        "save the whole state dict, as safetensors or by `torch.save(model.state_dict(), FILE)`",
    ),
    (b"PK\x05\x06", "is an empty zip archive", "copy or download it again"),
    (b"BZh", "is compressed (bzip2)", "unpack it first"),
    (b"7z\xbc\xaf\x27\x1c", "is compressed (7z)", "unpack it first"),
    (b"Rar!\x1a\x07", "is compressed (rar)", "unpack it first"),
    (b"PAR1", "is a Parquet file, a table of data", "give the file of the weights"),
    (b"%PDF", "is a PDF, not the weights", "give the file of the weights"),
    (b"\x89PNG", *_IMAGE),
    (b"\xff\xd8\xff", *_IMAGE),
    (b"\x89HDF\r\n", "is a HDF5 file (TensorFlow weights)", "ask for the PyTorch weights"),
    (b"GGUF", "is a GGUF file (quantised weights)", "ask for the float weights it was made from"),
    (b"\x1f\x8b", "is compressed (gzip)", "unpack it first"),
    (b"\xfd7zXZ", "is compressed (xz)", "unpack it first"),
    (b"\x28\xb5\x2f\xfd", "is compressed (zstd)", "unpack it first"),
)
_ODD = frozenset(range(32)) - set(b"\t\n\r\f\x1b")


def head(path: Path) -> bytes:
    """The first bytes of a file."""
    with path.open("rb") as file:
        return file.read(HEAD)


def named(start: bytes) -> tuple[str, str]:
    r"""Say what a file is that no format recognises, and what to do.

    Args:
        start: its first bytes.

    Example:
        >>> named(b"version https://git-lfs.github.com/spec/v1\n")[1].split(",")[0]
        'fetch it with `git lfs pull`'
    """
    if not start:
        return "is empty", "copy or download it again"
    if start.startswith(b"version https://git-lfs"):
        return (
            "is a git-lfs pointer, not the weights",
            "fetch it with `git lfs pull`, or download the file itself",
        )
    for beginning, what, advice in _BEGINNINGS:
        if start.startswith(beginning):
            return what, advice
    if start[4:8] == b"TFL3":
        return "is a TensorFlow Lite model", "ask for the PyTorch weights"
    if start.startswith(b"\x08") and (b"pytorch" in start[:64] or b"onnx" in start[:64]):
        return "is an ONNX model", "ask for the PyTorch weights that it was exported from"
    if start[257:262] == b"ustar":
        return "is a tar archive", "unpack it first; save what an old PyTorch wrote again"
    if start.lstrip()[:200].lower().startswith((b"<!doctype html", b"<html", b"<?xml")):
        return "is a web page, not the weights", "download the file itself, by its raw link"
    if _is_text(start):
        return "is a text file", ALLOWED
    return "is no checkpoint that is known", ALLOWED


def zipped(names: Sequence[str]) -> tuple[str, str]:
    """Say what a zip archive is that torch.save did not write, and what to do.

    Args:
        names: of what it holds.

    Example:
        >>> zipped(["visual.proj.npy"])[0]
        'is a NumPy archive (.npz) of visual.proj'
    """
    shown = [plain(name, 60) for name in names[:3]]
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    if names and all(name.endswith(".npy") for name in names):
        arrays = ", ".join(name.removesuffix(".npy") for name in shown)
        return f"is a NumPy archive (.npz) of {arrays}{more}", _NUMPY
    ends = {name.rpartition("/")[2] for name in names}
    if {"config.json", "model.weights.h5"} <= ends:
        return "is a Keras model", "ask for the PyTorch weights"
    if {"archive_format", "model.json"} <= ends:
        return (
            "is a program of torch.export, without a state dict that can be read alone",
            "save the model that it was made from: `torch.save(model.state_dict(), FILE)`",
        )
    if any(name.endswith((".pt", ".pth", ".bin", ".ckpt", ".safetensors")) for name in names):
        return f"is a zip archive ({', '.join(shown)}{more})", "unpack it, and give what is in it"
    return f"is a zip archive ({', '.join(shown)}{more}), not one of torch.save's", ALLOWED


def _is_text(start: bytes) -> bool:
    if _ODD.intersection(start):
        return False
    try:
        start.decode("utf-8")
    except UnicodeDecodeError as error:
        return error.start > len(start) - 4  # a character cut in two at the end
    return True
