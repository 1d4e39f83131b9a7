"""ZipIt written out: networks layer by layer, and a zip that looks at every pair every time."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import encoders
import torch
from torch import Tensor
from torch.nn import functional as F

Clusters = list[list[int]]


def zip_units(alike: Tensor, experts: int, alpha: float, beta: float) -> Clusters:
    """Section 4.2 and 4.3 of the paper, pair by pair: every pair is looked at before every merge."""
    units = len(alike) // experts
    clusters: Clusters = [[i] for i in range(len(alike))]
    near = {(i, j): float(alike[i, j]) for i, j in itertools.combinations(range(len(alike)), 2)}
    budget: list[float] = [int((experts - 1) * units // experts * beta + 1e-4)] * experts

    def shared(a: int, b: int) -> set[int]:
        return {i // units for i in clusters[a]} & {i // units for i in clusters[b]}

    while len(near) > 0 and len({min(p) for p in near}) + 1 > units:
        allowed = [p for p in near if all(budget[e] > 0 for e in shared(*p))]
        if not allowed:
            budget, allowed = [float("inf")] * experts, list(near)
        a, b = max(allowed, key=lambda p: (near[p], -p[0], -p[1]))
        for e in shared(a, b):
            budget[e] -= 1
        clusters[a] += clusters[b]
        for c in {i for p in near for i in p} - {a, b}:
            to_a, to_b = (tuple(sorted((c, x))) for x in (a, b))
            near[to_a] = alpha * min(near[to_a], near.pop(to_b))
        del near[a, b]
    left = sorted({i for p in near for i in p}) or [0]
    return [sorted(clusters[i]) for i in left]


def clusters_of(members: Tensor) -> Clusters:
    flat = members.flatten(0, 1)
    return [flat[:, k].nonzero().flatten().tolist() for k in range(flat.shape[1])]


def vit(model: encoders.State, inputs: Tensor, heads: int) -> dict[str, list[Tensor]]:
    """A vision transformer written out; what every set of units answers, (samples, units)."""
    m = {k: v.double() for k, v in model.items()}
    width = len(m["class_embedding"])
    norm = lambda x, n: F.layer_norm(x, (width,), m[f"{n}.weight"], m[f"{n}.bias"])  # noqa: E731
    patches = F.conv2d(inputs.double(), m["conv1.weight"], stride=m["conv1.weight"].shape[-1])
    tokens = patches.flatten(2).transpose(1, 2)
    first = m["class_embedding"].expand(len(tokens), 1, width)
    x = norm(torch.cat([first, tokens], 1) + m["positional_embedding"], "ln_pre")
    seen: dict[str, list[Tensor]] = {"stream": []}
    for block in sorted({k.rpartition(".attn.in_proj_w")[0] for k in m if "in_proj_w" in k}):
        seen["stream"].append(x)
        y = norm(x, f"{block}.ln_1")
        q, k, v = (y @ m[f"{block}.attn.in_proj_weight"].T + m[f"{block}.attn.in_proj_bias"]).chunk(
            3, -1
        )
        out = attention(q, k, v, heads)
        seen[f"{block}.attn.queries"], seen[f"{block}.attn.values"] = [q, k], [out]
        x = x + out @ m[f"{block}.attn.out_proj.weight"].T + m[f"{block}.attn.out_proj.bias"]
        y = norm(x, f"{block}.ln_2")
        hidden = F.gelu(y @ m[f"{block}.mlp.c_fc.weight"].T + m[f"{block}.mlp.c_fc.bias"])
        seen[f"{block}.hidden"] = [hidden]
        x = x + hidden @ m[f"{block}.mlp.c_proj.weight"].T + m[f"{block}.mlp.c_proj.bias"]
    seen["stream"].append(x)
    return {name: [s.reshape(-1, s.shape[-1]) for s in parts] for name, parts in seen.items()}


def attention(q: Tensor, k: Tensor, v: Tensor, heads: int) -> Tensor:
    parts = []
    for a, b, c in zip(q.chunk(heads, -1), k.chunk(heads, -1), v.chunk(heads, -1), strict=True):
        parts.append(torch.softmax(a @ b.transpose(1, 2) / a.shape[-1] ** 0.5, dim=-1) @ c)
    return torch.cat(parts, -1)


def resnet(model: encoders.State, inputs: Tensor, heads: int) -> dict[str, list[Tensor]]:
    """CLIP's ResNet written out; what every set of units answers, (samples, units)."""
    m = {k: v.double() for k, v in model.items()}
    seen: dict[str, Tensor] = {}

    def layer(x: Tensor, conv: str, norm: str, stride: int = 1) -> Tensor:
        weight = m[f"{conv}.weight"]
        x = F.conv2d(x, weight, stride=stride, padding=weight.shape[-1] // 2)
        n = [m[f"{norm}.{k}"] for k in ("running_mean", "running_var", "weight", "bias")]
        return F.batch_norm(x, *n)

    x = seen["stem.1"] = F.relu(layer(inputs.double(), "conv1", "bn1", stride=2))
    x = seen["stem.2"] = F.relu(layer(x, "conv2", "bn2"))
    x = seen["stem.stream"] = F.avg_pool2d(F.relu(layer(x, "conv3", "bn3")), 2)
    for stage in ("layer1", "layer2", "layer3", "layer4"):
        blocks = sorted({k.split(".")[1] for k in m if k.startswith(f"{stage}.")})
        for block in (f"{stage}.{i}" for i in blocks):
            halved = block.endswith(".0") and stage != "layer1"
            pool: Callable[[Tensor], Tensor] = (
                (lambda t: F.avg_pool2d(t, 2)) if halved else (lambda t: t)
            )
            y = seen[f"{block}.first"] = F.relu(layer(x, f"{block}.conv1", f"{block}.bn1"))
            y = seen[f"{block}.second"] = pool(F.relu(layer(y, f"{block}.conv2", f"{block}.bn2")))
            if block.endswith(".0"):
                x = layer(pool(x), f"{block}.downsample.0", f"{block}.downsample.1")
            x = F.relu(x + layer(y, f"{block}.conv3", f"{block}.bn3"))
        seen[f"{stage}.stream"] = x
    found = {name: [t.permute(0, 2, 3, 1).flatten(0, 2)] for name, t in seen.items()}
    places = x.flatten(2).transpose(1, 2)
    tokens = (
        torch.cat([places.mean(1, keepdim=True), places], 1) + m["attnpool.positional_embedding"]
    )
    q, k, v = (
        t @ m[f"attnpool.{n}_proj.weight"].T + m[f"attnpool.{n}_proj.bias"]
        for t, n in ((tokens[:, :1], "q"), (tokens, "k"), (tokens, "v"))
    )
    found["attnpool.queries"] = [q.flatten(0, 1), k.flatten(0, 1)]
    found["attnpool.values"] = [attention(q, k, v, heads).flatten(0, 1)]
    return found
