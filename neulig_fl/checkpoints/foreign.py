"""What a file is that is no checkpoint: a pointer, a page, a text, weights of another framework."""

from __future__ import annotations

from pathlib import Path

HEAD = 4096
"""Bytes at a file's start by which it is told what it is."""

ALLOWED = (
    "allowed: safetensors, a PyTorch file (.pt, .pth, .bin, .ckpt) with a state dict or a whole "
    "model, a Hugging Face CLIP folder"
)

_BEGINNINGS = (
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
    if start[257:262] == b"ustar":
        return "is a tar archive", "unpack it first; save what an old PyTorch wrote again"
    if start.lstrip()[:200].lower().startswith((b"<!doctype html", b"<html", b"<?xml")):
        return "is a web page, not the weights", "download the file itself, by its raw link"
    if _is_text(start):
        return "is a text file", ALLOWED
    return "is no checkpoint that is known", ALLOWED


def _is_text(start: bytes) -> bool:
    if _ODD.intersection(start):
        return False
    try:
        start.decode("utf-8")
    except UnicodeDecodeError as error:
        return error.start > len(start) - 4  # a character cut in two at the end
    return True
