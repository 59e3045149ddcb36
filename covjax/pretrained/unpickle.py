"""A reader of pickles that can build dictionaries of tensors and nothing else.

Python's own unpickler imports and calls whatever a file names. This one interprets the instructions
itself: a name in a file is looked up in the short table below, whose entries are functions of this
module that only keep numbers. There is no way from a file to any other code, and what is built is
bounded by the length of the pickle.
"""

import pickletools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, BinaryIO

MAX_INSTRUCTIONS = 1_000_000  # a state dict takes some 40 for each tensor
MAX_DIMENSIONS = 8
STORAGE_TYPES = {
    "DoubleStorage": "f8",
    "FloatStorage": "f4",
    "HalfStorage": "f2",
    "BFloat16Storage": "bf16",
    "LongStorage": "i8",
    "IntStorage": "i4",
    "ShortStorage": "i2",
    "CharStorage": "i1",
    "ByteStorage": "u1",
    "BoolStorage": "u1",
}


class Unreadable(Exception):
    """A weight file that cannot be used: the reason and the remedy; the caller names the file."""


@dataclass(eq=False)
class StorageType:
    dtype: str


@dataclass(eq=False)
class Storage:
    """`size` numbers of type `dtype`, kept elsewhere in the file under `key`, from number `start`
    on.
    """

    key: str
    dtype: str
    size: int
    start: int = 0


@dataclass(eq=False)
class Tensor:
    """A view of a storage: first number, and shape and strides in numbers; all of it as the file
    says, unchecked.
    """

    storage: Any = None
    offset: Any = 0
    shape: Any = ()
    strides: Any = ()


@dataclass(eq=False)
class Parameter:
    """What PyTorch before 0.4 saved instead of a tensor."""

    data: Any = None


class Ignored:
    """Stands for a numpy number, which training loops keep beside the weights."""


def shown(name: object) -> str:
    """Returns a name out of a file as it may be printed."""
    text = ascii(name) if isinstance(name, (str, int)) else type(name).__name__
    return text if len(text) <= 80 else text[:77] + ".."


def whole(value: object) -> int:
    """Returns a non-negative int out of a file. Raises ValueError for anything else."""
    if type(value) is not int or not 0 <= value < 2**62:
        raise ValueError(f"{shown(value)} where a size belongs")
    return value


def _rebuild_tensor(storage, offset, shape, strides, *_):
    return Tensor(storage, offset, shape, strides)


# Nothing in it may do more than keep its arguments.
CALLABLES: dict[str, Callable[..., Any]] = {
    "collections.OrderedDict": lambda: {},
    "torch._utils._rebuild_tensor": _rebuild_tensor,
    "torch._utils._rebuild_tensor_v2": _rebuild_tensor,
    "torch._utils._rebuild_parameter": lambda data, *_: data,
    "torch.nn.parameter.Parameter": lambda data=None, *_: Parameter(data),
    "torch.Size": lambda sizes=(): sizes,
    **{f"torch.{name.replace('Storage', 'Tensor')}": lambda: Tensor() for name in STORAGE_TYPES},
    **{f"numpy.{core}.multiarray.scalar": lambda *_: Ignored() for core in ("core", "_core")},
    "numpy.dtype": lambda *_: Ignored(),
    "_codecs.encode": lambda *_: Ignored(),  # how bytes of such a number are written
}


def _named(module: str, name: str) -> Any:
    if module in ("torch", "torch.cuda") and name in STORAGE_TYPES:
        return StorageType(STORAGE_TYPES[name])
    if f"{module}.{name}" not in CALLABLES:
        raise Unreadable(
            f"holds {shown(f'{module}.{name}')}, which is no weight and is not run; "
            "save the weights alone: torch.save(model.state_dict(), PATH)"
        )
    return CALLABLES[f"{module}.{name}"]


def _build(target: Any, state: Any) -> None:
    """Gives an object its state, as far as it is weights."""
    if isinstance(target, Tensor):
        target.storage, target.offset, target.shape, target.strides = state
    elif isinstance(target, Parameter):
        target.data = state[0]  # data, gradient, hooks, ...
    elif not isinstance(target, (dict, Ignored)):  # the former has versions of modules as state
        raise ValueError("a state where none belongs")


def _call(function: Any, arguments: Any) -> Any:
    if function not in CALLABLES.values() or not isinstance(arguments, tuple):
        raise ValueError("a call of what is no function")
    return function(*arguments)


def _set_items(target: Any, items: list) -> None:
    if not isinstance(target, dict) or len(items) % 2:
        raise ValueError("items of what is no dictionary")
    for key, value in zip(items[::2], items[1::2], strict=True):
        # Hashing a deep or shared tuple may take for ever.
        if not isinstance(key, (str, int, float)) and key is not None:
            raise ValueError("a key that is no name")
        if key in target:
            raise ValueError(f"{shown(key)} twice")
        target[key] = value


def _extend(target: Any, items: list) -> None:
    if not isinstance(target, list):
        raise ValueError("elements of what is no list")
    target.extend(items)


class _Machine:
    """Stack and memo of one pickle."""

    def __init__(self, persistent: Callable[[Any], Any]):
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}
        self.persistent = persistent

    def pop(self) -> Any:
        if len(self.stack) <= (self.marks[-1] if self.marks else 0):
            raise ValueError("nothing on the stack")
        return self.stack.pop()

    def pop_mark(self) -> list[Any]:
        start = self.marks.pop()
        items = self.stack[start:]
        del self.stack[start:]
        return items

    def last(self, count: int) -> tuple:
        return tuple(reversed([self.pop() for _ in range(count)]))

    def call(self, _) -> Any:
        function, arguments = self.last(2)
        return _call(function, arguments)

    def dictionary(self, _) -> dict:
        target: dict = {}
        _set_items(target, self.pop_mark())
        return target

    def global_on_stack(self, _) -> Any:
        module, name = self.last(2)
        if not isinstance(module, str) or not isinstance(name, str):
            raise ValueError("a name that is no text")
        return _named(module, name)


def _value(_, argument: Any) -> Any:
    return argument


# What puts one value on the stack.
_PUSHES: dict[str, Callable[[_Machine, Any], Any]] = {
    "NONE": lambda m, _: None,
    "NEWTRUE": lambda m, _: True,
    "NEWFALSE": lambda m, _: False,
    **dict.fromkeys(
        ("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "FLOAT", "BINFLOAT"), _value
    ),
    **dict.fromkeys(
        ("STRING", "BINSTRING", "SHORT_BINSTRING", "BINBYTES", "SHORT_BINBYTES"), _value
    ),
    **dict.fromkeys(("UNICODE", "BINUNICODE", "SHORT_BINUNICODE"), _value),
    "EMPTY_DICT": lambda m, _: {},
    "EMPTY_LIST": lambda m, _: [],
    "EMPTY_TUPLE": lambda m, _: (),
    "DICT": _Machine.dictionary,
    "LIST": lambda m, _: m.pop_mark(),
    "TUPLE": lambda m, _: tuple(m.pop_mark()),
    "TUPLE1": lambda m, _: m.last(1),
    "TUPLE2": lambda m, _: m.last(2),
    "TUPLE3": lambda m, _: m.last(3),
    "GLOBAL": lambda m, names: _named(*names.split(" ", 1)),
    "STACK_GLOBAL": _Machine.global_on_stack,
    "REDUCE": _Machine.call,
    "NEWOBJ": _Machine.call,
    "PERSID": lambda m, key: m.persistent(key),
    "BINPERSID": lambda m, _: m.persistent(m.pop()),
    **dict.fromkeys(("GET", "BINGET", "LONG_BINGET"), lambda m, index: m.memo[index]),
}
# What only changes what is there.
_CHANGES: dict[str, Callable[[_Machine, Any], Any]] = {
    "PROTO": lambda m, _: None,
    "FRAME": lambda m, _: None,
    "STOP": lambda m, _: None,
    "MARK": lambda m, _: m.marks.append(len(m.stack)),
    **dict.fromkeys(
        ("PUT", "BINPUT", "LONG_BINPUT"), lambda m, index: m.memo.update({index: m.stack[-1]})
    ),
    "MEMOIZE": lambda m, _: m.memo.update({len(m.memo): m.stack[-1]}),
    "SETITEM": lambda m, _: (lambda items: _set_items(m.stack[-1], list(items)))(m.last(2)),
    "SETITEMS": lambda m, _: (lambda items: _set_items(m.stack[-1], items))(m.pop_mark()),
    "APPEND": lambda m, _: (lambda items: _extend(m.stack[-1], list(items)))(m.last(1)),
    "APPENDS": lambda m, _: (lambda items: _extend(m.stack[-1], items))(m.pop_mark()),
    "BUILD": lambda m, _: (lambda state: _build(m.stack[-1], state))(m.pop()),
}


def no_persistent(_) -> Any:
    raise ValueError("a reference to outside the pickle")


def read_pickle(stream: BinaryIO, persistent: Callable[[Any], Any] = no_persistent) -> Any:
    """Reads one pickle from where the stream stands, up to its end.

    Args:
      persistent: turns what the pickle says of an object kept outside it into that object.

    Returns dictionaries, lists, tuples, numbers, texts, Storage and Tensor. Raises Unreadable if
    the pickle names anything else, ValueError, LookupError or TypeError if it is damaged.
    """
    machine = _Machine(persistent)
    for count, (instruction, argument, _) in enumerate(pickletools.genops(stream)):
        if count >= MAX_INSTRUCTIONS:
            raise Unreadable(
                f"its pickle has more than {MAX_INSTRUCTIONS:,} instructions, no state dict is that long"
            )
        if instruction.name in _PUSHES:
            machine.stack.append(_PUSHES[instruction.name](machine, argument))
        elif instruction.name in _CHANGES:
            _CHANGES[instruction.name](machine, argument)
        else:
            raise Unreadable(
                f"its pickle uses {instruction.name}, which no state dict needs; "
                "save the weights alone: torch.save(model.state_dict(), PATH)"
            )
    if len(machine.stack) != 1 or machine.marks:
        raise ValueError("a pickle that ends in the middle")
    return machine.stack[0]
