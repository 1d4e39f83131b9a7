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
        description="Name of the data set, in torchvision or on the Hugging Face Hub. For "
        "torchvision and huggingface.",
    )
    subset: Text | None = Field(
        None,
        description="Subset of the data set: torchvision's EMNIST has digits (the default) and "
        "letters; huggingface: the name of a configuration.",
    )
    root: Text | None = Field(
        None,
        description="Folder of the images. imagefolder: one subfolder per class. torchvision and "
        "fashion: torchvision's root folder; null: data in the cache folder. huggingface: a local "
        "data set, instead of dataset.",
    )
    download: Annotated[bool, Strict()] = Field(
        False,
        description="Download the data set if its files are missing. For torchvision, fashion and "
        "huggingface.",
    )
    image: Text | None = Field(
        None, description="huggingface: the image column; null: the only one."
    )
    label: Text | None = Field(
        None,
        description="huggingface: the label column; null: the only class-label column, or else "
        "label.",
    )
    train_splits: Several[Text] | None = Field(
        None,
        description="Splits for experts and the pool: huggingface, names of splits; imagefolder, "
        "folders in the root or in every class. null: train, or the only split.",
    )
    test_splits: Annotated[tuple[Text, ...], AfterValidator(unique)] | None = Field(
        None,
        description="Splits for evaluation, as for train_splits; []: no test split is set aside; "
        "null: test, or else validation, if present.",
    )
    exclude: Annotated[tuple[Text, ...], AfterValidator(unique)] | None = Field(
        None,
        description="imagefolder: patterns such as '*_thumb.*' of names, or of paths relative to "
        "the root, to leave out. If given, files that look like thumbnails are not an error.",
    )
    per_class: Count | None = Field(
        None,
        description="Maximum number of images per class, the first ones; if there is a test split, "
        "0.8 of them from the training and 0.2 from the test split. null: all (fashion: 800).",
    )
    classes: Annotated[dict[Text, Text], Field(min_length=2)] | None = Field(
        None,
        description="Class names in prompts, by folder name or label; must list all of them, in "
        "the order of the label indices. null: the source's own.",
    )
    templates: Annotated[tuple[Template, ...], Field(min_length=1)] | None = Field(
        None,
        description="Prompt templates; {} is replaced by the class name. null: the source's own.",
    )
