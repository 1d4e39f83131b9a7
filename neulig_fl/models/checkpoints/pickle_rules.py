"""What a pickle of weights may name, and what becomes of it: nothing is imported, nothing called.

Two lists. `CALLS` has the few functions that a pickle of tensors is made with; each has a meaning
of our own here. What else of Python's library or of torch a pickle may name, without calling it, is
in `_MENTIONED`. Names of other packages are the model's classes; they may be named, and are never
called: an instance is a stand-in that holds its attributes.
"""

from __future__ import annotations

import _compat_pickle
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from neulig_fl.models.checkpoints import storages
from neulig_fl.models.checkpoints.contents import StoredTensor
from neulig_fl.models.checkpoints.storages import Malformed, Storage


class Refused(Exception):
    """A pickle names or calls what weights do not need; the message is the dotted name."""


class Global:
    """A name in a pickle. It is not imported."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name


class StandIn:
    """An object in a pickle: the name of its class and its attributes, without any behaviour."""

    __slots__ = ("kind", "state")

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.state: dict[str, Any] = {}


@dataclass
class Means:
    """What the calls of one pickle may use.

    Args:
        loads: reads a storage that the pickle holds as the bytes of a torch file of its own.
        left: bytes that its calls may still make; a pickle could ask for the same ones for ever.
    """

    loads: Callable[[bytes | bytearray], Any]
    left: int

    def spend(self, size: int) -> None:
        """Take some of what is left.

        Raises:
            Malformed: there is not so much.
        """
        self.left -= size
        if self.left < 0:
            raise Malformed("the pickle makes more than its file can hold")


def global_of(module: str, name: str, *, old: bool) -> Global:
    """The name of a pickle, if it may stand there.

    Args:
        module: dotted.
        name: within the module.
        old: protocol 2 and below, where names are Python 2's.

    Raises:
        Refused: it is Python's or torch's and not on a list, or hides an attribute.
    """
    if old:
        newer = _compat_pickle.IMPORT_MAPPING.get(module, module)
        module, name = _compat_pickle.NAME_MAPPING.get((module, name), (newer, name))
    full = f"{module}.{name}"
    top = module.partition(".")[0]
    known = full in CALLS or full in _MENTIONED
    guarded = top in sys.stdlib_module_names or top in _GUARDED
    if "." in name or (guarded and not known and not _of_torch(module, name)):
        raise Refused(full)
    return Global(full)


def _of_torch(module: str, name: str) -> bool:
    if module.startswith(("torch.nn.", "torch.optim.")) or module == "torch._C._nn":
        return True
    return (
        module in ("torch", "torch.storage") and (_storage_type(name) or _dtype(name)) is not None
    )


def call(function: Any, arguments: Any, means: Means) -> Any:
    """What a call in a pickle gives, where the function is on the list.

    Raises:
        Refused: it is not.
        Malformed: the arguments are not the function's.
    """
    if not isinstance(function, Global):
        raise Malformed("something is called that is no function")
    name = function.name
    if name not in CALLS:
        raise Refused(name)
    if not isinstance(arguments, tuple):
        raise Malformed(f"{name} has no arguments")
    try:
        return CALLS[name](means, *arguments)
    except (TypeError, IndexError, ValueError, AttributeError) as error:
        raise Malformed(f"{name} with arguments that are not its own") from error


def stored_type(kind: Any) -> torch.dtype:
    """The dtype of a storage, from the name of its class."""
    found = _storage_type(kind.name.rpartition(".")[2]) if isinstance(kind, Global) else None
    if found is None:
        raise Malformed("a storage of no known type")
    return found


def _storage_type(name: str) -> torch.dtype | None:
    if name == "UntypedStorage":
        return torch.uint8
    return _STORAGES.get(name.removesuffix("Storage")) if name.endswith("Storage") else None


_STORAGES = {
    "Double": torch.float64,
    "Float": torch.float32,
    "Half": torch.float16,
    "BFloat16": torch.bfloat16,
    "Long": torch.int64,
    "Int": torch.int32,
    "Short": torch.int16,
    "Char": torch.int8,
    "Byte": torch.uint8,
    "Bool": torch.bool,
    "QInt8": torch.qint8,
    "QUInt8": torch.quint8,
    "QInt32": torch.qint32,
    "ComplexFloat": torch.complex64,
    "ComplexDouble": torch.complex128,
}


def _dtype(name: str) -> torch.dtype | None:
    found = getattr(torch, name, None) if name.isidentifier() else None
    return found if isinstance(found, torch.dtype) else None


# ---------------------------------------------------------------- what the calls mean
# None copies what it is given: a pickle can call it a million times on the same list.


def _tensor(_: Means, storage: Any, offset: Any, size: Any, stride: Any, *__: Any) -> StoredTensor:
    return storages.tensor(storage, offset, size, stride)


def _typed_tensor(_: Means, *parts: Any) -> StoredTensor:
    storage, offset, size, stride, _grad, _hooks, kind = parts[:7]
    named = _dtype(kind.name.removeprefix("torch.")) if isinstance(kind, Global) else None
    return storages.tensor(storage, offset, size, stride, named)


def _of_subclass(means: Means, function: Any, _: Any, arguments: Any, *__: Any) -> Any:
    return call(function, arguments, means)


def _storage(means: Means, held: Any) -> Any:
    found = means.loads(held) if isinstance(held, bytes | bytearray) else None
    if not isinstance(found, Storage):
        raise Malformed("a storage that is none")
    return found


def _dict(_: Means, given: Any = None) -> dict[Any, Any]:
    if given is not None and not isinstance(given, dict):
        raise Malformed("a dict that is made of something else")
    return {} if given is None else given


def _empty_dict(_: Means, *__: Any) -> dict[Any, Any]:
    return {}


def _list(_: Means, items: Any = None) -> Any:
    return [] if items is None else items


def _encoded(means: Means, text: str, encoding: str = "latin1") -> bytes:
    """Bytes, as pickle's protocols 0 to 2 write them."""
    if encoding != "latin1":
        raise Malformed("bytes in an encoding that is not pickle's")
    means.spend(len(text))
    return text.encode("latin-1")


def _bytes(_: Means, held: Any = b"", *__: Any) -> Any:
    return held if isinstance(held, bytes | bytearray) else b""


def _rebuilt(_: Means, kind: Any, *__: Any) -> StandIn:
    if not isinstance(kind, Global):
        raise Malformed("an object without a class")
    return StandIn(kind.name)


def _first(_: Means, item: Any, *__: Any) -> Any:
    return item


def _nothing(_: Means, *__: Any) -> StandIn:
    return StandIn("")


CALLS: dict[str, Callable[..., Any]] = {
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_tensor_v3": _typed_tensor,
    # Keeps its dtype: what is quantised is refused by name when it is to be used.
    "torch._utils._rebuild_qtensor": _tensor,
    "torch._utils._rebuild_parameter": _first,
    "torch._utils._rebuild_parameter_with_state": _first,
    "torch._tensor._rebuild_from_type": _of_subclass,
    "torch._tensor._rebuild_from_type_v2": _of_subclass,
    "torch.storage._load_from_bytes": _storage,
    "torch.Size": _list,
    "torch.device": _nothing,
    "torch.serialization._get_layout": _nothing,
    # TorchScript's archives; its lists are tagged with their types.
    "torch.jit._pickle.build_intlist": _list,
    "torch.jit._pickle.build_doublelist": _list,
    "torch.jit._pickle.build_boollist": _list,
    "torch.jit._pickle.build_tensorlist": _list,
    "torch.jit._pickle.restore_type_tag": _first,
    # Plain containers and values.
    "collections.OrderedDict": _dict,
    "collections.Counter": _dict,
    "collections.defaultdict": _empty_dict,
    "builtins.set": _list,
    "builtins.frozenset": _list,
    "builtins.bytes": _bytes,
    "builtins.bytearray": _bytes,
    "_codecs.encode": _encoded,
    "copyreg._reconstructor": _rebuilt,
    # What lies about in the attributes of a model and says nothing of its weights.
    "functools.partial": _nothing,
    "pathlib.Path": _nothing,
    "pathlib.PosixPath": _nothing,
    "pathlib.WindowsPath": _nothing,
    "torchvision.transforms.functional.InterpolationMode": _nothing,
    "PIL.Image.Resampling": _nothing,
    "numpy.dtype": _nothing,
    "numpy.core.multiarray.scalar": _nothing,
    "numpy.core.multiarray._reconstruct": _nothing,
    "numpy._core.multiarray.scalar": _nothing,
    "numpy._core.multiarray._reconstruct": _nothing,
}
"""The only functions that a pickle may call, and what each means here."""

_GUARDED = frozenset({"", "__builtin__", "torch", "neulig_fl"})
"""Packages beside Python's own of which a pickle may name only what is on a list."""

_MENTIONED = frozenset(
    {
        "argparse.Namespace",
        "builtins.bool",
        "builtins.dict",
        "builtins.float",
        "builtins.int",
        "builtins.list",
        "builtins.object",
        "builtins.str",
        "builtins.tuple",
        "torch.Tensor",
        "torch._tensor.Tensor",
        "torch.per_channel_affine",
        "torch.per_tensor_affine",
    }
)
"""Names of Python's and torch's that a pickle may mention and not call."""
