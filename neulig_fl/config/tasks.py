"""What a scenario can say of a task of its own.

Which of the keys a source reads, and what else has to hold, stands in `scenario_checks`.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field, Strict

from neulig_fl.config.values import Count, Section, Several, TaskSource, Template, Text, unique
from neulig_fl.core import variants

OPEN_SOURCES = frozenset({"huggingface", "imagefolder", "torchvision"})
"""Sources that are no task by themselves: a scenario says which images they are to read."""

READ_FILES = OPEN_SOURCES | {"fashion"}
"""Sources whose files may be missing; those of the others come with the package."""


def built_in_tasks() -> list[str]:
    """The tasks that a scenario can name as they are."""
    return [name for name in variants.names("neulig_fl.data.sources") if name not in OPEN_SOURCES]


class TaskOptions(Section):
    """A task of the user's own."""

    source: TaskSource = Field(description="Where the images come from.")
    dataset: Text | None = Field(
        None,
        description="Which data set: a name of torchvision's, or one of the Hugging Face Hub. "
        "For torchvision and huggingface.",
    )
    subset: Text | None = Field(
        None,
        description="Which kind of the data set: torchvision's EMNIST has digits (the default) "
        "and letters; huggingface: the name of a configuration.",
    )
    root: Text | None = Field(
        None,
        description="Folder of the images. imagefolder: one folder per class. torchvision and "
        "fashion: where torchvision finds its files; null: data in the cache folder. huggingface: "
        "a data set on this machine, instead of dataset.",
    )
    download: Annotated[bool, Strict()] = Field(
        False,
        description="Fetch the data set where its files are missing. For torchvision, fashion and "
        "huggingface.",
    )
    image: Text | None = Field(
        None, description="huggingface: the column of the images; null: the only one there is."
    )
    label: Text | None = Field(
        None,
        description="huggingface: the column of the classes; null: the only one of labels, or "
        "label.",
    )
    train_splits: Several[Text] | None = Field(
        None,
        description="Parts that experts and the pool get: huggingface, splits; imagefolder, "
        "folders of the root or of every class. null: train, or the only one.",
    )
    test_splits: Annotated[tuple[Text, ...], AfterValidator(unique)] | None = Field(
        None,
        description="Parts that are evaluated on, as for train_splits; []: none is set aside; "
        "null: test, or else validation, where they are there.",
    )
    exclude: Annotated[tuple[Text, ...], AfterValidator(unique)] | None = Field(
        None,
        description="imagefolder: patterns such as '*_thumb.*' of names, or of paths from the "
        "root, that are left out. Where it is given, files that look like thumbnails are no error.",
    )
    per_class: Count | None = Field(
        None,
        description="Most images of a class, the first ones; where there is a test part, 0.8 of "
        "them from the training part and 0.2 from the test part. null: all (fashion: 800).",
    )
    classes: Annotated[dict[Text, Text], Field(min_length=2)] | None = Field(
        None,
        description="What the classes are called in prompts, by the names of their folders or "
        "labels, all of them; in the order that labels get. null: the source's own.",
    )
    templates: Annotated[tuple[Template, ...], Field(min_length=1)] | None = Field(
        None,
        description="Prompt templates; {} stands for the class name. null: the source's own.",
    )
