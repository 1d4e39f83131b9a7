"""The keys of `tasks:` in a scenario: each is read by its source, or refused where it stands."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import made_sets
import pytest
import tiny

from neulig_fl.config.schema import Scenario
from neulig_fl.config.tasks import TaskOptions
from neulig_fl.core import variants
from neulig_fl.study.scenario_checks import problems_between

KEYS = [key for key in TaskOptions.model_fields if key != "source"]
EXAMPLES: dict[str, Any] = {
    "dataset": "MNIST",
    "subset": "digits",
    "root": "folder",
    "download": False,
    "image": "img",
    "label": "kind",
    "train_splits": ["train"],
    "test_splits": [],
    "exclude": ["*_thumb.*"],
    "per_class": 7,
    "classes": {"a": "one", "b": "two"},
    "templates": ["a {}"],
}
NEEDED: dict[str, dict[str, Any]] = {
    "imagefolder": {"root": "folder"},
    "torchvision": {"dataset": "EMNIST"},
    "huggingface": {"dataset": "someone/pets"},
}


def _reads(source: str) -> frozenset[str]:
    module = variants.load("neulig_fl.data.sources", source)
    found: frozenset[str] = getattr(module, "READS", frozenset({"templates"}))
    return found


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """Where the scenario stands: beside a folder of two classes."""
    tiny.images(tmp_path / "folder", ("a", "b"), each=1)
    return tmp_path


def _found(base: Path, name: str = "mine", **options: Any) -> list[str]:
    clients = [{"name": "ada", "task": "digits"}, {"name": "bob", "task": "digits"}]
    share = [{"kind": "features", "queries": ["pool"]}]
    scenario = Scenario.model_validate(
        {
            "name": "s",
            "clients": clients,
            "tasks": {name: options},
            "stages": [{"name": "s", "share": share}],
        }
    )
    return [f"{'.'.join(p.steps)}: {p.text}" for p in problems_between(scenario, base)]  # type: ignore[arg-type]


def test_examples_are_of_every_key() -> None:
    """Without it a new key would escape the tests below."""
    assert list(EXAMPLES) == KEYS
    for source in variants.names("neulig_fl.data.sources"):
        assert "templates" in _reads(source) <= set(KEYS)


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("source", variants.names("neulig_fl.data.sources"))
def test_a_key_is_read_or_refused(source: str, key: str, base: Path) -> None:
    """Without it a key of another source would be ignored, and other images used than meant."""
    options = {"source": source, **NEEDED.get(source, {}), key: EXAMPLES[key]}
    refused = [each for each in _found(base, **options) if f"{source} reads no " in each]
    if key in _reads(source):
        assert refused == []
    else:
        (problem,) = refused
        assert problem.startswith(f"tasks.mine.{key}: ")
        assert f"leave {key} out; what it reads: " in problem
        assert problem.endswith("templates")


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"source": "imagefolder", "root": "folder"}, None),
        ({"source": "imagefolder"}, "root: is missing; imagefolder reads a folder"),
        ({"source": "imagefolder", "root": "other"}, "root: there is no such folder"),
        ({"source": "imagefolder", "root": "folder", "classes": {"b": "x", "a": "y"}}, None),
        (
            {"source": "imagefolder", "root": "folder", "classes": {"b": "x", "c": "y", "a": "z"}},
            "classes.c: no such class (got 'c'); allowed: a, b",
        ),
        (
            {"source": "imagefolder", "root": "folder", "classes": {"b": "x", "a": "x"}},
            "classes.a: the class name is taken (got \"x\", as for 'b')",
        ),
        ({"source": "torchvision"}, "dataset: is missing; allowed: MNIST, FashionMNIST"),
        ({"source": "torchvision", "dataset": "DTD", "root": "gone"}, "root: there is no such"),
        ({"source": "torchvision", "dataset": "DTD", "root": "new", "download": True}, None),
        (
            {"source": "torchvision", "dataset": "KMNIST", "subset": "letters"},
            "subset: KMNIST has no subset of that name",
        ),
        (
            {"source": "fashion", "classes": {"Bag": "bag", "Coat": "coat"}},
            "classes: leaves out 'T-shirt/top', 'Trouser', 'Pullover' and 5 more",
        ),
    ],
)
def test_what_can_be_known_without_the_data_is_checked(
    options: dict[str, Any], problem: str | None, base: Path
) -> None:
    """Without it a wrong value would be found only when the data are opened, without its place."""
    found = _found(base, **options)
    if problem is None:
        assert found == []
    else:
        (only,) = found
        assert only.startswith(f"tasks.mine.{problem}")


def test_a_built_in_task_takes_options_under_its_own_name(base: Path) -> None:
    """Without it `fashion` could not be given its files; with more, `digits` could be anything."""
    assert _found(base, name="digits", source="digits", templates=["{}?"]) == []
    assert _found(base, name="fashion", source="fashion", download=True) == []
    (problem,) = _found(base, name="digits", source="fashion")
    assert problem.startswith("tasks.digits: is a built-in task; give yours another name")


def test_a_missing_extra_is_a_located_error(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without it the run would end where the data set is first asked for."""
    made_sets.without_the_extra(monkeypatch)
    (problem,) = _found(base, source="huggingface", dataset="someone/pets")
    assert problem.startswith("tasks.mine.source: huggingface needs packages")
    assert "pip install 'neulig-fl[huggingface]'" in problem


def test_the_page_says_what_each_source_reads() -> None:
    """Without it docs/scenario.md would be behind the code."""
    page = Path(__file__).parents[3] / "docs" / "scenario.md"
    text = page.read_text(encoding="utf-8")
    for source in ("imagefolder", "torchvision", "fashion"):
        keys = ", ".join(f"`{key}`" for key in KEYS if key in _reads(source))
        assert f"| `{source}` | {keys} |" in text
    assert set(KEYS) - {"exclude"} == _reads("huggingface")
    assert "| `huggingface` | all of them but `exclude` |" in text
    others = set(variants.names("neulig_fl.data.sources")) - {
        "imagefolder",
        "torchvision",
        "fashion",
    }
    assert all(_reads(name) == {"templates"} for name in others - {"huggingface"})
