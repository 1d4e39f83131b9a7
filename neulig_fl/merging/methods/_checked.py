"""What state dicts must be to be merged: alike and finite; and which of their entries are tied."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from neulig_fl.core.errors import InputError
from neulig_fl.models.checkpoints import floats

StateDict = Mapping[str, Tensor]

_WHOLE = (torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)


def require_alike(first: str, wanted: StateDict, name: str, model: StateDict) -> None:
    """Check that two state dicts have the same entries, of the same shapes and dtypes.

    Raises:
        InputError: they have not; the message names what differs.
    """
    missing = [key for key in wanted if key not in model]
    extra = [key for key in model if key not in wanted]
    for what, keys in (("lacks", missing), ("has besides", extra)):
        if keys:
            shown = ", ".join(keys[:5]) + (", ..." if len(keys) > 5 else "")
            raise InputError(f"{name} {what} {shown}; every model has the entries of {first}")
    for key, value in wanted.items():
        mine = (tuple(model[key].shape), model[key].dtype)
        if mine != (tuple(value.shape), value.dtype):
            shape = f"{tuple(value.shape)} {value.dtype}"
            raise InputError(f"{name}: {key} is {mine[0]} {mine[1]}; in {first} it is {shape}")


def require_finite(whose: str, tensors: StateDict) -> None:
    """Check that floating tensors are finite, also as float32: a rule can hide a NaN or spread it.

    Args:
        whose: they are, for the error.
        tensors: by name.

    Raises:
        InputError: one is not, or is no tensor of a kind that can be merged.

    Example:
        >>> require_finite("ada", {"w": torch.tensor([1.0, float("nan")])})
        Traceback (most recent call last):
        ...
        neulig_fl.core.errors.InputError: ada: w holds 1 of 2 values that are not finite numbers \
in float32; merge without ada, or with other values of it
    """
    for name, value in tensors.items():
        _require_kind(whose, name, value)
        if value.is_floating_point():
            finite = torch.isfinite(value.float())
            if not finite.all():
                bad = f"{int((~finite).sum())} of {value.numel()} values"
                what = f"{whose}: {name} holds {bad} that are not finite numbers in float32"
                raise InputError(f"{what}; merge without {whose}, or with other values of it")


def require_state_dict(whose: str, model: object) -> None:
    """Check that something is a state dict: names, and tensors of which some are floating.

    Args:
        whose: it is, for the error.
        model: what was given.

    Raises:
        InputError: it is not.
    """
    if not isinstance(model, Mapping):
        hint = "pass its `state_dict()`" if isinstance(model, nn.Module) else "pass a state dict"
        raise InputError(f"{whose} is {_kind(model)}, not names and tensors; {hint}")
    odd = [name for name in model if not isinstance(name, str)]
    if odd:
        raise InputError(f"{whose}: {odd[0]!r} is no name; pass what `model.state_dict()` gives")
    inner = next((name for name, v in model.items() if isinstance(v, Mapping)), None)
    if inner is not None and not any(isinstance(v, Tensor) for v in model.values()):
        raise InputError(f"{whose} holds dicts and no tensors; pass what is under {inner!r}")
    if all(isinstance(v, Tensor) and v.dtype in _WHOLE for v in model.values()):
        raise InputError(
            f"{whose} has no floating tensor, so that nothing can be merged; pass a state dict"
        )


def _require_kind(whose: str, name: str, value: object) -> None:
    """Numbers of a quantised model, without a device, or none at all have no mean."""
    if isinstance(value, np.ndarray):
        advice = "make tensors of all arrays (`torch.from_numpy`)"
    elif not isinstance(value, Tensor):
        advice = "leave it out of all state dicts, and put it back into the merged one"
    elif value.is_complex() or value.layout != torch.strided:
        advice = "give it as a dense tensor of reals, or leave it out"
    elif value.is_quantized or (value.is_floating_point() and value.dtype not in floats()):
        advice = "take the float weights that it was made from, or cast it before (`.float()`)"
    elif value.is_meta:
        advice = "load the model's numbers first"
    else:
        return
    allowed = ", ".join(str(each).removeprefix("torch.") for each in floats())
    raise InputError(
        f"{whose}: {name} is {_kind(value)}; merging takes dense tensors of reals ({allowed}, or "
        f"whole numbers, which are not merged); {advice}"
    )


def _kind(value: object) -> str:
    """What something is, in words.

    Example:
        >>> _kind({}), _kind(torch.zeros(1, device="meta"))
        ('dict', 'torch.float32 without numbers (device meta)')
    """
    if not isinstance(value, Tensor):
        return type(value).__name__
    if value.layout != torch.strided:
        return f"{value.dtype} {value.layout}"
    return f"{value.dtype} without numbers (device meta)" if value.is_meta else str(value.dtype)


def tied(models: Sequence[StateDict], network: nn.Module | None) -> dict[str, str]:
    """Entries that are one tensor under several names, such as an embedding and an output layer.

    Two names of a network share memory. Without a network, entries are tied if they are equal in
    every model though the models differ there: files hold no more of a tie than that.

    Args:
        models: the experts', and theta_0's.
        network: which has such state dicts; None where there is none.

    Returns:
        For every such entry but the first, the first one's name.

    Raises:
        InputError: two names are one in the network and differ in a model.

    Example:
        >>> one, two = torch.tensor([1.0, 2.0]), torch.tensor([1.0, 3.0])
        >>> tied([{"in": one, "out": one}, {"in": two, "out": two}], None)
        {'out': 'in'}
    """
    found: dict[str, str] = {}
    first: dict[tuple[object, ...], list[str]] = {}
    known = models[0] if network is None else network.state_dict()
    for name in (name for name, value in models[0].items() if value.is_floating_point()):
        if name not in known:
            continue
        same = first.setdefault(_key(known[name].detach(), network is not None), [])
        if network is not None:
            match = next(iter(same), None)
        else:
            match = next((other for other in same if _equal(models, other, name)), None)
        if match is None:
            same.append(name)
        elif all(torch.equal(model[match], model[name]) for model in models):
            found[name] = match
        else:
            raise InputError(
                f"{name} is {match} in the architecture, and other numbers in the models; "
                "give the architecture that they have"
            )
    return found


def _key(value: Tensor, by_memory: bool) -> tuple[object, ...]:
    """Alike for tied tensors: where they lie in memory, or what can be said quickly of them."""
    if by_memory:
        return (value.data_ptr() or id(value), tuple(value.shape), value.stride())
    return (tuple(value.shape), value.dtype, float(value.sum(dtype=torch.float64)))


def _equal(models: Sequence[StateDict], one: str, other: str) -> bool:
    """Whether two entries are equal in every model, and the models differ in them."""
    same = all(torch.equal(model[one], model[other]) for model in models)
    return same and any(not torch.equal(model[one], models[0][one]) for model in models)
