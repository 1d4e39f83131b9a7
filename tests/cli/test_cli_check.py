"""`neulig-fl check`: every fault before anything runs."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest
import tiny
import torch
from command_line import NEVER, Line, clients
from PIL import Image
from safetensors.torch import save_file

from neulig_fl.cli import taken
from neulig_fl.data.sources import open_task
from neulig_fl.models.families import open_clip
from neulig_fl.runtime import machine
from neulig_fl.study import runs
from neulig_fl.study.checking import load

BROKEN = sorted((Path(__file__).parents[1] / "broken").glob("*.yaml"))


def test_a_good_scenario_is_summed_up_in_a_line(line: Line, data: Path, tmp_path: Path) -> None:
    """Without it a user would not see whether the file says what they meant."""
    path = tiny.write(tmp_path, data)
    ended = line("check", path)
    assert (ended.code, ended.err) == (0, "")
    assert ended.out.splitlines()[0] == (
        f"OK: {path}: tiny: 3 clients, 2 tasks (5 classes), 2 stages (outputs, merging), "
        f"tiny-vit (none), experts of shared origin, seed {tiny.SEED}"
    )
    assert (
        "  model tiny-vit: GELU, images 32 x 32 (mean: [0.481455, 0.457827, 0.408211], std: "
        "[0.26863, 0.261303, 0.275777], interpolation: bicubic, resize_mode: shortest; OpenCLIP's "
        "own choice)"
    ) in ended.out.splitlines()


def _counts(out: str, name: str) -> list[int]:
    """The numbers behind a class in what `check` printed."""
    (found,) = (each for each in out.splitlines() if each.startswith(f"    {name} "))
    return [int(word) for word in found.split()[1:]]


def test_what_was_taken_and_left_out_is_shown(line: Line, tmp_path: Path) -> None:
    """Without it half of a user's images could be missing, and nobody would know."""
    for name, seed in (("first", 1), ("second", 2)):
        tiny.images(tmp_path / name, ("dark", "light"), seed=seed)
    first = tmp_path / "first"
    Image.new("RGB", (9, 9), (1, 2, 3)).save(first / "dark" / "x.jfif", "JPEG")
    (first / "dark" / "y.heic").write_bytes(b"no format of Pillow's")
    (first / "light" / "notes.txt").write_text("hello")
    (first / "light" / "@eaDir").mkdir()
    (first / "light" / "@eaDir" / "SYNOPHOTO_THUMB_M.jpg").write_bytes(b"a thumbnail")
    ended = line("check", tiny.write(tmp_path, tmp_path))
    assert (ended.code, ended.err) == (0, "")
    lines = ended.out.splitlines()
    assert "  task first: 49 images of 2 classes" in lines
    for name, images in (("dark", 25), ("light", 24)):
        whole, *parts = _counts(ended.out.partition("task second")[0], name)
        assert whole == sum(parts) == images
        assert len(parts) == 4
    for words in (
        "left out: 1 of a format that is not read: convert to PNG or JPEG (dark/y.heic)",
        "left out: 1 other files (light/notes.txt)",
        "left out: 1 kept there by a system or a network drive (light/@eaDir)",
        "note: read 48 .bmp, 1 .jfif",
    ):
        assert f"    {words}" in lines
    assert lines.count("    left out: nothing") == 1, "of the other task"


ODD = "\x1b[2Jx\nerror: forged\x9b\u202e"
SHOWN = "\\x1b[2Jx\\nerror: forged\\x9b\\u202e"


def test_names_with_control_characters_reach_no_terminal(line: Line, tmp_path: Path) -> None:
    """Without it the name of a file could clear the screen, or forge a line of the program's."""
    for name, seed in (("first", 1), ("second", 2)):
        tiny.images(tmp_path / name, ("dark", "light"), seed=seed)
    (tmp_path / "first" / "dark" / f"{ODD}.heic").touch()
    given = torch.nn.Linear(2, 2).state_dict()
    torch.save(given, tmp_path / f"{ODD}.pt")
    ended = line("check", tiny.write(tmp_path, tmp_path))
    assert ended.code == 0
    assert f"(dark/{SHOWN}.heic)" in ended.out
    path = str(tmp_path / f"{ODD}.pt")
    bad = tiny.write(tmp_path, tmp_path, clients=clients("ada", checkpoint=path))
    (tmp_path / "second" / "dark" / f"{ODD}.png").write_bytes(b"no image")
    failed = line("check", bad)
    assert failed.code == 2
    assert failed.err.count(SHOWN) == 2
    for words in (ended.out, failed.err):
        assert all(each.isprintable() for each in words.split("\n"))
        assert not any(each.startswith("error: forged") for each in words.split("\n"))


def test_of_many_classes_the_smallest_are_shown(line: Line, tmp_path: Path) -> None:
    """Without it a data set of a thousand classes would fill many screens."""
    tiny.images(tmp_path / "second", ("dark", "light"), seed=2)
    names = tuple(f"c{i:02}" for i in range(15))
    for number, name in enumerate(names):
        tiny.images(tmp_path / "first", (name,), each=24 + number, seed=number + 5)
    ended = line("check", tiny.write(tmp_path, tmp_path))
    assert ended.code == 0
    assert "    24 to 38 images a class; the classes with the fewest:\n" in ended.out
    shown = [name for name in names if f"    {name} " in ended.out]
    assert shown == ["c00", "c01", "c02"]


def test_built_in_tasks_have_one_line(line: Line, tmp_path: Path) -> None:
    """Without it the scenarios that come along would be long lists of what never changes."""
    two = [{"name": "ada", "task": "digits"}, {"name": "bob", "task": "shapes"}]
    path = tiny.write(tmp_path, tmp_path, clients=two, tasks={})
    ended = line("check", path)
    assert ended.code == 0
    only, *model = ended.out.splitlines()[1:]
    assert re.fullmatch(
        r"  built-in tasks: digits \([\d,]+ images\), shapes \([\d,]+ images\)", only
    )
    assert [each[:19] for each in model] == ["  model tiny-vit: G"]


def test_a_task_without_an_image_in_the_pool_is_found(line: Line, tmp_path: Path) -> None:
    """Without it Portland would be trained without a task, and the run would end in a stage."""
    for name in ("first", "second"):
        for part, each in (("train", 24), ("test", 6)):
            tiny.images(tmp_path / name / part, ("dark", "light"), each, seed=each + len(name))
    path = tiny.write(tmp_path, tmp_path)
    source = open_task(load(path).resolved(tmp_path), "first", tiny.SEED)
    pool = source.indices("pool")
    assert len(pool), "of 48 training images a quarter"
    for place in pool:
        (tmp_path / "first" / source.source.where(int(place))).unlink()
    ended = line("check", path)
    assert ended.code == 2
    assert "task 'first' has no image in the pool (it has" in ended.err


def test_a_bar_is_shown_on_a_terminal_when_reading_takes_long(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without it a large folder would look like a program that hangs."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    for patience, shown in ((1e9, False), (0.0, True)):
        monkeypatch.setattr(taken, "PATIENCE_SECONDS", patience)
        with ExitStack() as stack:
            bar = taken._Patient("reading the images of first", stack)
            for done in (1, 2, 3):
                bar(done, 3)
        assert ("reading the images of first: 3 of 3" in capsys.readouterr().err) == shown


def test_bad_scenarios_do_not_hide_good_ones(line: Line, data: Path, tmp_path: Path) -> None:
    """Without it one typo would hide the state of all other files."""
    good = tiny.write(tmp_path, data)
    ended = line("check", *BROKEN, good)
    assert ended.code == 2
    assert ended.out.count("OK: ") == 1
    errors = ended.err.splitlines()
    for path in BROKEN:
        assert any(each.startswith(f"error: {path}:") for each in errors)
    places = {each.removeprefix("error: ").partition(".yaml:")[2] for each in errors}
    assert len(places) == len(errors), "each says something else"


def test_methods_that_do_not_know_the_model_are_refused(
    line: Line, data: Path, tmp_path: Path
) -> None:
    """A run would train every expert, and then have no row for them."""
    model = {"name": "swin_base_patch4_window7_224", "pretrained": "none"}
    methods = ["ties", "git-rebasin", "lines", "zipit", "wemoe"]
    path = tiny.write(tmp_path, data, model=model, methods=methods)
    ended = line("check", path)
    assert ended.code == 2
    errors = [each.removeprefix(f"error: {path}: ") for each in ended.err.splitlines()]
    assert [each.split()[:2] for each in errors] == [
        ["methods.1:", "git-rebasin"], ["methods.3:", "zipit"], ["methods.4:", "wemoe"]
    ]  # fmt: skip
    assert "the entry 'trunk.patch_embed.proj.weight' belongs to" in errors[0]


def _empty_class(root: Path) -> str:
    (root / "none").mkdir()
    return "task 'first': imagefolder .*class folder 'none' holds no image"


def _one_class(root: Path) -> str:
    (root / "light").rename(root.parent / "light")
    return r"task 'first': imagefolder .*1 class folder\(s\); a task needs 2 or more"


def _same_image_twice(root: Path) -> str:
    (root / "light" / "x.bmp").write_bytes((root / "dark" / "0.bmp").read_bytes())
    return "task 'first': imagefolder .*are the same image in two classes"


def _same_name_twice(root: Path) -> str:
    tiny.images(root, ("deep sea", "deep_sea"), seed=7)
    return (
        "task 'first': imagefolder .*deep sea/ and deep_sea/ look like one class in two spellings"
    )


def _too_few(root: Path) -> str:
    (root / "few").mkdir()
    Image.new("RGB", (9, 9), (1, 2, 3)).save(root / "few" / "0.png")
    return "task 'first': class 'few' has no image in split"


@pytest.mark.parametrize(
    "harm", [_empty_class, _one_class, _same_image_twice, _same_name_twice, _too_few]
)
@pytest.mark.parametrize("command", ["check", "run"])
def test_a_bad_image_folder_is_found_before_anything_runs(
    line: Line, tmp_path: Path, harm: Callable[[Path], str], command: str
) -> None:
    """Without it a bad folder would end a run of hours with a client's guarded words."""
    for name in ("first", "second"):
        tiny.images(tmp_path / name, ("dark", "light"), seed=len(name))
    expected = harm(tmp_path / "first")
    path = tiny.write(tmp_path, tmp_path)
    ended = line(command, path)
    assert (ended.code, ended.out) == (2, "")
    assert re.search(f"^error: {re.escape(str(path))}: {expected}", ended.err, re.MULTILINE)
    assert not (tmp_path / "runs").exists()


def test_a_checkpoint_that_does_not_fit_is_found(line: Line, data: Path, tmp_path: Path) -> None:
    """Without it a wrong file would end a run as if a client had failed."""
    save_file({"weight": torch.zeros(2)}, tmp_path / "w.safetensors")
    (tmp_path / "broken.pt").write_bytes(b"not a checkpoint")
    for name, words in (("w.safetensors", "does not fit the model"), ("broken.pt", "cannot be")):
        path = tiny.write(tmp_path, data, clients=clients("bob", checkpoint=name))
        ended = line("check", path)
        assert ended.code == 2
        assert "error: " in ended.err
        assert name in ended.err
        assert words in ended.err


def test_folders_and_pickled_models_are_checked_and_run(
    line: Line, data: Path, tmp_path: Path
) -> None:
    """Without it only single files could stand in a scenario, though `inspect` calls folders good."""
    model = open_clip.create("tiny-vit", 1)
    for folder in ("start", "expert"):
        (tmp_path / folder).mkdir()
    save_file(model.state_dict(), tmp_path / "start" / "open_clip_model.safetensors")
    save_file(model.visual.state_dict(), tmp_path / "expert" / "own.safetensors")
    torch.save(model, tmp_path / "pickled.pt")
    three = clients("bob", checkpoint="expert")
    three[2]["checkpoint"] = "pickled.pt"
    start = {"name": "tiny-vit", "pretrained": "./start"}
    path = tiny.write(tmp_path, data, clients=three, model=start)
    ended = line("check", path)
    assert (ended.code, ended.err) == (0, "")
    report = runs.run(path, engine="local", out=tmp_path / "out")
    trained = [each["n_train"] for each in report.data["reference"]["experts"]]
    assert trained[0] > 0
    assert trained[1:] == [None, None]
    ended = line("check", path, "--set", "model.pretrained=./nowhere")
    assert "there is no such file or folder (got" in ended.err


def test_which_encoder_and_which_normalisation_is_said(
    line: Line, data: Path, tmp_path: Path
) -> None:
    """Without it a user could not see what was taken of a file, and how images are prepared."""
    start, own = (open_clip.create("tiny-vit-quickgelu", seed) for seed in (1, 2))
    torch.save({"model": start.state_dict(), "ema": own.state_dict()}, tmp_path / "start.pt")
    torch.save({f"encoder_q.{k}": v for k, v in own.visual.state_dict().items()}, tmp_path / "q.pt")
    three = clients("bob", checkpoint="q.pt", prefix="encoder_q")
    half = {"mean": [0.5] * 3, "resize_mode": "squash"}
    model = {"name": "tiny-vit-quickgelu", "pretrained": "start.pt", "preprocess": half}
    path = tiny.write(tmp_path, data, clients=three, model=model)
    ended = line("check", path)
    assert ended.code == 2
    assert "start.pt of model tiny-vit-quickgelu holds 2 whole encoders" in ended.err
    ended = line("check", path, "--set", "model.prefix=ema")
    assert (ended.code, ended.err) == (0, "")
    said = ended.out.splitlines()
    assert said[-2:] == [
        "  model tiny-vit-quickgelu, encoder under 'ema.visual': QuickGELU, images 32 x 32 (mean: [0.5, 0.5, 0.5], "
        "std: [0.26863, 0.261303, 0.275777], interpolation: bicubic, resize_mode: squash; "
        "model.preprocess, OpenCLIP's own choice)",
        "  checkpoint of bob: q.pt; PyTorch file; names as in OpenCLIP; encoder under 'encoder_q'",
    ]
    for override in ("model.pretrained=none", "clients.1.checkpoint=null"):
        ended = line("check", path, "--set", "model.prefix=ema", "--set", override)
        assert "prefix: is read beside" in ended.err


def test_weights_that_a_run_would_download_are_said(line: Line, data: Path, tmp_path: Path) -> None:
    """Without it a run waits for gigabytes, or ends without a network, and `check` said OK."""
    model = {"name": "RN50-quickgelu", "pretrained": "cc12m"}
    ended = line("check", tiny.write(tmp_path, data, model=model))
    assert ended.code == 0, ended.err
    assert "  weights cc12m: from OpenCLIP's cache, or downloaded by the run\n" in ended.out
    bundled = line("check", tiny.write(tmp_path, data))
    assert "downloaded" not in bundled.out


def test_all_that_is_wrong_with_weights_is_found_at_once(
    line: Line, data: Path, tmp_path: Path
) -> None:
    """Without it a user would mend one file, wait, and learn of the next."""
    (tmp_path / "start.pt").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:1")
    (tmp_path / "page.pt").write_text("<!doctype html><html></html>")
    save_file({"proj": torch.zeros(2)}, tmp_path / "w.safetensors")
    three = clients("bob", checkpoint="page.pt")
    three[2]["checkpoint"] = "w.safetensors"
    model = {"name": "tiny-vit", "pretrained": "start.pt"}
    ended = line("check", tiny.write(tmp_path, data, clients=three, model=model))
    assert ended.code == 2
    errors = ended.err.splitlines()
    assert len(errors) == 3
    assert "git lfs pull" in errors[0]
    assert "client 'bob': checkpoint" in errors[1]
    assert "is a web page" in errors[1]
    assert "w.safetensors of client 'cyd' does not fit the model tiny-vit" in errors[2]


def test_weights_that_do_not_fit_the_model_are_found(
    line: Line, data: Path, tmp_path: Path
) -> None:
    """Without it every client would fail, one after the other."""
    save_file({"weight": torch.zeros(2)}, tmp_path / "w.safetensors")
    path = tiny.write(tmp_path, data, model={"name": "tiny-vit", "pretrained": "w.safetensors"})
    ended = line("check", path)
    assert ended.code == 2
    assert "checkpoint w.safetensors of model tiny-vit does not fit" in ended.err


def test_a_run_that_would_stop_is_foretold(line: Line, data: Path, tmp_path: Path) -> None:
    """Without it a scenario would be called good that no run can end."""
    path = tiny.write(tmp_path, data, clients=clients("bob", **NEVER))
    ended = line("check", path)
    assert ended.code == 0
    assert ended.out.splitlines()[-1] == (
        "  but its run would end in stage merging: bob refuses parameters, and on_refusal is stop: "
        "policy of client 'bob': never parameters"
    )


def test_more_threads_than_cores_are_said_and_allowed(
    line: Line, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without it a scenario of a larger machine would be slow here for no known reason."""
    monkeypatch.setattr(machine, "cores", lambda: 2)
    path = tiny.write(tmp_path, data, resources={"client_cpus": 3})
    ended = line("check", path)
    assert ended.code == 0
    assert "resources.client_cpus: 3, but this process may use 2 cores" in ended.out
    assert "client_cpus" not in line("check", path, "--set", "resources.client_cpus=2").out


def test_a_hash_is_that_of_what_a_run_resolves(line: Line, data: Path, tmp_path: Path) -> None:
    """Without it a node's owner would approve a hash that no run has."""
    path = tiny.write(tmp_path, data)
    ended = line("check", path, "--hash")
    assert ended.out.splitlines()[-1] == f"  hash {load(path).hash}"
