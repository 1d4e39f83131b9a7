"""What every task keeps to: the contract of sources, and splits that never move an image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from types import ModuleType

import datasets
import made_sets
import numpy as np
import pytest
import tiny
from hypothesis import given
from hypothesis import strategies as st

from neulig_fl.config.scenario import Scenario, TaskOptions
from neulig_fl.config.tasks import OPEN_SOURCES, READ_FILES
from neulig_fl.core import variants
from neulig_fl.core.errors import DataError, InputError
from neulig_fl.data.sources import SPLITS, Source, Task, open_task
from neulig_fl.models.families.open_clip import tokeniser

NAMES = variants.names("neulig_fl.data.sources")


Made = dict[str, dict[str, object]]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """What the sources need that read files: a folder, torchvision's files, a saved data set."""
    root = tmp_path_factory.mktemp("own")
    tiny.images(root / "folder", ("a", "b"))
    made_sets.idx_set(root / "sets/FashionMNIST/raw", ("train", "t10k"), 10, 40, 12)
    return {
        "imagefolder": {"root": str(root / "folder")},
        "torchvision": {"root": str(root / "sets"), "dataset": "FashionMNIST"},
        "fashion": {"root": str(root / "sets")},
        "huggingface": {"root": str(root / "saved")},
    }


def _source(name: str, made: Made, **options: object) -> Source:
    if name == "huggingface":
        made_sets.saved(datasets, Path(str(made[name]["root"])))
    module: ModuleType = variants.load("neulig_fl.data.sources", name)
    found: Source = module.source(
        TaskOptions.model_validate({"source": name, **made.get(name, {}), **options})
    )
    return found


# ---------------------------------------------------------------- the contract


@pytest.mark.parametrize("name", NAMES)
def test_a_source_says_what_it_is_without_reading_images(
    name: str, made: Made, own_cache: Path
) -> None:
    """Without it `plan`, which loads no data, could not count a task's queries."""
    source = _source(name, made)
    ids, labels = source.ids(), source.labels()
    assert len(ids) == len(set(ids)) == len(labels) >= 40
    assert labels.dtype == np.int64
    assert set(labels.tolist()) == set(range(len(source.class_names)))
    assert len(set(source.class_names)) == len(source.class_names) >= 2
    assert all(template.count("{}") == 1 for template in source.templates)
    assert all((source.collection, source.version, source.summary))
    assert len(source.origins()) == len(ids)
    held_out = source.held_out()
    assert held_out is None or (held_out.dtype == bool and len(held_out) == len(ids))
    assert not (own_cache / "sources").exists()


@pytest.mark.parametrize("name", NAMES)
def test_a_users_templates_replace_the_sources(name: str, made: Made) -> None:
    """Without it prompts of one's own would be ignored."""
    assert _source(name, made, templates=("my {}!",)).templates == ("my {}!",)


@pytest.mark.parametrize("name", NAMES)
def test_images_come_in_the_asked_order_and_size(name: str, made: Made) -> None:
    """Without it a label would belong to another image, or a second run to other images."""
    source = _source(name, made)
    at = np.array([3, 0, len(source.ids()) - 1], dtype=np.int64)
    images = source.pixels(at, 32)
    assert images.shape == (3, 3, 32, 32)
    assert images.dtype == np.uint8
    assert np.array_equal(images[::-1], source.pixels(at[::-1], 32))
    assert np.array_equal(images, _source(name, made).pixels(at, 32))
    assert source.pixels(at, 16).shape == (3, 3, 16, 16)
    assert source.pixels(at[:0], 32).shape == (0, 3, 32, 32)
    assert images.std() > 5
    source.pixels(at, 32)[:] = 0
    assert np.array_equal(images, source.pixels(at, 32))


@pytest.mark.parametrize("name", NAMES)
def test_a_built_in_task_has_every_class_in_every_split(name: str, made: Made) -> None:
    """Without it a bundled task could not be trained or measured for some seeds."""
    for seed in range(3):
        task = Task(name, _source(name, made), seed)
        for split in SPLITS:
            task.require_classes(split, task.indices(split))


# ---------------------------------------------------------------- splits


@dataclass(frozen=True)
class Listed:
    """A source that is a list of ids; image i is of class i % 2."""

    names: Sequence[str]
    collection: str = "listed"
    version: str = "1"
    summary: str = "a list"
    class_names: tuple[str, ...] = ("even", "odd")
    templates: tuple[str, ...] = ("a {}",)

    tested: tuple[bool, ...] | None = None
    made_of: Sequence[str] | None = None

    def ids(self) -> Sequence[str]:
        """As `Source`."""
        return self.names

    def origins(self) -> Sequence[str]:
        """As `Source`."""
        return self.names if self.made_of is None else self.made_of

    def held_out(self) -> np.ndarray | None:
        """As `Source`."""
        return None if self.tested is None else np.array(self.tested, dtype=bool)

    def labels(self) -> np.ndarray:
        """As `Source`."""
        return np.arange(len(self.names)) % 2

    def pixels(self, indices: np.ndarray, size: int) -> np.ndarray:
        """As `Source`."""
        return np.zeros((len(indices), 3, size, size), np.uint8)


IDS = st.lists(st.text(max_size=6), unique=True, max_size=60)
SEEDS = st.integers(0, 2**63 - 1)


@given(IDS, SEEDS)
def test_every_image_is_in_exactly_one_split(names: list[str], seed: int) -> None:
    """Without it an expert would be measured on, or Portland trained on, what it was trained on."""
    task = Task("t", Listed(names), seed)
    everywhere = np.concatenate([task.indices(split) for split in SPLITS])
    assert sorted(everywhere.tolist()) == list(range(len(names)))


@given(IDS, SEEDS, st.data())
def test_an_image_keeps_its_split_when_others_come_or_go(
    names: list[str], seed: int, data: st.DataObject
) -> None:
    """Without it one new image would move trained-on images into the evaluation."""
    fewer = [n for n in data.draw(st.permutations(names)) if data.draw(st.booleans())]
    whole, part = Task("t", Listed(names), seed), Task("other name", Listed(fewer), seed)
    for split in SPLITS:
        before = {names[i] for i in whole.indices(split)}
        after = {fewer[i] for i in part.indices(split)}
        assert after == before & set(fewer)


@given(IDS, SEEDS, st.integers(0, 70), st.integers(0, 70))
def test_smaller_query_sets_are_the_first_part_of_larger_ones(
    names: list[str], seed: int, one: int, two: int
) -> None:
    """Without it asking for fewer queries would ask about other images."""
    task = Task("t", Listed(names), seed)
    few, many = task.indices("pool", min(one, two)), task.indices("pool", max(one, two))
    assert many[: len(few)].tolist() == few.tolist()
    assert task.indices("pool", 10**6).tolist() == task.indices("pool").tolist()


def test_the_splits_have_their_shares_and_depend_on_seed_and_collection() -> None:
    """Without it the sizes in the docs would be wrong, or every seed would split alike."""
    names = [str(i) for i in range(5000)]
    task = Task("t", Listed(names), 1)
    sizes = {split: len(task.indices(split)) / 5000 for split in SPLITS}
    assert sizes == pytest.approx(
        {"train-A": 0.3, "train-B": 0.3, "pool": 0.2, "evaluation": 0.2}, abs=0.03
    )
    pool = set(task.indices("pool").tolist())
    assert set(Task("t", Listed(names), 2).indices("pool").tolist()) != pool
    assert set(Task("t", Listed(names, collection="b"), 1).indices("pool").tolist()) != pool
    assert set(Task("u", Listed(names), 1).indices("pool").tolist()) == pool


@given(IDS, SEEDS, st.data())
def test_a_published_test_part_is_the_evaluation(
    names: list[str], seed: int, data: st.DataObject
) -> None:
    """Without it figures on a published test part would be figures on something else."""
    tested = tuple(data.draw(st.booleans()) for _ in names)
    task = Task("t", Listed(names, tested=tested), seed)
    everywhere = [task.indices(split).tolist() for split in SPLITS]
    assert sorted(chain.from_iterable(everywhere)) == list(range(len(names)))
    assert sorted(task.indices("evaluation").tolist()) == np.flatnonzero(tested).tolist()


def test_without_the_test_part_the_splits_keep_their_proportions() -> None:
    """Without it a published test part would cost one of the experts its images."""
    names = [str(i) for i in range(5000)]
    task = Task("t", Listed(names, tested=tuple(i < 1000 for i in range(5000))), 1)
    sizes = {split: len(task.indices(split)) / 4000 for split in SPLITS}
    assert sizes == pytest.approx(
        {"train-A": 0.375, "train-B": 0.375, "pool": 0.25, "evaluation": 0.25}, abs=0.03
    )


@given(IDS, SEEDS)
def test_images_of_one_origin_are_on_one_side(names: list[str], seed: int) -> None:
    """Without it an image could be trained on, and evaluated on in another dress."""
    dressed = [f"{name} {i}" for name in names for i in range(2)]
    task = Task("t", Listed(dressed, made_of=[n for n in names for _ in range(2)]), seed)
    plain = Task("u", Listed(names), seed)
    for split in SPLITS:
        found = {dressed[i].rpartition(" ")[0] for i in task.indices(split)}
        assert found == {names[i] for i in plain.indices(split)}
        assert len(task.indices(split)) == 2 * len(plain.indices(split))


def test_a_split_is_not_ordered_by_class() -> None:
    """Without it the first so many queries would show only some of the classes."""
    task = Task("t", Listed([str(i) for i in range(400)]), 0)
    first = task.labels(task.indices("evaluation", 20))
    assert 4 <= int(first.sum()) <= 16


def test_a_class_without_images_in_a_split_is_an_error_that_says_so() -> None:
    """Without it an expert would silently never see one of its classes."""
    task = Task("own", Listed(["a"]), 0)
    split = next(s for s in SPLITS if len(task.indices(s)))
    with pytest.raises(
        DataError,
        match=rf"task 'own': class 'odd' has no image in split {split} \(it has 0 in all\)",
    ):
        task.require_classes(split, task.indices(split))


# ---------------------------------------------------------------- prompts


def _read(prompts: Sequence[str]) -> list[list[int]]:
    """What the bundled models read: 64 bytes, lower-cased."""
    found: list[list[int]] = tokeniser("micro-vit")(list(prompts)).tolist()
    return found


def _named(*names: str, templates: tuple[str, ...] = ("a photo of a {}.",)) -> Task:
    source = Listed(["x", "y"], class_names=names, templates=templates)
    return Task("own", source, 0)


@pytest.mark.parametrize(
    ("names", "templates"),
    [
        (("cat", "dog"), ("a photo of a {}.",)),
        (("T-shirt/top", "Trouser", "hound/dog"), ("a {}.", "the {}.")),
        (("猫", "狗", "大猫"), ("a photo of a {}.",)),
        (("a", "b"), ("no matter {}" + "x" * 80, "but {}")),
    ],
)
def test_different_prompts_are_fine(names: tuple[str, ...], templates: tuple[str, ...]) -> None:
    """Without it a class name in Chinese or with a slash would be refused."""
    _named(*names, templates=templates).require_prompts(_read)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("cat", "dog", "cat"), "classes 'cat' and 'cat' have the same name .*rename one"),
        (("Cat", "cat"), "classes 'Cat' and 'cat' have the same prompts as the model reads them"),
        (
            ("a white circle that ends the limit of speed for all cars on all our roads",
             "a white circle that ends the limit of speed for all cars on all our rails"),
            "classes .* same prompts as the model reads them: .* cuts what is long.*`classes`.*`templates`",
        ),
        (("大" * 20 + "猫", "大" * 20 + "狗"), "classes .* same prompts as the model reads them"),
    ],
)  # fmt: skip
def test_prompts_that_a_model_cannot_tell_apart_are_an_error(
    names: tuple[str, ...], message: str
) -> None:
    """Without it one of the two classes would never be answered, and nobody would know why."""
    with pytest.raises(DataError, match=f"^task 'own': {message}") as caught:
        _named(*names).require_prompts(_read)
    assert caught.value.public_reason == "task 'own': two classes have the same prompts"


def test_the_built_in_tasks_fit_the_bundled_models(made: Made) -> None:
    """Without it a bundled task could not be learnt by a bundled model."""
    for name in NAMES:
        if name not in OPEN_SOURCES:
            Task(name, _source(name, made), 0).require_prompts(_read)


def test_only_open_sources_are_no_tasks() -> None:
    """Without it a source that needs options would be offered as a task, or a task be hidden."""
    for name in NAMES:
        faults = getattr(
            variants.load("neulig_fl.data.sources", name), "faults", lambda _: iter(())
        )
        needs = any("is missing" in words for _, words in faults(TaskOptions(source=name)))
        assert needs == (name in OPEN_SOURCES)


def test_sources_of_files_are_those_that_can_be_given_a_folder() -> None:
    """Without it a run would train experts before it finds that a task's files are missing."""
    reads = {
        n
        for n in NAMES
        if "root" in getattr(variants.load("neulig_fl.data.sources", n), "READS", ())
    }
    assert reads == READ_FILES


# ---------------------------------------------------------------- finding tasks


@pytest.fixture(scope="module")
def folder(made: Made) -> Path:
    """A folder for the source that needs one."""
    return Path(str(made["imagefolder"]["root"]))


def _scenario(**tasks: dict[str, str]) -> Scenario:
    clients = [{"name": "ada", "task": "digits"}, {"name": "bob", "task": "digits"}]
    return Scenario.model_validate(
        {"name": "t", "clients": clients, "tasks": tasks, "stages": [{"name": "s"}]}, strict=False
    )


def test_a_task_of_the_users_own_is_opened_under_its_name(folder: Path) -> None:
    """Without it two folders could not be two tasks."""
    scenario = _scenario(mine={"source": "imagefolder", "root": str(folder)})
    task = open_task(scenario, "mine", 4)
    assert (task.name, task.seed, task.source.class_names) == ("mine", 4, ("a", "b"))
    assert open_task(scenario, "digits", 4).source.collection == "sklearn-digits"


def test_an_unknown_task_is_an_error_with_the_known_ones() -> None:
    """Without it a typo would be an import error."""
    with pytest.raises(
        InputError, match=r"no task is called 'digit'; allowed: .*did you mean digits\?"
    ):
        open_task(_scenario(), "digit", 0)


def test_a_folder_task_without_a_folder_says_what_it_needs() -> None:
    """Without it the error would be about None."""
    with pytest.raises(DataError, match="needs `root`"):
        variants.load("neulig_fl.data.sources", "imagefolder").source(
            TaskOptions(source="imagefolder")
        )


def test_two_tasks_of_the_same_folder_split_it_alike(folder: Path) -> None:
    """Without it one task's training image would be another's evaluation image."""
    scenario = _scenario(
        one={"source": "imagefolder", "root": str(folder)},
        two={"source": "imagefolder", "root": str(folder)},
    )
    one, two = open_task(scenario, "one", 0), open_task(scenario, "two", 0)
    assert all(one.indices(s).tolist() == two.indices(s).tolist() for s in SPLITS)
