"""Pickles are taken apart and never run: what weights do not need is refused by name."""

from __future__ import annotations

import io
import os
import pickle
import random
import struct
import subprocess
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from checkpoint_files import WRITERS, Attack, image_encoder, touch, would_run

from neulig_fl.core.errors import CheckpointError
from neulig_fl.models import checkpoints
from neulig_fl.models.checkpoints import pickles

CALLS: dict[str, tuple[Callable[[Path], Any], str]] = {
    "os.system": (lambda w: Attack(os.system, touch(w)), "posix.system"),
    "eval": (lambda w: Attack(eval, f"open({str(w)!r}, 'w').close()"), "builtins.eval"),
    "exec": (lambda w: Attack(exec, f"open({str(w)!r}, 'w').close()"), "builtins.exec"),
    "open": (lambda w: Attack(open, str(w), "w"), "io.open"),
    "subprocess": (lambda w: Attack(subprocess.call, touch(w).split()), "subprocess.call"),
    "a method": (lambda w: Attack(w.touch), "builtins.getattr"),
    "getattr": (
        lambda w: Attack(Attack(getattr, Attack(__import__, "os"), "system"), touch(w)),
        "builtins.getattr",
    ),
    "a partial": (
        lambda w: Attack(map, Attack(os.system, touch(w)), ()),
        "builtins.map",
    ),
    "torch.hub": (lambda w: Attack(torch.hub.load, str(w), "x"), "torch.hub.load"),
    "torch.load": (lambda w: Attack(torch.load, str(w)), "torch.serialization.load"),
}
RUN_HERE = ("os.system", "eval", "exec", "subprocess", "a method")
"""Those that Python's unpickler is let run, to see that the attack is one."""


@pytest.mark.parametrize("write", WRITERS.values(), ids=WRITERS)
@pytest.mark.parametrize("how", CALLS)
def test_a_pickle_that_would_run_code_is_refused_by_name(
    how: str, write: Callable[[Any, Path], None], tmp_path: Path
) -> None:
    """Without it a stranger's checkpoint could take over the machine, or the error invite it to."""
    make, name = CALLS[how]
    witness, path = tmp_path / "witness", tmp_path / "evil.pt"
    write(OrderedDict(w=torch.zeros(1), x=make(witness)), path)
    with pytest.raises(CheckpointError, match=f"asks for {name}, which weights do not") as caught:
        checkpoints.read(path)
    assert caught.value.public_reason == "its checkpoint file asks to run code"
    assert "nothing of it was run" in str(caught.value)
    assert str(caught.value).isprintable()
    assert not witness.exists()


@pytest.mark.parametrize("how", RUN_HERE)
def test_the_attacks_are_attacks(how: str, tmp_path: Path) -> None:
    """Without it the test above would pass on pickles that do nothing."""
    witness = tmp_path / "witness"
    assert would_run(pickle.dumps(CALLS[how][0](witness)), witness)


HAND_MADE: dict[str, tuple[bytes, str]] = {
    "by class, protocol 0": (b"(S'touch WITNESS'\nios\nsystem\n.", r"os\.system"),
    "by object": (b"(cos\nsystem\nS'touch WITNESS'\no.", r"os\.system"),
    "a new object": (b"csubprocess\nPopen\n(S'touch WITNESS'\nt\x81.", r"subprocess\.Popen"),
    "Python 2's name": (b"c__builtin__\neval\n(S'1'\ntR.", r"__builtin__\.eval"),
    "mentioned alone": (b"cos\nsystem\n.", r"os\.system"),
    "dotted": (b"ctorch.nn.modules\nModule.__init__\n.", r"torch\.nn\.modules\.Module\.__init__"),
    "dotted, of another package": (b"csrc.modeling\nM.load\n.", r"src\.modeling\.M\.load"),
    "dotted from the stack": (b"\x8c\x08torch.nn\x8c\x0eModule.forward\x93.", r"torch\.nn\.Mod"),
    "another package, called": (b"cnumpy.f2py\nmain\n(tR.", r"numpy\.f2py\.main"),
    "no module": (b"c\nsystem\n.", r"\.system"),
    "the library itself": (
        b"cneulig_fl.core.files\nwrite_atomically\n.",
        r"neulig_fl\.core\.files",
    ),
    "an extension": (b"\x82\x01.", r"the pickle step EXT1"),
    "through a subclass": (
        b"ctorch._tensor\n_rebuild_from_type_v2\n(cos\nsystem\nNNNtR.",
        r"os\.system",
    ),
    "a called object": (b"(dN(tR.", "called that is no function"),
    "a called list": (b"](tR.", "called that is no function"),
}


@pytest.mark.parametrize("how", HAND_MADE)
def test_no_step_of_a_pickle_leads_to_code(how: str, tmp_path: Path) -> None:
    """Without it what `pickle` itself does not write, but does run, would get by."""
    program, name = HAND_MADE[how]
    witness = tmp_path / "witness"
    path = tmp_path / "evil.pt"
    with zipfile.ZipFile(path, "w") as archive:
        held = b"\x80\x04" + program.replace(b"WITNESS", str(witness).encode())
        archive.writestr("archive/data.pkl", held)
    with pytest.raises(CheckpointError, match=name):
        checkpoints.read(path)
    path.write_bytes(held)
    with pytest.raises(CheckpointError, match=name):
        checkpoints.read(path)
    assert not witness.exists()


def test_a_storage_within_a_pickle_cannot_run_code_either(tmp_path: Path) -> None:
    """Without it the bytes of a storage, which are a pickle of their own, would be a way in."""
    witness, inner = tmp_path / "witness", io.BytesIO()
    attack = Attack(os.system, touch(witness))
    torch.save([attack], inner, _use_new_zipfile_serialization=False)
    outer = Attack(torch.storage._load_from_bytes, inner.getvalue())
    (tmp_path / "evil.pkl").write_bytes(pickle.dumps(outer))
    with pytest.raises(CheckpointError, match=r"asks for posix\.system"):
        checkpoints.read(tmp_path / "evil.pkl")
    assert not witness.exists()


def test_a_name_cannot_write_to_the_terminal(tmp_path: Path) -> None:
    """Without it an error about a file could hide itself, or forge another line."""
    (tmp_path / "evil.pkl").write_bytes(b"\x80\x04cos\n\x1b[2Jall is well\n.")
    with pytest.raises(CheckpointError, match=r"os\.\\x1b\[2Jall is well") as caught:
        checkpoints.read(tmp_path / "evil.pkl")
    assert str(caught.value).isprintable()


# ---------------------------------------------------------------- what contradicts itself


def _archive(path: Path, program: bytes, *storages: bytes, compressed: bool = False) -> Path:
    """A torch file with a pickle of one's own."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02" + program)
        for number, data in enumerate(storages):
            how = zipfile.ZIP_DEFLATED if compressed else zipfile.ZIP_STORED
            archive.writestr(f"archive/data/{number}", data, how)
    return path


def _tensor(key: int, count: int, offset: int, size: str, stride: str) -> bytes:
    """The pickle of a state dict with one tensor, in protocol 0's words."""
    storage = f"(S'storage'\nctorch\nFloatStorage\nS'{key}'\nS'cpu'\nI{count}\nt"
    rest = f"QI{offset}\n({size}t({stride}tI00\n}}tR"
    return f"}}S'w'\nctorch._utils\n_rebuild_tensor_v2\n({storage}{rest}s.".encode()


def test_a_tensor_made_by_hand_is_one(tmp_path: Path) -> None:
    """Without it the tests below would pass because the file is wrong in another way."""
    program = _tensor(0, 4, 1, "I3\n", "I1\n")
    path = _archive(tmp_path / "own.pt", program, struct.pack("<4f", 1, 2, 3, 4))
    assert checkpoints.read(path).entries["w"].read().tolist() == [2, 3, 4]


@pytest.mark.parametrize(
    ("program", "message"),
    [
        (_tensor(0, 4, 2, "I3\n", "I1\n"), r"shape \(3,\) reaches beyond its storage of 4 numbers"),
        (_tensor(0, 4, 0, "I3\n", "I2\n"), "reaches beyond its storage"),
        (_tensor(0, 4, 0, "I1000000000\n", "I0\n"), "reaches beyond its storage"),
        (_tensor(0, 4, -1, "I3\n", "I1\n"), "sizes are no counts"),
        (_tensor(0, 4, 0, "I-3\n", "I1\n"), "sizes are no counts"),
        (_tensor(0, 4, 0, "I3\n", "I-1\n"), "sizes are no counts"),
        (_tensor(0, 4, 0, "I3\nI1\n", "I1\n"), "2 sizes and 1 strides"),
        (_tensor(0, 4, 0, "I1\n" * 65, "I1\n" * 65), "no list of a few counts"),
        (_tensor(0, 5, 0, "I3\n", "I1\n"), "has 16 bytes, too few for 5 numbers"),
        (_tensor(0, -4, 0, "I0\n", "I1\n"), "too few for -4 numbers"),
        (_tensor(7, 4, 0, "I3\n", "I1\n"), "data/7 is not there"),
    ],
    ids=[
        "end",
        "step",
        "expanded",
        "offset",
        "size",
        "back",
        "dims",
        "many",
        "few",
        "less",
        "absent",
    ],
)
def test_a_view_stays_within_its_storage(program: bytes, message: str, tmp_path: Path) -> None:
    """Without it a file could have memory read that is not its own, or ask for all there is."""
    path = _archive(tmp_path / "own.pt", program, struct.pack("<4f", 1, 2, 3, 4))
    with pytest.raises(CheckpointError, match=message) as caught:
        checkpoints.read(path)
    assert caught.value.public_reason == "its checkpoint file cannot be read"


def test_a_compressed_storage_is_no_way_to_fill_the_memory(tmp_path: Path) -> None:
    """Without it a small file could unpack to more than the machine has."""
    program = _tensor(0, 2**20, 0, "I3\n", "I1\n")
    path = _archive(tmp_path / "own.pt", program, bytes(2**22), compressed=True)
    with pytest.raises(CheckpointError, match="is compressed or encrypted"):
        checkpoints.read(path)


def test_a_length_that_is_not_there_takes_no_memory(tmp_path: Path) -> None:
    """Without it nine bytes could ask for all the machine's memory."""
    held = b"\x80\x04\x8e" + struct.pack("<Q", 2**62) + b"x"
    (tmp_path / "long.pkl").write_bytes(held)
    with pytest.raises(CheckpointError, match="broken off or damaged"):
        checkpoints.read(tmp_path / "long.pkl")


@pytest.mark.parametrize(
    "program",
    [
        b"(" * 3 + b"." * 2,
        b"]" + b"\x85" * 200_000 + b".",
        b"}" + b"](" * 50_000 + b"e" * 50_000 + b".",
        b"}" + b")" + b"\x85" * 100_000 + b"Ns.",
    ],
    ids=["marks", "tuples", "lists", "a deep key"],
)
def test_deep_and_unbalanced_pickles_end_in_an_error(program: bytes, tmp_path: Path) -> None:
    """Without it a file of a few bytes could end Python itself."""
    (tmp_path / "deep.pkl").write_bytes(b"\x80\x04" + program)
    with pytest.raises(CheckpointError, match=r"cannot be read|not names and tensors"):
        checkpoints.read(tmp_path / "deep.pkl")


def test_modules_within_themselves_end_in_an_error(tmp_path: Path) -> None:
    """Without it a model that is its own part would be walked for ever."""
    module = torch.nn.Linear(1, 1)
    module._modules["again"] = module
    torch.save(module, tmp_path / "round.pt")
    with pytest.raises(CheckpointError, match="modules within modules without end"):
        checkpoints.read(tmp_path / "round.pt")
    level = b"csrc\nM\n)\x81}\x8c\x01aNsb\x94"  # a stand-in, kept; the next holds it twice
    program = level + b"".join(
        b"csrc\nM\n)\x81}(\x8c\x01ah" + bytes([i]) + b"\x8c\x01bh" + bytes([i]) + b"ub\x94"
        for i in range(40)
    )
    (tmp_path / "many.pkl").write_bytes(b"\x80\x04" + program + b".")
    with pytest.raises(CheckpointError, match="modules within modules without end"):
        checkpoints.read(tmp_path / "many.pkl")


def test_a_pickle_cannot_make_the_same_bytes_for_ever(tmp_path: Path) -> None:
    """Without it a small file could fill the memory with copies of one text."""
    text = b"X" + struct.pack("<I", 10_000) + b"a" * 10_000
    again = b"c_codecs\nencode\nh\x00X\x06\x00\x00\x00latin1\x86R"
    (tmp_path / "copies.pkl").write_bytes(b"\x80\x02](" + text + b"q\x00" + again * 500 + b"e.")
    with pytest.raises(CheckpointError, match="makes more than its file can hold"):
        checkpoints.read(tmp_path / "copies.pkl")


def test_too_many_steps_are_too_many(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without it a file of empty lists would fill the memory."""
    monkeypatch.setattr(pickles, "MOST_STEPS", 1000)
    (tmp_path / "long.pkl").write_bytes(b"\x80\x04(" + b"]" * 2000 + b"l.")
    with pytest.raises(CheckpointError, match="more than 1,000 steps"):
        checkpoints.read(tmp_path / "long.pkl")


@pytest.mark.parametrize("write", WRITERS.values(), ids=WRITERS)
def test_a_damaged_pickle_is_an_error_of_ours(
    write: Callable[[Any, Path], None], tmp_path: Path
) -> None:
    """Without it a bit that fell over would end in a traceback of Python's own parts."""
    path = tmp_path / "own.pt"
    with image_encoder() as model:
        write(model, path)
    whole = path.read_bytes()
    start = whole.find(b"modeling")
    rng = random.Random(0)
    refused = 0
    for _ in range(60):
        damaged = bytearray(whole)
        for _ in range(rng.choice((1, 1, 4, 16))):
            damaged[rng.randrange(start, start + 6000)] = rng.randrange(256)
        path.write_bytes(damaged)
        with suppress(CheckpointError):
            refused += 1
            found = checkpoints.read(path)
            refused -= 1
            assert all(e.read().shape == e.shape for e in found.entries.values())
    assert refused > 10
