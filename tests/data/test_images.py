"""Images of any kind as RGB, and what they are known by."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image

from neulig_fl.core.resizing import Resize
from neulig_fl.data import images

NOISE = np.random.default_rng(0).integers(0, 256, (6, 9, 3)).astype(np.uint8)


def _mean(image: Image.Image) -> list[int]:
    return [round(float(c)) for c in np.asarray(image).reshape(-1, 3).mean(axis=0)]


@pytest.mark.parametrize(
    ("mode", "colour", "expected"),
    [
        ("RGB", (10, 200, 30), [10, 200, 30]),
        ("L", 77, [77, 77, 77]),
        ("1", 1, [255, 255, 255]),
        ("LA", (77, 0), [255, 255, 255]),
        ("LA", (77, 255), [77, 77, 77]),
        ("RGBA", (10, 200, 30, 255), [10, 200, 30]),
        ("RGBA", (10, 200, 30, 0), [255, 255, 255]),
        ("P", 0, [0, 0, 0]),
        ("CMYK", (0, 0, 0, 0), [255, 255, 255]),
        ("I;16", 65535 // 4, [64, 64, 64]),
        ("I;16", 200, [1, 1, 1]),
        ("I", 40000, [156, 156, 156]),
        ("I", 200, [200, 200, 200]),
        ("F", 0.5, [128, 128, 128]),
        ("F", 200.0, [200, 200, 200]),
        ("F", float("nan"), [0, 0, 0]),
        ("HSV", (0, 255, 255), [255, 0, 0]),
    ],
)
def test_every_mode_becomes_rgb(mode: str, colour: object, expected: list[int]) -> None:
    """Without it a grey, transparent or deep image would end the run or come out black."""
    image = Image.new(mode, (5, 4), colour)  # type: ignore[arg-type]
    assert _mean(images.rgb(image)) == expected
    assert images.rgb(image).mode == "RGB"


def test_sixteen_bit_png_keeps_its_scale(tmp_path: Path) -> None:
    """Without it a dark 16-bit image would come out 257 times as bright as its neighbours."""
    for name, value in (("dark", 200), ("light", 40000)):
        Image.fromarray(np.full((4, 4), value, np.uint16)).save(tmp_path / f"{name}.png")
    assert _mean(images.opened(tmp_path / "dark.png")) == [1, 1, 1]
    assert _mean(images.opened(tmp_path / "light.png")) == [156, 156, 156]


def test_a_palette_with_a_transparent_colour_lies_on_white(tmp_path: Path) -> None:
    """Without it the hidden colour of a GIF or PNG would be seen."""
    image = Image.new("P", (4, 4), 0)
    image.putpalette([200, 0, 0, 0, 200, 0])
    image.save(tmp_path / "x.png", transparency=0)
    assert _mean(images.opened(tmp_path / "x.png")) == [255, 255, 255]


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "RGB", "L"])
def test_a_transparent_image_is_laid_on_white_in_parts(
    mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without it a large image would have seams, or other pixels and so another id than before."""
    noise = np.random.default_rng(2).integers(0, 256, (7, 5, 4)).astype(np.uint8)
    image = Image.fromarray(noise).convert(mode)
    if mode == "P":
        image.info["transparency"] = bytes(range(256))
    elif mode in ("RGB", "L"):
        image.info["transparency"] = image.getpixel((3, 4))
    whole = image.convert("RGBA")
    expected = Image.alpha_composite(Image.new("RGBA", whole.size, "white"), whole).convert("RGB")
    monkeypatch.setattr(images, "_AT_ONCE", 11)
    assert np.array_equal(np.asarray(images.rgb(image)), np.asarray(expected))


@pytest.mark.parametrize("turn", range(1, 9))
def test_an_image_stands_as_its_camera_held_it(turn: int, tmp_path: Path) -> None:
    """Without it photographs of a telephone would lie on their side."""
    upright = Image.fromarray(NOISE)
    undo = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    stored = upright if turn == 1 else upright.transpose(undo[turn])
    exif = Image.Exif()
    exif[0x0112] = turn
    stored.save(tmp_path / "x.png", exif=exif)
    assert np.array_equal(np.asarray(images.opened(tmp_path / "x.png")), NOISE)


@pytest.mark.parametrize("ending", ["gif", "tif", "png", "webp"])
def test_of_several_frames_the_first_is_taken(ending: str, tmp_path: Path) -> None:
    """Without it an animation or a scan of several pages would be refused, or end anywhere."""
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue", "lime")]
    path = tmp_path / f"x.{ending}"
    frames[0].save(path, save_all=True, append_images=frames[1:], lossless=True)
    with Image.open(path) as image:
        assert getattr(image, "n_frames", 1) == 3
    assert _mean(images.opened(path)) == [255, 0, 0]


def test_the_id_is_that_of_the_pixels(tmp_path: Path) -> None:
    """Without it the same image in two formats could be on two sides of a split."""
    for ending in ("png", "bmp", "ppm", "tif"):
        Image.fromarray(NOISE).save(tmp_path / f"x.{ending}")
    ids = {images.content_id(images.opened(path)) for path in tmp_path.iterdir()}
    assert len(ids) == 1
    other = NOISE.copy()
    other[5, 8, 2] ^= 1
    assert images.content_id(Image.fromarray(other)) not in ids
    turned = Image.fromarray(NOISE.reshape(9, 6, 3))
    assert images.content_id(turned) not in ids, "the sides count as well"


def test_the_middle_is_cut_out() -> None:
    """Without it images that are not square would be squeezed, unlike CLIP's."""
    wide = np.zeros((10, 30, 3), np.uint8)
    wide[:, 10:20] = (0, 255, 0)
    assert _mean(images.square(Image.fromarray(wide), 10)) == [0, 255, 0]
    assert images.square(Image.new("RGB", (300, 2)), 8).size == (8, 8)
    same = Image.fromarray(NOISE[:6, :6])
    assert np.array_equal(np.asarray(images.square(same, 6)), NOISE[:6, :6])


@pytest.mark.parametrize("size", [(10, 30), (24, 9), (16, 16)])
@pytest.mark.parametrize("mode", ["shortest", "longest", "squash"])
@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
def test_images_are_resized_as_the_model_wants_them(
    size: tuple[int, int], mode: Any, interpolation: Any
) -> None:
    """Without it SigLIP, which squashes, would see the middle of an image only."""
    noise = np.random.default_rng(1).integers(0, 256, (*size, 3)).astype(np.uint8)
    image = Image.fromarray(noise)
    plain = PreprocessCfg(
        8, mean=(0, 0, 0), std=(1, 1, 1), resize_mode=mode, interpolation=interpolation
    )
    expected = image_transform_v2(plain, is_train=False)(image).mul(255).round().byte()
    found = np.asarray(images.square(image, Resize(8, mode, interpolation)))
    assert np.array_equal(found.transpose(2, 0, 1), expected.numpy())


@pytest.mark.parametrize("size", [(40, 400), (40, 401), (333, 11), (1400, 7)])
def test_the_middle_of_a_long_image_is_that_of_the_whole(size: tuple[int, int]) -> None:
    """Without it a panorama would be cut beside its middle, unlike CLIP's."""
    ramp = np.add.outer(np.linspace(0, 120, size[1]), np.linspace(0, 120, size[0]))
    image = Image.fromarray(np.stack([ramp] * 3, axis=2).round().astype(np.uint8))
    plain = PreprocessCfg(24, mean=(0, 0, 0), std=(1, 1, 1))
    expected = image_transform_v2(plain, is_train=False)(image).mul(255).round().numpy()
    found = np.asarray(images.square(image, 24), dtype=np.float64).transpose(2, 0, 1)
    assert np.abs(found - expected).max() <= 2
