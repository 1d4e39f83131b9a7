"""Where a checkpoint lies, and what a file is that is none."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import io
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
import torch
from checkpoint_files import WRITERS, clip, hugging_face_folder
from safetensors.torch import save_file

from neulig_fl.core.errors import CheckpointError
from neulig_fl.models import checkpoints


def _tar() -> bytes:
    held = io.BytesIO()
    with tarfile.open(fileobj=held, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("storages"))
    return held.getvalue()


def _zip(*names: str) -> bytes:
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w") as archive:
        for name in names:
            archive.writestr(name, b"x")
    return held.getvalue()


def _numpy(save: Callable[..., None], *arrays: Any, **named: Any) -> bytes:
    held = io.BytesIO()
    save(held, *arrays, **named)
    return held.getvalue()


def _exported() -> bytes:
    held = io.BytesIO()
    model = torch.nn.Linear(2, 2)
    torch.export.save(torch.export.export(model, (torch.ones(1, 2),)), held)
    return held.getvalue()


POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 605157884\n"
PAGE = b"\n<!DOCTYPE html>\n<html><title>Sign in</title></html>"
NONE = {
    "empty": (b"", "it is empty; copy or download it again"),
    "a pointer": (POINTER, "is a git-lfs pointer, not the weights; fetch it with `git lfs pull`"),
    "a page": (PAGE, "is a web page, not the weights; download the file itself"),
    "a text": ("Gewichte für später\n".encode(), "is a text file; allowed: safetensors, a PyTorch"),
    "a cut text": (b"a" * 4095 + "ü".encode(), "is a text file"),
    "zeros": (bytes(64), "is no checkpoint that is known; allowed: safetensors"),
    "TensorFlow": (b"\x89HDF\r\n\x1a\n" + bytes(9), "HDF5 file .TensorFlow weights.; ask for the"),
    "GGUF": (b"GGUF\x03\x00\x00\x00", "is a GGUF file .quantised weights."),
    "gzip": (gzip.compress(b"weights"), "is compressed .gzip.; unpack it first"),
    "tar": (_tar(), "is a tar archive; unpack it first"),
    "a NumPy array": (_numpy(np.save, np.ones(2)), r"NumPy file of one array \(.npy\).*torch.save"),
    "NumPy arrays": (_numpy(np.savez, a=np.ones(2)), r"NumPy archive \(.npz\) of a; write them"),
    "arrays without a name": (
        _numpy(np.savez_compressed, *[np.ones(2)] * 5),
        r"NumPy archive \(.npz\) of arr_0, arr_1, arr_2 and 2 more; write",
    ),
    "an empty zip": (_zip(), "is an empty zip archive; copy or download"),
    "weights in a zip": (_zip("a/own.pt", "a/x"), r"zip archive \(a/own.pt, a/x\); unpack it, and"),
    "another zip": (
        _zip("x\x1b[2J.md"),
        r"zip archive \(x\\x1b\[2J.md\), not one of torch.save's; all",
    ),
    "two of torch's": (_zip("a/data.pkl", "b/data.pkl"), "a zip with a/data.pkl, where torch.save"),
    "Keras": (_zip("config.json", "model.weights.h5"), "is a Keras model; ask for the PyTorch"),
    "an image": (b"\x89PNG\r\n\x1a\n" + bytes(20), "is an image, not the weights; give the file"),
    "ONNX": (b"\x08\x07\x12\x07pytorch\x1a\x05", "is an ONNX model; ask for the PyTorch weights"),
    "bzip2": (bz2.compress(b"weights"), r"is compressed \(bzip2\); unpack it first"),
}


@pytest.mark.parametrize("ending", ["pt", "safetensors"])
@pytest.mark.parametrize("what", NONE)
def test_what_is_no_checkpoint_is_named(what: str, ending: str, tmp_path: Path) -> None:
    """Without it a pointer, a page or a torn download would be an error about pickles."""
    content, message = NONE[what]
    path = tmp_path / f"own.{ending}"
    path.write_bytes(content)
    with pytest.raises(
        CheckpointError, match=rf"checkpoint .*own\..*cannot be read.*{message}"
    ) as c:
        checkpoints.read(path)
    assert c.value.public_reason == "its checkpoint file cannot be read"
    assert str(c.value).isprintable()


def test_a_program_of_torch_export_is_named(tmp_path: Path) -> None:
    """Without it such a file would be called damaged, and be downloaded again."""
    (tmp_path / "own.pt2").write_bytes(_exported())
    with pytest.raises(CheckpointError, match=r"program of torch.export.*model.state_dict\(\)"):
        checkpoints.read(tmp_path / "own.pt2")


def test_numpys_arrays_can_be_read_after_what_the_error_says(tmp_path: Path) -> None:
    """Without it the next step that an error names would be another error."""
    np.savez(tmp_path / "own.npz", **{k: v.numpy() for k, v in clip().visual.state_dict().items()})
    with pytest.raises(CheckpointError, match="NumPy archive") as caught:
        checkpoints.read(tmp_path / "own.npz")
    command = str(caught.value).split("`")[1]
    place = {"FILE": str(tmp_path / "own.npz"), "'own.": f"'{tmp_path}/own."}
    for word, real in place.items():
        command = command.replace(word, repr(real) if word == "FILE" else real)
    eval(command, {"safetensors": safetensors, "numpy": np})
    found = checkpoints.read(tmp_path / "own.safetensors").entries
    assert {k: e.shape for k, e in found.items()} == {
        k: tuple(v.shape) for k, v in clip().visual.state_dict().items()
    }


def _truncations() -> list[tuple[str, float]]:
    return [(name, part) for name in ("safetensors", *WRITERS) for part in (0.3, 0.9, 0.999)]


@pytest.mark.parametrize(("name", "part"), _truncations())
def test_a_truncated_file_says_so(name: str, part: float, tmp_path: Path) -> None:
    """Without it a torn download would end in a traceback, or give an expert of zeros."""
    path, state = tmp_path / "own.pt", clip().visual.state_dict()
    if name == "safetensors":
        save_file(state, path)
    else:
        WRITERS[name](state, path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(part * len(whole))])
    with pytest.raises(CheckpointError, match=r"own\.pt: cannot be read: it is truncated or damag"):
        checkpoints.read(path)


def test_a_missing_checkpoint_is_named(tmp_path: Path) -> None:
    """Without it the error would not say which file."""
    for call in (checkpoints.read, checkpoints.sha256):
        with pytest.raises(CheckpointError, match=r"checkpoint .*none\.pt: no such file") as caught:
            call(tmp_path / "none.pt")
        assert caught.value.public_reason == "its checkpoint file is missing"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([torch.zeros(1)], "holds list, not names and tensors; save model.state_dict"),
        ({"epoch": 3, "w": torch.zeros(1)}, r"holds a dict \(epoch, w\), not names and tensors"),
        (torch.zeros(2), "holds one tensor"),
        ({}, "holds an empty dict"),
        (torch.nn.ReLU(), r"holds an object torch\.nn\.modules\.activation\.ReLU"),
    ],
    ids=["a list", "numbers in it", "a tensor", "nothing", "a model without weights"],
)
def test_what_is_no_state_dict_says_what_it_is(
    content: object, message: str, tmp_path: Path
) -> None:
    """Without it the user would get an error about an attribute."""
    torch.save(content, tmp_path / "odd.pt")
    with pytest.raises(CheckpointError, match=message) as caught:
        checkpoints.read(tmp_path / "odd.pt")
    assert caught.value.public_reason == "its checkpoint file is not a state dict"


# ---------------------------------------------------------------- folders


def _make(names: dict[str, bytes]) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        for name, content in names.items():
            (folder / name).write_bytes(content)

    return make


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (_make({}), "a folder without weights .it is empty.; it should hold model.safetensors or"),
        (_make({"notes.txt": b""}), "a folder without weights .notes.txt."),
        (_make({"a.pt": b"", "b.pt": b""}), "several checkpoints .a.pt, b.pt.; give one of them"),
        (_make({"tf_model.h5": b""}), "TensorFlow or Flax weights; ask for the PyTorch weights"),
        (_make({"model.safetensors": POINTER}), r"model\.safetensors.*`git lfs pull`"),
        (_make({"a.pt": b"", "config.json": POINTER}), "config.json: is not JSON: it is a git-lfs"),
        (_make({"model.safetensors.index.json": b"{}"}), "an index that names no files"),
    ],
    ids=["empty", "notes", "several", "TensorFlow", "a pointer", "config", "index"],
)
def test_a_folder_without_weights_of_ours_says_why(
    make: Callable[[Path], None], message: str, tmp_path: Path
) -> None:
    """Without it a folder would be an error of the operating system."""
    make(tmp_path)
    with pytest.raises(CheckpointError, match=message):
        checkpoints.read(tmp_path)


def test_a_folder_with_one_checkpoint_means_that(tmp_path: Path) -> None:
    """Without it a folder as a training program leaves it would have to be looked into."""
    torch.save({"a": torch.ones(2)}, tmp_path / "epoch-3.pt")
    (tmp_path / "notes.txt").write_text("the best so far")
    assert list(checkpoints.read(tmp_path).entries) == ["a"]


def test_openclips_weights_are_preferred_to_those_beside_them(tmp_path: Path) -> None:
    """Without it a folder as timm and OpenCLIP publish it would be read as another model's."""
    folder = hugging_face_folder(tmp_path / "a", clip())
    save_file(clip().state_dict(), folder / "open_clip_model.safetensors")
    assert "visual.class_embedding" in checkpoints.read(folder).entries
    (folder / "open_clip_model.safetensors").unlink()
    assert "class_embedding" in " ".join(checkpoints.read(folder).entries)


def test_a_configuration_of_something_else_does_not_matter(tmp_path: Path) -> None:
    """Without it an expert could not lie beside a file that happens to be called config.json."""
    torch.save(clip().visual.state_dict(), tmp_path / "a.pt")
    for said in ("not JSON", "[]", '{"model_type": "bert"}'):
        (tmp_path / "config.json").write_text(said)
        assert checkpoints.read(tmp_path / "a.pt").activation is None


def test_the_digest_is_of_the_weights(tmp_path: Path) -> None:
    """Without it a changed expert would be taken for the old one, or the same for another."""
    folder = hugging_face_folder(tmp_path / "a", clip())
    file = folder / "model.safetensors"
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    assert checkpoints.sha256(file) == checkpoints.sha256(folder) == digest
    other = hugging_face_folder(tmp_path / "b", clip(3))
    assert checkpoints.sha256(other) != digest


def test_a_file_that_nobody_may_read_says_so(tmp_path: Path) -> None:
    """Without it a wrong permission would be an unexpected error."""
    path = tmp_path / "own.pt"
    path.write_bytes(b"x")
    path.chmod(0)
    try:
        path.open("rb").close()
    except PermissionError:
        with pytest.raises(CheckpointError, match=r"cannot be read \(Permission denied\)"):
            checkpoints.read(path)
    finally:
        path.chmod(0o600)
