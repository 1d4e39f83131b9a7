"""The data sets of torchvision that a scenario can name: files, parts, class names, prompts.

Names and prompts are those of CLIP work, so that zero-shot figures can be compared:

- OpenAI's list for CLIP (github.com/openai/CLIP, data/prompts.md) for all that it has;
- TALL-masks (github.com/nik-dim/tall_masks) for FashionMNIST, KMNIST and the digits of EMNIST, with
  torchvision's own class names.

The prompt for the letters of EMNIST is ours.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

_DIGITS = tuple("0123456789")
_LETTERS = tuple("abcdefghijklmnopqrstuvwxyz")
_A_OR_THE = ("a photo of a {}.", "a photo of the {}.")
_NUMBER = ('a photo of the number: "{}".',)
_CIFAR = (
    "a photo of a {}.", "a blurry photo of a {}.", "a black and white photo of a {}.",
    "a low contrast photo of a {}.", "a high contrast photo of a {}.", "a bad photo of a {}.",
    "a good photo of a {}.", "a photo of a small {}.", "a photo of a big {}.",
    "a photo of the {}.", "a blurry photo of the {}.", "a black and white photo of the {}.",
    "a low contrast photo of the {}.", "a high contrast photo of the {}.", "a bad photo of the {}.",
    "a good photo of the {}.", "a photo of the small {}.", "a photo of the big {}.",
)  # fmt: skip
_TEXTURE = (
    "a photo of a {} texture.", "a photo of a {} pattern.", "a photo of a {} thing.",
    "a photo of a {} object.", "a photo of the {} texture.", "a photo of the {} pattern.",
    "a photo of the {} thing.", "a photo of the {} object.",
)  # fmt: skip
_SATELLITE = (
    "a centered satellite photo of {}.",
    "a centered satellite photo of a {}.",
    "a centered satellite photo of the {}.",
)
_SIGN = (
    'a zoomed in photo of a "{}" traffic sign.',
    'a centered photo of a "{}" traffic sign.',
    'a close up photo of a "{}" traffic sign.',
)
_CAR = (
    "a photo of a {}.", "a photo of the {}.", "a photo of my {}.", "i love my {}!",
    "a photo of my dirty {}.", "a photo of my clean {}.", "a photo of my new {}.",
    "a photo of my old {}.",
)  # fmt: skip
_GARMENTS = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag",
    "Ankle boot",
)  # fmt: skip
_HIRAGANA = ("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo")
_LAND = (
    "annual crop land", "forest", "brushland or shrubland", "highway or road",
    "industrial buildings or commercial buildings", "pasture land", "permanent crop land",
    "residential buildings or homes or apartments", "river", "lake or sea",
)  # fmt: skip
# Spelt as CLIP has them, "horizonal" and "bicyle" included.
_SIGNS = (
    "red and white circle 20 kph speed limit",
    "red and white circle 30 kph speed limit",
    "red and white circle 50 kph speed limit",
    "red and white circle 60 kph speed limit",
    "red and white circle 70 kph speed limit",
    "red and white circle 80 kph speed limit",
    "end / de-restriction of 80 kph speed limit",
    "red and white circle 100 kph speed limit",
    "red and white circle 120 kph speed limit",
    "red and white circle red car and black car no passing",
    "red and white circle red truck and black car no passing",
    "red and white triangle road intersection warning",
    "white and yellow diamond priority road",
    "red and white upside down triangle yield right-of-way",
    "stop",
    "empty red and white circle",
    "red and white circle no truck entry",
    "red circle with white horizonal stripe no entry",
    "red and white triangle with exclamation mark warning",
    "red and white triangle with black left curve approaching warning",
    "red and white triangle with black right curve approaching warning",
    "red and white triangle with black double curve approaching warning",
    "red and white triangle rough / bumpy road warning",
    "red and white triangle car skidding / slipping warning",
    "red and white triangle with merging / narrow lanes warning",
    "red and white triangle with person digging / construction / road work warning",
    "red and white triangle with traffic light approaching warning",
    "red and white triangle with person walking warning",
    "red and white triangle with child and person walking warning",
    "red and white triangle with bicyle warning",
    "red and white triangle with snowflake / ice warning",
    "red and white triangle with deer warning",
    "white circle with gray strike bar no speed limit",
    "blue circle with white right turn arrow mandatory",
    "blue circle with white left turn arrow mandatory",
    "blue circle with white forward arrow mandatory",
    "blue circle with white forward or right turn arrow mandatory",
    "blue circle with white forward or left turn arrow mandatory",
    "blue circle with white keep right arrow mandatory",
    "blue circle with white keep left arrow mandatory",
    "blue circle with white arrows indicating a traffic circle",
    "white circle with gray strike bar indicating no passing for cars has ended",
    "white circle with gray strike bar indicating no passing for trucks has ended",
)


@dataclass(frozen=True)
class Part:
    """One part of a data set: what opens it, and whether it is the test part."""

    keywords: Mapping[str, Any]
    held_out: bool = False


def _by_flag() -> tuple[Part, ...]:
    return Part({"train": True}), Part({"train": False}, held_out=True)


def _by_name(*training: str) -> tuple[Part, ...]:
    return *(Part({"split": name}) for name in training), Part({"split": "test"}, held_out=True)


@dataclass(frozen=True)
class KnownSet:
    """One data set of torchvision.

    Args:
        about: what it shows, for people.
        files: where its files lie below `root`, as patterns.
        parts: what torchvision calls the parts; one of them alone: nothing is set aside for tests.
        templates: prompts with `{}` for the class name.
        names: class names in the order of the labels; None: those that the files give.
        spaced: characters of the files' names that read as spaces.
        labels_in: attribute of torchvision's object with the labels of images that it holds in
            memory; None: images are files, read one by one.
        files_in: attribute with the files and labels, where the class takes no `loader`.
        first_label: what the first class is called in the files.
        keywords: what the class wants besides.
        downloads: whether torchvision can still download it.
    """

    about: str
    files: tuple[str, ...]
    parts: tuple[Part, ...]
    templates: tuple[str, ...]
    names: tuple[str, ...] | None = None
    spaced: str = "_"
    labels_in: str | None = None
    files_in: str | None = None
    first_label: int = 0
    keywords: Mapping[str, Any] = field(default_factory=dict)
    downloads: bool = True


def _idx(
    about: str, folder: str, templates: tuple[str, ...], names: tuple[str, ...], **other: Any
) -> KnownSet:
    """A set in the files of MNIST."""
    return KnownSet(
        about,
        (f"{folder}/raw/*-ubyte",),
        _by_flag(),
        templates,
        names,
        labels_in="targets",
        **other,
    )


SETS: Mapping[str, KnownSet] = {
    "MNIST": _idx("handwritten digits, 28x28 grey", "MNIST", _NUMBER, _DIGITS),
    "FashionMNIST": _idx("clothes, 28x28 grey", "FashionMNIST", _A_OR_THE, _GARMENTS),
    "KMNIST": _idx(
        "cursive Japanese characters, 28x28 grey", "KMNIST", ("a photo of the character {}.",),
        _HIRAGANA,
    ),
    "EMNIST": _idx(
        "handwritten digits of NIST, 28x28 grey", "EMNIST",
        ('a photo of the digit character: "{}".',), _DIGITS, keywords={"split": "digits"},
    ),
    "CIFAR10": KnownSet(
        "things and animals, 32x32", ("cifar-10-batches-py/*",), _by_flag(), _CIFAR,
        labels_in="targets",
    ),
    "CIFAR100": KnownSet(
        "things, animals, plants, people, 32x32", ("cifar-100-python/*",), _by_flag(), _CIFAR,
        labels_in="targets",
    ),
    "GTSRB": KnownSet(
        "German traffic signs, 15x15 to 250x250", ("gtsrb/*",), _by_name("train"), _SIGN, _SIGNS,
        files_in="_samples",
    ),
    "SVHN": KnownSet(
        "house numbers in street views, 32x32", ("train_32x32.mat", "test_32x32.mat"),
        _by_name("train"), _NUMBER, _DIGITS, labels_in="labels",
    ),
    "STL10": KnownSet(
        "things and animals, 96x96", ("stl10_binary/*",), _by_name("train"), _A_OR_THE,
        labels_in="labels",
    ),
    "EuroSAT": KnownSet(
        "land use from a satellite, 64x64; no official parts", ("eurosat/2750/*",), (Part({}),),
        _SATELLITE, _LAND,
    ),
    "DTD": KnownSet(
        "textures; partition 1, train and val together", ("dtd/dtd/*",), _by_name("train", "val"),
        _TEXTURE,
    ),
    "SUN397": KnownSet(
        "scenes; no official parts", ("SUN397/*",), (Part({}),), _A_OR_THE, spaced="_/",
    ),
    "StanfordCars": KnownSet(
        "cars by make, model and year", ("stanford_cars/*",), _by_name("train"), _CAR,
        downloads=False,
    ),
}  # fmt: skip

SUBSETS: Mapping[str, Mapping[str, KnownSet]] = {
    "EMNIST": {
        "digits": SETS["EMNIST"],
        "letters": _idx(
            "handwritten letters of NIST, upper and lower case, 28x28 grey", "EMNIST",
            ('a photo of the letter: "{}".',), _LETTERS, first_label=1,
            keywords={"split": "letters"},
        ),
    }
}  # fmt: skip
"""Sets of which torchvision has several kinds; the kinds that tell upper from lower case are left
out, because CLIP's tokenisers do not."""
