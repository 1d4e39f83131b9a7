"""What a scenario can say: strict, frozen models of its YAML.

Every field carries its own documentation, which the JSON Schema and the error messages quote. What
needs more than one field to be judged stands in `scenario_checks`.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import AfterValidator, BeforeValidator, Field

from neulig_fl.config.methods import Method
from neulig_fl.config.policy_rules import Policy, is_policy_file
from neulig_fl.config.stages import Group, SecureAggregationOptions, Stage
from neulig_fl.config.tasks import TaskOptions
from neulig_fl.config.values import (
    Count,
    Interpolation,
    NotNegative,
    Number,
    Positive,
    Pretrained,
    PublicKey,
    QuerySet,
    Rate,
    ResizeMode,
    Section,
    Seed,
    Several,
    Slug,
    Text,
    Threads,
    Weight,
)

MICRO_MODELS = ("micro-vit", "micro-rn")
PRETRAINED_WORDS = ("bundled", "none")
_WEIGHT_FILES = (".safetensors", ".pt", ".pth", ".bin", ".ckpt")


def _in_order(groups: tuple[Group, ...]) -> tuple[Group, ...]:
    return tuple(sorted(groups))


def _same_for_every_group(value: Any) -> Any:
    return dict.fromkeys(get_args(Group), value) if isinstance(value, str) else value


Checkpoints = Annotated[
    dict[Group, Text] | None,
    BeforeValidator(_same_for_every_group, json_schema_input_type=Text | dict[Group, Text] | None),
]
Prefixes = Annotated[
    dict[Group, str] | None,
    BeforeValidator(_same_for_every_group, json_schema_input_type=str | dict[Group, str] | None),
]


Channels = Annotated[
    tuple[Annotated[Number, Field(ge=0, le=1)], ...], Field(min_length=3, max_length=3)
]
Deviations = Annotated[
    tuple[Annotated[Positive, Field(le=1)], ...], Field(min_length=3, max_length=3)
]


class Preprocess(Section):
    """How images are prepared for the model; what is left out follows from its weights."""

    mean: Channels | None = Field(
        None, description="Mean per RGB channel, subtracted from pixel values in 0 to 1."
    )
    std: Deviations | None = Field(
        None, description="Standard deviation per RGB channel, by which the difference is divided."
    )
    interpolation: Interpolation | None = Field(
        None, description="Interpolation for resizing images."
    )
    resize_mode: ResizeMode | None = Field(
        None,
        description="shortest: scale the short side and crop the centre; longest: scale the long "
        "side and pad with black; squash: scale both sides.",
    )


class Model(Section):
    """Which encoder every expert is, and what it starts from."""

    name: Text = Field(
        "micro-vit",
        description="Architecture: micro-vit or micro-rn (bundled), or any OpenCLIP model name.",
        examples=list(MICRO_MODELS),
    )
    pretrained: Pretrained = Field(
        "bundled",
        description="Initial weights: bundled (micro models only), an OpenCLIP tag, the path of a "
        "checkpoint, or none.",
        examples=list(PRETRAINED_WORDS),
    )
    prefix: str | None = Field(
        None,
        description="Prefix of the model's entry names if the checkpoint of `pretrained` contains "
        "several models, such as student. null: it contains one.",
    )
    text_files: Text | None = Field(
        None,
        description="Folder with the files of the Hugging Face text tower or tokeniser (SigLIP and "
        "others), if they cannot be downloaded. null: the folder of the weights, else downloaded.",
    )
    preprocess: Preprocess = Field(
        Preprocess(),
        description="Preprocessing of images, if the weights' tag, file name or config does not "
        "specify it.",
    )


class Client(Section):
    """One party, which holds one expert per group."""

    name: Slug = Field(description="Unique name of the client.")
    task: Text = Field(description="The task of its expert: a built-in task, or one of `tasks`.")
    checkpoint: Checkpoints = Field(
        None,
        description="Weights of an existing expert: a path, or one per group as {A: path, B: "
        "path}. null: the expert is trained.",
    )
    prefix: Prefixes = Field(
        None,
        description="Prefix of the encoder's entry names if `checkpoint` contains several "
        "encoders, such as student; or one per group. null: it contains one.",
    )
    policy: Policy = Field(Policy(), description="The client's own policy; overrides any stage.")

    def brought(self, group: str) -> str | None:
        """Names the expert that the client brings for a group; None where it is trained."""
        path = {str(name): path for name, path in (self.checkpoint or {}).items()}.get(group)
        prefix = {str(name): prefix for name, prefix in (self.prefix or {}).items()}.get(group)
        return path if path is None or prefix is None else f"{path}#{prefix.rstrip('.')}"


class Experts(Section):
    """How the experts are trained (AdamW, warm-up then cosine)."""

    origin: Literal["shared", "diverse"] = Field(
        "shared",
        description="shared: all experts start from the model's weights; diverse: each from its "
        "own random initialisation.",
    )
    groups: Annotated[Several[Group], AfterValidator(_in_order)] = Field(
        ("A",), description="Halves of the training data on which each client trains an expert."
    )
    epochs: Count = Field(5, description="Epochs over the training images.")
    lr: Rate = Field(3e-4, description="Peak learning rate.")
    batch_size: Count = Field(64, description="Images per step.")
    weight_decay: Weight = Field(0.1, description="AdamW's decoupled weight decay.")
    warmup: Annotated[Number, Field(ge=0, le=1)] = Field(
        0.1, description="Fraction of the steps used for learning-rate warm-up."
    )
    clip_norm: Positive = Field(1.0, description="Maximum L2 norm of the gradient (clipping).")


class Queries(Section):
    """How many inputs all experts answer, and how they travel."""

    pool: Count | None = Field(
        None, description="Maximum number of pool queries per task; null: all."
    )
    evaluation: Count | None = Field(
        None, description="Maximum number of evaluation queries per task; null: all."
    )
    train: Count | None = Field(
        None, description="Maximum number of queries per client from its training data; null: all."
    )
    travel: Literal["reference", "value"] = Field(
        "reference",
        description="How queries are sent: reference, as indices into data that every client can "
        "load; value, as images.",
    )


class PortlandOptions(Section):
    """How Portland is trained (Adam, the tasks in turn)."""

    outputs: Literal["features", "logits"] = Field(
        "features", description="The experts' outputs that Portland reads and the ensemble mixes."
    )
    label_space: Literal["task", "union"] = Field(
        "task",
        description="task: a query's task is known; union: the classes of all tasks compete.",
    )
    objective: Literal["supervised", "semi"] = Field(
        "supervised",
        description="Boosting term: supervised is cross-entropy with labels (paper, Eq. 6), semi "
        "is the entropy of unlabelled predictions (Eq. 7).",
    )
    objective_on: Literal["ensemble", "merge", "both"] = Field(
        "ensemble",
        description="Predictions on which the boosting term is computed: the ensemble's (paper); "
        "as an extension, merge: those of each query's merged model; both: the mean of the two "
        "terms.",
    )
    queries: QuerySet = Field("pool", description="The query set on which Portland is trained.")
    alignment: Literal["paper", "code", "none"] = Field(
        "paper",
        description="Alignment term on the standardised offset sums: paper is Eq. 8, code is what "
        "the paper's released code computes.",
    )
    alpha: Weight = Field(1.0, description="Weight of the boosting term (Eq. 9).")
    beta: Weight = Field(0.01, description="Weight of the alignment term (Eq. 9).")
    epochs: Count = Field(20, description="Epochs over the queries.")
    lr: Rate = Field(1e-3, description="Adam's learning rate.")
    batch_size: Count = Field(128, description="Queries per step.")


class MergingOptions(Section):
    """How merged models are run; but for `tolerance` this changes time and memory alone."""

    method: Literal["batched", "one-at-a-time"] = Field(
        "batched",
        description="batched: many queries at once, each under its own merged parameters; "
        "one-at-a-time: one merged network for each distinct CoopVec, which is slow but supports "
        "any model.",
    )
    tolerance: Annotated[Number, Field(ge=0, lt=1)] = Field(
        0.0,
        description="Above 0, near-equal CoopVecs are merged as one, their mean: faster, but no "
        "longer exact. No entry of a CoopVec changes by more than this. Below 1; the report states "
        "the effect.",
    )
    checked: Count = Field(
        32,
        description="If tolerance is above 0: number of queries, sampled at random for each "
        "result, that are also merged exactly, to measure its effect.",
    )
    buffer_mib: Count = Field(
        256, description="batched: maximum memory for mixed weights at a time, in MiB."
    )
    stack_mib: Count | None = Field(
        None,
        description="Maximum memory for a group's parameters on the server, in MiB; above it they "
        "are memory-mapped from a file in the cache folder. null: half of the machine's memory.",
    )


class Timeouts(Section):
    """How long the server waits for the clients, in seconds."""

    hello: Positive = Field(180.0, description="Seconds to wait for the clients' hello.")
    prepare: Positive = Field(
        3600.0, description="Seconds to wait for an expert to be trained or loaded."
    )
    answer: Positive = Field(600.0, description="Seconds to wait for a release.")


class Resources(Section):
    """What a client and the server may use of the machine."""

    client_cpus: Threads = Field(1, description="CPU threads per client.")
    client_gpus: NotNegative = Field(0.0, description="Fraction of a GPU per client.")
    server_threads: Threads = Field(1, description="CPU threads of the server.")


class Scenario(Section):
    """A study: which experts there are, what each stage shares, and what is measured."""

    name: Slug = Field(description="Name of the scenario.")
    seed: Seed = Field(0, description="Seed of all scientific randomness.")
    seeds: Several[Seed] | None = Field(
        None, description="Several seeds, one run each; instead of `seed`."
    )
    model: Model = Field(Model(), description="The encoder of all experts.")
    tasks: dict[Slug, TaskOptions] = Field({}, description="Tasks of your own, by name.")
    clients: Annotated[tuple[Client, ...], Field(min_length=2)] = Field(
        description="The clients, in order."
    )
    experts: Experts = Field(Experts(), description="Fine-tuning of the experts.")
    queries: Queries = Field(Queries(), description="The inputs on which experts are evaluated.")
    portland: PortlandOptions = Field(PortlandOptions(), description="Training of Portland.")
    merging: MergingOptions = Field(MergingOptions(), description="Inference with merged models.")
    batch_norm: Literal["average", "re-estimate"] = Field(
        "average",
        description="BatchNorm's running statistics in merged models: averaged like parameters, or "
        "re-estimated on unlabelled pool queries.",
    )
    stages: Annotated[tuple[Stage, ...], Field(min_length=1)] = Field(
        description="What is shared and measured, in order."
    )
    methods: tuple[Method, ...] = Field(
        (),
        description="Merge methods to compare with: names, or mappings with name, options, tune.",
    )
    on_refusal: Literal["stop", "continue"] = Field(
        "stop",
        description="If a client refuses or is missing: stop the run, or continue without it.",
    )
    trust: dict[Slug, PublicKey] = Field(
        {},
        description="Pinned public keys, by client name, or server: a client with another key is "
        "rejected, a server with another key receives nothing. Other keys are trusted on first "
        "use, but not in secure sums.",
    )
    secure_aggregation: SecureAggregationOptions = Field(
        SecureAggregationOptions(), description="Options of secure aggregation."
    )
    timeouts: Timeouts = Field(Timeouts(), description="Timeouts of the server.")
    resources: Resources = Field(Resources(), description="CPUs and GPUs of server and clients.")

    @property
    def all_seeds(self) -> tuple[int, ...]:
        """The seeds to run, in order; one if the scenario gives one."""
        return self.seeds or (self.seed,)

    @property
    def hash(self) -> str:
        """SHA-256 (hex) of what the scenario says, seeds left out.

        Defaults count as said, and neither the order of keys nor comments matter. Paths count as
        they are written, so a resolved scenario has another hash; so do the options of protections
        and merge methods, whose defaults are their own files'.
        """
        said = self.model_dump(mode="json", exclude={"seed", "seeds"})
        text = json.dumps(said, sort_keys=True, separators=(",", ":"), allow_nan=False)
        return hashlib.sha256(text.encode()).hexdigest()

    def resolved(self, base: Path) -> Scenario:
        """Make every path absolute.

        Args:
            base: folder that relative paths start from: the scenario file's.
        """
        return self.model_copy(
            update={
                "model": _with_weights(base, self.model),
                "tasks": {name: _rooted(base, options) for name, options in self.tasks.items()},
                "clients": tuple(_with_paths(base, client) for client in self.clients),
            }
        )


def place(base: Path, path: str) -> Path:
    """Return the absolute path of what a scenario in the folder `base` calls `path`."""
    return Path(os.path.abspath(base / os.path.expanduser(path)))  # noqa: PTH100, PTH111 (never raise)


def exists(path: Path, kind: Literal["file", "folder", "file or folder"]) -> bool:
    """Tell whether a path leads to such a thing; a path that cannot be is no error."""
    try:
        return ("file" in kind and path.is_file()) or ("folder" in kind and path.is_dir())
    except OSError:
        return False


def is_path(text: str) -> bool:
    """Tell whether weights are named as a path; a folder has to be, since a tag has no slash."""
    return text.endswith(_WEIGHT_FILES) or any(mark in text for mark in "/\\~")


def _with_weights(base: Path, model: Model) -> Model:
    if model.text_files is not None:
        model = model.model_copy(update={"text_files": str(place(base, model.text_files))})
    path = place(base, model.pretrained)
    kind: Literal["file", "file or folder"] = (
        "file or folder" if is_path(model.pretrained) else "file"
    )
    if model.pretrained in PRETRAINED_WORDS or not exists(path, kind):
        return model
    return model.model_copy(update={"pretrained": str(path)})


def _rooted(base: Path, options: TaskOptions) -> TaskOptions:
    root = None if options.root is None else str(place(base, options.root))
    return options.model_copy(update={"root": root})


def _with_paths(base: Path, client: Client) -> Client:
    found: dict[str, Any] = {}
    if client.checkpoint is not None:
        found["checkpoint"] = {g: str(place(base, path)) for g, path in client.checkpoint.items()}
    preset = client.policy.preset
    if preset is not None and is_policy_file(preset):
        absolute = {"preset": str(place(base, preset))}
        found["policy"] = client.policy.model_copy(update=absolute)
    return client.model_copy(update=found) if found else client
