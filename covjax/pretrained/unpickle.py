"""A reader of pickles that can build dictionaries of arrays and nothing else.

Python's own unpickler imports and calls whatever a file names. This one interprets the instructions
itself: a name in a file is looked up in the short tables below, whose entries are functions of this
module that only keep numbers. There is no way from a file to any other code, and what is built is
bounded by the length of the pickle.
"""

import math
import pickletools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np

MAX_INSTRUCTIONS = 1_000_000  # a state dict takes some 40 for each tensor
MAX_DIMENSIONS = 8
MAX_MEMBERS = 10_000  # of an archive; the largest networks here have some 1,000 arrays
# The types of storages by name. Two unsigned bytes stand for a bfloat16, which numpy does not have;
# `covjax.pretrained.files` turns them into float32.
DTYPES = {
    f"{module}.{kind}Storage": np.dtype(dtype)
    for module in ("torch", "torch.cuda")
    for kind, dtype in {
        "Double": "<f8",
        "Float": "<f4",
        "Half": "<f2",
        "BFloat16": "<u2",
        "Long": "<i8",
        "Int": "<i4",
        "Short": "<i2",
        "Char": "i1",
        "Byte": "u1",
        "Bool": "u1",
    }.items()
}


class Unreadable(ValueError):
    """A weight file that cannot be used: the reason and the remedy; the caller names the file."""


@dataclass(eq=False)
class Holder:
    """An object of PyTorch or numpy: its array, or None if it holds none."""

    array: Any = None


def shown(name: object) -> str:
    """Returns a name out of a file as it may be printed."""
    text = ascii(name) if isinstance(name, (str, int)) else type(name).__name__
    return text if len(text) <= 80 else text[:77] + ".."


def whole(value: object) -> int:
    """Returns a non-negative int out of a file. Raises ValueError for anything else."""
    if type(value) is not int or not 0 <= value < 2**62:
        raise ValueError(f"{shown(value)} where a size belongs")
    return value


def text(value: object) -> str:
    """Returns a text out of a file. Raises ValueError for anything else.

    What is no text may be a tuple of tuples, which take for ever to hash, print or compare.
    """
    if not isinstance(value, str):
        raise ValueError(f"{shown(value)} where a name belongs")
    return value


def tensor(storage: Any, offset: Any, shape: Any, strides: Any, *_: Any) -> np.ndarray:
    """Returns a view of a storage, a flat array, after checking that the storage holds it.

    Args:
      offset: number of the first value.
      shape, strides: tuples, strides in values.

    Raises ValueError for a view that goes beyond the storage or is none.
    """
    # A view of a view with strides could reach beyond the memory.
    if not isinstance(storage, np.ndarray) or storage.ndim != 1 or not storage.flags.c_contiguous:
        raise ValueError("a tensor without storage")
    if not isinstance(shape, tuple) or not isinstance(strides, tuple):
        raise ValueError("a tensor without shape")
    if not len(shape) == len(strides) <= MAX_DIMENSIONS:
        raise ValueError(f"a tensor of {len(shape)} dimensions and {len(strides)} strides")
    if 0 in shape:
        return storage[:0]  # not weights, but what a checkpoint may also hold
    last = whole(offset) + sum(
        (whole(n) - 1) * whole(stride) for n, stride in zip(shape, strides, strict=True)
    )
    if max(last + 1, math.prod(shape)) > storage.size:
        raise ValueError("a tensor beyond its storage")
    in_bytes = [stride * storage.itemsize for stride in strides]
    return np.lib.stride_tricks.as_strided(storage[offset:], shape, in_bytes, writeable=False)


# Nothing in it may do more than keep its arguments.
CALLABLES: dict[str, Callable[..., object]] = {
    "collections.OrderedDict": lambda: {},
    "torch._utils._rebuild_tensor": tensor,
    "torch._utils._rebuild_tensor_v2": tensor,
    "torch._utils._rebuild_parameter": lambda data, *_: data,
    "torch.nn.parameter.Parameter": lambda data=None, *_: Holder(data),
    "torch.Size": lambda sizes=(): sizes,
    **{name.replace("Storage", "Tensor"): lambda: Holder() for name in DTYPES},
    # numpy's numbers, which training loops keep too, and how their bytes are written
    **{f"numpy.{core}.multiarray.scalar": lambda *_: Holder() for core in ("core", "_core")},
    "numpy.dtype": lambda *_: Holder(),
    "_codecs.encode": lambda *_: Holder(),
}


def _named(module: object, name: object) -> str:
    full = f"{text(module)}.{text(name)}"
    if full not in CALLABLES and full not in DTYPES:
        raise Unreadable(
            f"holds {shown(full)}, which is no weight and is not run; "
            "save the weights alone: torch.save(model.state_dict(), PATH)"
        )
    return full


class _Machine:
    """Stack and memo of one pickle; `outer` holds the stacks below each open mark."""

    def __init__(self, persistent: Callable[[Any], Any]):
        self.stack: list[Any] = []
        self.outer: list[list[Any]] = []
        self.memo: dict[int, Any] = {}
        self.persistent = persistent

    def mark(self) -> None:
        self.outer.append(self.stack)
        self.stack = []

    def since_mark(self) -> list[Any]:
        items = self.stack
        self.stack = self.outer.pop()
        return items

    def last(self, count: int) -> list[Any]:
        return [self.stack.pop() for _ in range(count)][::-1]

    def call(self) -> object:
        function, arguments = self.last(2)
        if not isinstance(arguments, tuple):
            raise ValueError("a call without arguments")
        return CALLABLES[text(function)](*arguments)

    def set_items(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if not isinstance(target, dict) or len(items) % 2:
            raise ValueError("items of what is no dictionary")
        for key, value in zip(items[::2], items[1::2], strict=True):
            if not isinstance(key, (str, int, float)) and key is not None:
                raise ValueError("a key that is no name")  # see `text`
            if key in target:
                raise ValueError(f"{shown(key)} twice")
            target[key] = value

    def extend(self, items: list[Any]) -> None:
        if not isinstance(self.stack[-1], list):
            raise ValueError("elements of what is no list")
        self.stack[-1].extend(items)

    def build(self) -> None:
        """Gives an object its state, as PyTorch's own objects take it."""
        target, state = self.last(2)
        match target, state:
            case Holder(), (storage, offset, shape, strides):
                target.array = tensor(storage, offset, shape, strides)
            case Holder(), (data, _, _, _, _):  # a Parameter before PyTorch 0.1.10
                target.array = data
            case ((Holder() | dict()), _):  # hooks, or the versions of modules
                pass
            case _:
                raise ValueError("a state where none belongs")
        self.stack.append(target)


# What puts one value on the stack; instructions are those of protocols 2 to 5.
_PUSHES: dict[str, Callable[[_Machine, Any], object]] = {
    "NONE": lambda m, _: None,
    "NEWTRUE": lambda m, _: True,
    "NEWFALSE": lambda m, _: False,
    **dict.fromkeys(
        (
            *("BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT"),
            *("BINSTRING", "SHORT_BINSTRING", "BINBYTES", "SHORT_BINBYTES"),
            *("BINUNICODE", "SHORT_BINUNICODE"),
        ),
        lambda m, argument: argument,
    ),
    "EMPTY_DICT": lambda m, _: {},
    "EMPTY_LIST": lambda m, _: [],
    "EMPTY_TUPLE": lambda m, _: (),
    "TUPLE": lambda m, _: tuple(m.since_mark()),
    "TUPLE1": lambda m, _: tuple(m.last(1)),
    "TUPLE2": lambda m, _: tuple(m.last(2)),
    "TUPLE3": lambda m, _: tuple(m.last(3)),
    "GLOBAL": lambda m, names: _named(*names.split(" ", 1)),
    "STACK_GLOBAL": lambda m, _: _named(*m.last(2)),
    "REDUCE": lambda m, _: m.call(),
    "NEWOBJ": lambda m, _: m.call(),
    "BINPERSID": lambda m, _: m.persistent(m.stack.pop()),
    **dict.fromkeys(("BINGET", "LONG_BINGET"), lambda m, index: m.memo[index]),
}
# What only changes what is there.
_CHANGES: dict[str, Callable[[_Machine, Any], None]] = {
    **dict.fromkeys(("PROTO", "FRAME", "STOP"), lambda m, _: None),
    "MARK": lambda m, _: m.mark(),
    **dict.fromkeys(
        ("BINPUT", "LONG_BINPUT"), lambda m, index: m.memo.update({index: m.stack[-1]})
    ),
    "MEMOIZE": lambda m, _: m.memo.update({len(m.memo): m.stack[-1]}),
    "SETITEM": lambda m, _: m.set_items(m.last(2)),
    "SETITEMS": lambda m, _: m.set_items(m.since_mark()),
    "APPEND": lambda m, _: m.extend(m.last(1)),
    "APPENDS": lambda m, _: m.extend(m.since_mark()),
    "BUILD": lambda m, _: m.build(),
}


def no_persistent(_: object) -> object:
    raise ValueError("a reference to outside the pickle")


def read_pickle(stream: BinaryIO, persistent: Callable[[Any], Any] = no_persistent) -> Any:
    """Reads one pickle from where the stream stands, up to its end.

    Args:
      persistent: turns what the pickle says of an object kept outside it into that object.

    Returns dictionaries, lists, tuples, numbers, texts, arrays and their holders. Raises
    Unreadable if the pickle names anything else; if it is damaged, what files.DAMAGE lists.
    """
    machine = _Machine(persistent)
    for count, (instruction, argument, _) in enumerate(pickletools.genops(stream)):
        if count >= MAX_INSTRUCTIONS:
            raise Unreadable(
                f"its pickle has more than {MAX_INSTRUCTIONS:,} instructions, "
                "no state dict is that long"
            )
        if instruction.name in _PUSHES:
            value = _PUSHES[instruction.name](machine, argument)
            machine.stack.append(value)
        elif instruction.name in _CHANGES:
            _CHANGES[instruction.name](machine, argument)
        else:
            raise Unreadable(
                f"its pickle uses {instruction.name}, which no state dict needs; "
                "save the weights alone: torch.save(model.state_dict(), PATH)"
            )
    return machine.stack.pop()
