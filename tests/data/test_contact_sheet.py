"""Contact sheets: every sample in its place, every name readable, no page too large."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from neulig_fl.core.errors import InputError
from neulig_fl.data import contact_sheet
from neulig_fl.data.contact_sheet import MOST_SIDE, Sheet, SplitSamples

SPLITS = ("train-A", "pool")


def _plain(colour: tuple[int, int, int], count: int, side: int) -> np.ndarray:
    """Images of one colour, uint8 (count, 3, side, side)."""
    return np.full((count, side, side, 3), colour, np.uint8).transpose(0, 3, 1, 2)


def _colour(split: int, label: int) -> tuple[int, int, int]:
    """Another colour for every class and split; none is a colour of the sheet's own."""
    return (10 + 100 * split, label // 256, label % 256)


def _sheet(
    names: Sequence[str],
    *,
    side: int = 4,
    factor: int = 4,
    per_class: int = 2,
    counts: Sequence[int] = (),
    splits: Sequence[str] = SPLITS,
) -> Sheet:
    """A sheet; class k has `counts[k]` samples in every split, or else `per_class`."""
    made = []
    for at, split in enumerate(splits):
        images = [
            _plain(_colour(at, k), counts[k] if counts else per_class, side)
            for k in range(len(names))
        ]
        made.append(SplitSamples(split, sum(map(len, images)), images))
    return Sheet("title", names, made, side, factor, per_class)


def _amounts(page: Image.Image) -> dict[tuple[int, int, int], int]:
    """How many pixels of each colour a page has."""
    found = page.getcolors(page.width * page.height) or []
    return {colour: count for count, colour in found if isinstance(colour, tuple)}


def _words(page: Image.Image) -> int:
    """Pixels that are not white."""
    return int((np.asarray(page) != 255).any(axis=2).sum())


def test_every_sample_stands_on_the_sheet_enlarged() -> None:
    """Without it a class, a split or a sample would be missing or be cut off."""
    (page,) = contact_sheet.pages(_sheet(["a", "b", "c"], counts=[2, 1, 2]))
    amounts = _amounts(page)
    for split in range(2):
        for label, count in enumerate([2, 1, 2]):
            assert amounts[_colour(split, label)] == count * 16 * 16


def test_rows_are_classes_and_columns_are_splits() -> None:
    """Without it an image would stand under another split or beside another class's name."""
    (page,) = contact_sheet.pages(_sheet(["a", "b"]))
    pixels = np.asarray(page)

    def corner(split: int, label: int) -> tuple[int, int]:
        where = np.argwhere((pixels == _colour(split, label)).all(axis=2))
        return int(where[:, 0].min()), int(where[:, 1].min())

    assert corner(0, 0)[0] == corner(1, 0)[0] < corner(0, 1)[0] == corner(1, 1)[0]
    assert corner(0, 0)[1] == corner(0, 1)[1] < corner(1, 0)[1] == corner(1, 1)[1]


def test_samples_are_enlarged_without_smoothing() -> None:
    """Without it a user would see other pixels than the model."""
    rng = np.random.default_rng(0)
    image = rng.integers(0, 200, (1, 3, 4, 4)).astype(np.uint8)
    sheet = Sheet("t", ["a"], [SplitSamples("pool", 1, [image])], 4, 16, 1)
    pixels = np.asarray(next(contact_sheet.pages(sheet)))
    large = np.kron(image[0].transpose(1, 2, 0), np.ones((16, 16, 1), np.uint8))
    bottom, right = pixels.shape[0] - 12, pixels.shape[1] - 12
    found = [
        (top, left)
        for top in range(bottom - 64 + 1)
        for left in range(right - 64 + 1)
        if np.array_equal(pixels[top, left], large[0, 0])
        and np.array_equal(pixels[top : top + 64, left : left + 64], large)
    ]
    assert len(found) == 1


def test_a_class_without_images_has_a_dash() -> None:
    """Without it an empty class would be an error, or look like a fault of the drawing."""
    none = _sheet(["a", "b"], counts=[2, 0], splits=["pool"])
    (page,) = contact_sheet.pages(none)
    assert _colour(0, 1) not in _amounts(page)
    row = np.asarray(page)[-12 - contact_sheet.layout(none).row + 2 : -12]
    name_only = row[:, contact_sheet.layout(none).label + 12 + 14 :]
    assert (name_only < 200).any()


@pytest.mark.parametrize(
    ("classes", "count"), [(2, 1), (10, 1), (26, 1), (43, 1), (100, 1), (397, 3)]
)
def test_many_classes_take_panels_then_pages(classes: int, count: int) -> None:
    """Without it CIFAR-100 or SUN397 would give a strip that no viewer opens, or many pages."""
    sheet = _sheet(
        [f"class {k}" for k in range(classes)],
        side=32,
        factor=2,
        per_class=4,
        splits=["train-A", "train-B", "pool", "evaluation"],
    )
    found = list(contact_sheet.pages(sheet))
    assert len(found) == count
    assert all(max(page.size) <= MOST_SIDE for page in found)
    assert classes < 10 or all(max(page.size) <= 3 * min(page.size) for page in found)
    seen = [_amounts(page) for page in found]
    for label in range(classes):
        assert sum(amounts.get(_colour(0, label), 0) for amounts in seen) == 4 * 64 * 64


@settings(max_examples=40, deadline=None)
@given(
    classes=st.integers(1, 300),
    side=st.integers(1, 64),
    factor=st.integers(1, 8),
    per_class=st.integers(1, 30),
    splits=st.integers(1, 4),
)
def test_pages_are_never_too_large_and_lose_no_class(
    classes: int, side: int, factor: int, per_class: int, splits: int
) -> None:
    """Without it some sizes would give a page that is too large, empty, or lacks classes."""
    names = [f"c{k}" for k in range(classes)]
    none = np.zeros((0, 3, side, side), np.uint8)
    samples = [SplitSamples(str(k), 0, [none] * classes) for k in range(splits)]
    sheet = Sheet("t", names, samples, side, factor, per_class)
    try:
        plan = contact_sheet.layout(sheet)
    except InputError:
        assert splits * per_class * side * factor > 3000
        return
    on_page = plan.rows * plan.panels
    assert (plan.pages - 1) * on_page < classes <= plan.pages * on_page
    assert plan.head + plan.rows * plan.row + 12 <= MOST_SIDE
    assert plan.panels * (plan.panel + 28) - 28 + 24 <= MOST_SIDE


def test_a_sheet_that_fits_no_page_says_what_to_change() -> None:
    """Without it a large --size would take all memory or give an unreadable file."""
    with pytest.raises(InputError, match=r"pixels wide and 3,205 high; allowed: 4,000 .*per-class"):
        list(contact_sheet.pages(_sheet(["a"], side=32, factor=100)))


@pytest.mark.parametrize("name", ["stop sign", "\u0142\u00f3d\u017a", "\u03bb", "\u0434\u0430"])
def test_names_of_many_alphabets_are_written(name: str) -> None:
    """Without it a class would stand as a row of empty boxes."""
    assert contact_sheet.drawable(name)


@pytest.mark.parametrize("name", ["\u732b", "a \u72d7", "\U0001f642", "", " ", "a\nb", "\x1b[31m"])
def test_names_that_cannot_be_written_stand_as_numbers(name: str) -> None:
    """Without it Chinese names would crash the sheet, or all look the same."""
    assert not contact_sheet.drawable(name)
    first, second = _written([name, "a"], 0), _written(["a", name], 1)
    assert (first < 100).any()
    assert not np.array_equal(first, second)
    assert np.array_equal(first, _written(["\u4e2d", "a"], 0))


def _written(names: Sequence[str], label: int) -> np.ndarray:
    """What stands left of a class's images."""
    sheet = _sheet(names)
    plan, page = contact_sheet.layout(sheet), np.asarray(next(contact_sheet.pages(sheet)))
    top = plan.head + label * plan.row
    return page[top + 1 : top + plan.row, 12 : 12 + plan.number + 8]


def test_long_names_are_cut_visibly_and_do_not_widen_the_sheet() -> None:
    """Without it one long name would push the images off the screen, or two would overlap."""
    name = "a very long name of a class that nobody could read as a whole"
    long, longer = (_sheet([text, "b"]) for text in (name, name * 9))
    wide = [next(contact_sheet.pages(sheet)).width for sheet in (long, longer)]
    assert wide[0] == wide[1]
    plan = contact_sheet.layout(long)
    assert plan.label <= plan.number + 180
    (page,) = contact_sheet.pages(long)
    beside = np.asarray(page)[
        plan.head + 2 : plan.head + plan.row, 12 + plan.label : 12 + plan.label + 6
    ]
    assert (beside == 255).all()


def test_a_narrow_sheet_still_has_its_whole_title() -> None:
    """Without it the title of one split with one sample would be cut to a word."""
    sheet = _sheet(["a", "b"], per_class=1, splits=["pool"])
    titled = replace(sheet, title="digits, seed 0: 1,797 images, 10 classes")
    (page,), (bare,) = (list(contact_sheet.pages(each)) for each in (titled, sheet))
    assert page.width > 300 > bare.width
    assert _words(page) > _words(bare)


def test_a_narrow_split_still_has_room_for_its_heading() -> None:
    """Without it the headings of small samples would be written over one another."""
    plan = contact_sheet.layout(_sheet(["a"], per_class=1, splits=["evaluation", "pool"]))
    assert plan.cell == 16
    assert plan.blocks[0] > plan.blocks[1] > 30


def test_the_same_samples_give_the_same_pages() -> None:
    """Without it two people could not compare their sheets by hash."""
    sheet = _sheet([f"class {k}" for k in range(30)])
    first, second = (next(contact_sheet.pages(sheet)).tobytes() for _ in range(2))
    assert first == second


def test_without_dejavu_pillows_own_font_writes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without it a mlxtend that comes without matplotlib would break the command."""
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    for cached in (contact_sheet._font, contact_sheet._has_sign):
        cached.cache_clear()
    try:
        assert contact_sheet.drawable("stop sign")
        assert not contact_sheet.drawable("\u0434\u0430")
        assert len(list(contact_sheet.pages(_sheet(["stop", "\u0434\u0430"])))) == 1
    finally:
        for cached in (contact_sheet._font, contact_sheet._has_sign):
            cached.cache_clear()
