"""Files made to do harm: nothing in them runs, they get one line, and no more memory than they
fill.
"""

import builtins
import encodings.cp437  # noqa: F401  zipfile imports it late, by exec, which a test forbids
import io
import json
import os
import pickle
import struct
import time
import tracemalloc
import zipfile

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given, settings
from hypothesis import strategies as st

from covjax.errors import InputError
from covjax.pretrained import load_pretrained
from covjax.pretrained.content import Content
from covjax.pretrained.files import read_weights
from covjax.pretrained.torch_files import read_legacy, read_tar
from tests.pretrained.formats import (
    FORMS,
    ORDERED,
    Call,
    Global,
    Raw,
    Reference,
    legacy_file,
    legacy_of,
    pickled,
    tar_of,
    tensor,
    zip_file,
    zip_of,
)
from tests.pretrained.test_files import STATE, refused
from tests.pretrained.test_load import Small, fresh

CONTAINERS = {
    "zip": lambda value: zip_of(pickled(value), {"0": bytes(16)}),
    "legacy": lambda value: legacy_of(value, {"0": struct.pack("<q", 4) + bytes(16)}),
    "tar": lambda value: tar_of(
        {"storages": pickled(0) + pickled([]), "tensors": pickled(0), "pickle": pickled(value)}
    ),
}


def shell(path):
    return Call(Global("os", "system"), (f"touch {path}",))


def calls(path):
    """Pickles that make Python's own unpickler create the file `path`, or that go on to what they
    built.
    """
    evil = f"open({str(path)!r}, 'w').close()"
    evaluated = Call(Global("builtins", "eval"), (evil,))
    return {
        "os.system": shell(path),
        "posix.system": Call(Global("posix", "system"), (f"touch {path}",)),
        "eval": evaluated,
        "exec of Python 2": Call(Global("__builtin__", "exec"), (evil,)),
        "subprocess": Call(Global("subprocess", "call"), (["touch", str(path)],)),
        "nested": Call(
            Call(Global("builtins", "getattr"), (Global("os", "_wrap_close"), "__init__")), (1,)
        ),
        "as a value": {"w": tensor("0", "f4", (4,)), "x": evaluated},
        "as an argument": Call(
            Global("torch._utils", "_rebuild_tensor_v2"), (evaluated, 0, (1,), (1,), False, ORDERED)
        ),
        "as a state": Call(Global("collections", "OrderedDict"), (), evaluated),
        "as a hook": Call(
            Global("torch._utils", "_rebuild_parameter"), (tensor("0", "f4", (4,)), True, evaluated)
        ),
        "as a reference": {"w": Reference(evaluated)},
        "as a type of storage": {
            "w": Reference(("storage", Global("os", "system"), "0", "cpu", 4))
        },
        "object": Call(Global("subprocess", "Popen"), (["touch", str(path)],), None, b"\x81"),
        "instance": Raw(
            b"(" + b"X" + struct.pack("<I", len(evil)) + evil.encode() + b"ibuiltins\neval\n"
        ),
        "stack": Raw(
            b"\x8c\x08builtins\x8c\x04eval\x93X"
            + struct.pack("<I", len(evil))
            + evil.encode()
            + b"\x85R"
        ),
        "dotted": Raw(b"\x8c\x0bcollections\x8c\x1aOrderedDict.__init_subclass\x93)R"),
        "a way round the list": Call(Global("torch._utils", "_rebuild_tensor_v2.__globals__"), ()),
        "extension": Raw(b"\x82\x01"),
    }


NAMES = list(calls("x"))


@pytest.mark.parametrize("container", CONTAINERS)
@pytest.mark.parametrize("name", NAMES)
def test_nothing_runs(tmp_path, container, name, monkeypatch):
    def ran(*_, **__):
        raise AssertionError("code of a weight file ran")

    content = CONTAINERS[container](calls(tmp_path / "ran")[name])
    path = tmp_path / "w.pth"
    path.write_bytes(content)
    monkeypatch.setattr(os, "system", ran)
    monkeypatch.setattr(builtins, "eval", ran)
    monkeypatch.setattr(builtins, "exec", ran)
    monkeypatch.setattr(pickle, "Unpickler", ran)
    with pytest.raises(InputError) as error:
        read_weights(path)
    monkeypatch.undo()
    assert not (tmp_path / "ran").exists()
    assert str(error.value).startswith(f"{path}: ") and "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["os.system", "eval", "as a value", "stack"])
def test_the_attacks_are_real(tmp_path, name):
    """Python's own unpickler runs them."""
    attack = calls(tmp_path / "ran")[name]
    pickler = pickle.Unpickler
    if name == "as a value":
        attack = attack["x"]
    with open(tmp_path / "p", "wb") as out:
        out.write(pickled(attack))
    with open(tmp_path / "p", "rb") as file:
        pickler(file).load()
    assert (tmp_path / "ran").exists()


def test_what_is_named_is_said(tmp_path):
    refused(
        tmp_path / "w.pth",
        zip_of(pickled(shell("x"))),
        "'os.system'",
        "is not run",
        "torch.save(model.state_dict()",
    )
    odd = Call(Global("os\x1b[2J\x07", "a" * 5000), ())
    refused(tmp_path / "w.pth", zip_of(pickled(odd)), "is not run")


W = tensor("0", "f4", (4,))
# pairs of the same pair, 60 deep: 2^60 to hash
SHARED = b"".join(b"q%ch%c\x86" % (k, k) for k in range(60))
ODD = {
    "reference to a text": {"w": Reference("0")},
    "reference to a number": {"w": Reference(3)},
    "reference to a list": {"w": Reference([1])},
    "reference to a module": {
        "w": Reference(("module", Global("collections", "OrderedDict"), "a.py", "code"))
    },
    "reference to little": {"w": Reference(("storage", Global("torch", "FloatStorage")))},
    "key of a storage": {"w": tensor(0, "f4", (4,))},
    "negative size": {"w": tensor("0", "f4", (-4,), size=4)},
    "negative count": {"w": tensor("0", "f4", (4,), size=-4)},
    "negative offset": {"w": tensor("0", "f4", (4,), size=4, offset=-1)},
    "negative stride": {"w": tensor("0", "f4", (4,), size=4, strides=(-1,))},
    "beyond": {"w": tensor("0", "f4", (4,), size=4, offset=1)},
    "stride beyond": {"w": tensor("0", "f4", (2, 2), size=4, strides=(3, 1))},
    "huge storage": {"w": tensor("0", "f4", (2**40,))},
    "huge shape": {"w": tensor("0", "f4", (2**40,), size=4, strides=(0,))},
    "huge numbers": {"w": tensor("0", "f4", (2**70,), size=4, strides=(0,))},
    "many dimensions": {"w": tensor("0", "f4", (1,) * 60, size=4)},
    "strides of another length": {"w": tensor("0", "f4", (4,), size=4, strides=(1, 1))},
    "shape of texts": {"w": tensor("0", "f4", (4,), size="4")},
    "shape of truths": {
        "w": Call(W.function, (W.arguments[0], 0, (True,), (True,), False, ORDERED))
    },
    "unknown storage": {"w": tensor("7", "f4", (4,))},
    "storage elsewhere": {"w": tensor("../../etc/passwd", "f4", (4,))},
    "odd type": {"w": tensor("0", "QInt8Storage", (4,))},
    "two sizes": {"v": tensor("0", "f4", (4,)), "w": tensor("0", "f8", (4,))},
    "state of a tensor": {"w": Call(Global("torch", "FloatTensor"), (), (1, 2))},
    "call of a number": {"w": Call(3, ())},
    "call of a tensor": {"w": Call(W, ())},
    "call without arguments": {"w": Call(W.function, ())},
    "same name twice": Raw(pickled({"w": W})[2:-2] + b"(" + pickled("w")[2:-1] + b"NuN0u"),
    "key that is a tuple": {(1, 2): W},
    "deep tuples as a key": Raw(b"}N" + b"\x85" * 50_000 + b"Ns"),
    "deep lists": Raw(b"]" * 50_000 + b"a" * 49_999),
    "shared tuples as a key": Raw(b"}N\x85" + SHARED + b"Ns"),
    "shared tuples as a reference": Raw(b"}X\1\0\0\0wN\x85" + SHARED + b"Qs"),
    "shared tuples as a key of a storage": {"w": tensor(Raw(b"N\x85" + SHARED), "f4", (4,))},
    "shared tuples as a type": {"w": Reference(("storage", Raw(b"N\x85" + SHARED), "0", "cpu", 4))},
    "shared tuples as a name": Raw(b"N\x85" + SHARED + b"X\1\0\0\0w\x93"),
    "tensor as a storage": {"w": Call(W.function, (
        tensor("0", "f4", (4,), strides=(0,)), 0, (4,), (1,), False, ORDERED
    ))},
    "great memo": Raw(b"Nr\xff\xff\xff\xff"),
    "unfilled memo": Raw(b"h\x07"),
    "great text": Raw(b"X\xff\xff\xff\x7fab"),
    "great number": Raw(b"\x8b\xff\xff\xff\x7f\x01"),
    "great bytes": Raw(b"\x8e" + b"\xff" * 7 + b"\x7f"),
    "great frame": Raw(b"\x95" + b"\xff" * 8 + b"N"),
    "long number": Raw(b"L" + b"9" * 100_000 + b"L\n"),
    "nothing on the stack": Raw(b"0"),
    "no mark": Raw(b"t"),
    "mark below": Raw(b"}(s"),
    "leftovers": Raw(b"NN"),
    "open mark": Raw(b"N("),
    "no instruction": Raw(b"\xff"),
    "endless": Raw(b"]" * 6000 + b"a" * 5999),
    "a list in itself": Raw(b"]q\0h\0a"),
    "a dictionary in itself": Raw(b"}q\0X\5\0\0\0modelh\0s"),
}  # fmt: skip


@pytest.mark.parametrize("container", CONTAINERS)
@pytest.mark.parametrize("name", ODD)
def test_odd_pickles(tmp_path, container, name, monkeypatch):
    if name == "endless":
        monkeypatch.setattr("covjax.pretrained.unpickle.MAX_INSTRUCTIONS", 10_000)
    value = ODD[name]
    if container == "legacy":
        value = with_views(value)
    refused(tmp_path / "w.pth", CONTAINERS[container](value))


def with_views(value):
    """Adds the element that references in older pickles have."""
    if isinstance(value, Reference) and isinstance(value.value, tuple) and len(value.value) == 5:
        return Reference((*value.value, None))
    if isinstance(value, Call):
        return value._replace(arguments=tuple(map(with_views, value.arguments)))
    return {k: with_views(v) for k, v in value.items()} if isinstance(value, dict) else value


def bounded(path, content, share=6, floor=3_000_000):
    """Reads; returns the message or the weights. Memory must stay below `share` times the file's
    length, or `floor`.
    """
    path.write_bytes(content)
    tracemalloc.start()
    try:
        return read_weights(path)
    except InputError as error:
        assert str(error).startswith(f"{path}: ") and "\n" not in str(error)
        return str(error)
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < floor + share * len(content), peak


def test_memory_of_declared_sizes(tmp_path):
    # each is all of the one storage
    many = {f"w{k}": tensor("0", "f4", (1000,)) for k in range(1000)}
    halves = {name: with_type(value, "HalfStorage") for name, value in many.items()}
    attacks = {
        "one storage as many": zip_of(pickled(many), {"0": bytes(4000)}),
        "one storage as many, converted": zip_of(pickled(halves), {"0": bytes(2000)}),
        "memo": zip_of(pickled(Raw(b"Nr\xff\xff\xff\xff"))),
        "text": zip_of(pickled(Raw(b"X\xff\xff\xff\x7fab"))),
        "tar": legacy_of(
            {"w": tensor("0", "f4", (2**50,), view=(None,))}, {"0": struct.pack("<q", 2**50)}
        ),
        "number of tensors": tar_of(
            {"storages": pickled(2**40), "tensors": pickled(0), "pickle": pickled({})}
        ),
    }  # fmt: skip
    for name, content in attacks.items():
        assert isinstance(bounded(tmp_path / "w.pth", content), str), name
    header = b'{"w":{"dtype":"F32","shape":[1099511627776],"data_offsets":[0,4398046511104]}}'
    lying = struct.pack("<Q", len(header)) + header + bytes(8)
    assert "damaged" in bounded(tmp_path / "w.safetensors", lying)
    assert "damaged" in bounded(tmp_path / "w.safetensors", struct.pack("<Q", 2**40) + header)


def with_type(call, kind):
    *first, _, key, location, size = call.arguments[0].value
    changed = Reference((*first, Global("torch", kind), key, location, size))
    return call._replace(arguments=(changed, *call.arguments[1:]))


def test_archives(tmp_path):
    w = {"w": np.arange(4, dtype=np.float32)}
    path = tmp_path / "w.pth"
    refused(path, zip_file(w, compression=zipfile.ZIP_DEFLATED), "compressed")
    bomb = zip_of(pickled({"w": W}), {"0": bytes(50_000_000)}, compression=zipfile.ZIP_DEFLATED)
    assert "compressed" in bounded(path, bomb)
    with pytest.warns(UserWarning, match="Duplicate"):
        twice = zip_file(w, more=[("archive/data.pkl", pickled({}))])
    refused(path, twice, "'archive/data.pkl' twice")
    refused(path, zip_file(w, more=[("other/data.pkl", pickled({}))]), "no weights of torch.save")
    slipping = zip_file(
        w, more=[("../../escaped", b"x"), ("/tmp/escaped", b"x")], folder="../../up"
    )
    path.write_bytes(slipping)  # names lead nowhere
    np.testing.assert_array_equal(read_weights(path).state["w"], w["w"])
    assert [p.name for p in tmp_path.iterdir()] == ["w.pth"]
    content = zip_file(w)
    refused(
        path,
        content.replace(np.float32([0, 1, 2, 3]).tobytes(), np.float32([0, 1, 2, 4]).tobytes()),
        "checksum",
    )
    tar = FORMS["tar"](w)
    path.write_bytes(tar + tar)  # what follows the end is not read
    np.testing.assert_array_equal(read_weights(path).state["w"], w["w"])
    size = tar.index(b"storages") + 124
    refused(path, tar[:size] + b"77777777777\0" + tar[size + 12 :], "damaged")
    refused(path, tar[:size] + b"-0000000777\0" + tar[size + 12 :], "damaged")


def test_members_of_archives_that_lie_in_each_other(tmp_path):
    w = {"w": np.arange(4, dtype=np.float32)}
    content = zip_file(w)
    end = content.index(b"PK\1\2")
    places = content[end:]
    size = struct.pack("<I", content.index(b"archive/data/0") - 30)
    # the storage, said to begin where the file does
    overlapping = places.replace(size, bytes(4), 1)
    assert overlapping != places
    refused(tmp_path / "w.pth", content[:end] + overlapping, "overlaps")
    # what no tensor refers to is not added up
    other = zip_file(w, more=[("archive/data/9", b"unread")]).replace(b"unread", b"UNREAD")
    (tmp_path / "w.pth").write_bytes(other)
    np.testing.assert_array_equal(read_weights(tmp_path / "w.pth").state["w"], w["w"])
    many = zip_file(w, more=[(f"archive/{k}", b"") for k in range(10_001)])
    refused(tmp_path / "w.pth", many, "more than 10,000 files")


def test_only_what_is_kept_is_read(tmp_path):
    names = {"state_dict": {"w": W}, "optimizer": {"m": tensor("1", "f4", (4,))}}
    content = zip_of(pickled(names), {"0": np.ones(4, np.float32).tobytes(), "1": bytes(16)})
    damaged = content[: (place := content.index(bytes(16)))] + b"x" + content[place + 1 :]
    (tmp_path / "w.pth").write_bytes(damaged)  # a checksum of what is not kept is not looked at
    np.testing.assert_array_equal(read_weights(tmp_path / "w.pth").state["w"], np.ones(4))
    many = {f"w{k}": np.zeros(1, np.float32) for k in range(3)}
    (tmp_path / "w.safetensors").write_bytes(safetensors.numpy.save(many))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("covjax.pretrained.files.SPARE_VALUES", 1)
        assert len(read_weights(tmp_path / "w.safetensors", 2).state) == 3
        with pytest.raises(InputError, match="holds 3 values, of which the network needs 1"):
            read_weights(tmp_path / "w.safetensors", 1)


def test_files_larger_than_a_network_needs(tmp_path):
    path = tmp_path / "w.pth"
    with path.open("wb") as file:
        file.truncate(3_000_000_000)
    for arguments in ((), (25_000_000,)):
        with pytest.raises(InputError, match=r"3.0 GB, of which the network needs a fraction"):
            read_weights(path, *arguments)
    with pytest.raises(InputError, match="at most 0.3 GB are read"):
        load_pretrained(Small(), fresh(Small()), path)
    entry = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}
    header = json.dumps({f"w{k}": entry for k in range(70_000)}).encode()
    start = time.monotonic()
    refused(
        path, struct.pack("<Q", len(header)) + header + bytes(4), "more arrays than any network"
    )
    assert time.monotonic() - start < 5


CONTENTS = {name: form(STATE) for name, form in FORMS.items()}
CONTENTS["safetensors"] = safetensors.numpy.save(
    {k: v for k, v in STATE.items() if v.dtype == np.float32}
)


@pytest.mark.parametrize("form", CONTENTS)
def test_truncated(tmp_path, form):
    content = CONTENTS[form]
    # a tar archive ends in empty blocks
    end = len(content.rstrip(b"\0")) if form == "tar" else len(content)
    for length in np.linspace(0, end - 1, 50).astype(int):
        assert isinstance(bounded(tmp_path / "w.pth", content[:length]), str), length


@pytest.mark.parametrize("form", CONTENTS)
@settings(max_examples=150, deadline=None)
@given(
    flips=st.lists(
        st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 7)), min_size=1, max_size=4
    )
)
def test_flipped_bits(tmp_path_factory, form, flips):
    """One line, or weights of the same size: a flip within a value, or in the name of one, cannot
    be seen.
    """
    content = bytearray(CONTENTS[form])
    for place, bit in flips:
        content[int(place * len(content))] ^= 1 << bit
    result = bounded(tmp_path_factory.getbasetemp() / f"{form}.pth", bytes(content))
    if not isinstance(result, str):
        assert sum(a.nbytes for a in result.state.values()) <= 2 * len(content)


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200), st.sampled_from(["zip", "legacy", "tar", "bare"]))
def test_any_bytes_as_a_pickle(tmp_path_factory, content, form):
    value = Raw(content)
    whole = pickled(value) if form == "bare" else CONTAINERS[form](value)
    bounded(tmp_path_factory.getbasetemp() / "any.pth", whole)


def held(content):
    return Content(io.BytesIO(content), len(content))


def test_tuples_in_other_places():
    """Of archives of old: what is no number and no name is not hashed, printed or compared."""
    endless = Raw(b"N\x85" + SHARED)
    float_type = Global("torch", "FloatStorage")
    one = struct.pack("<q", 1) + bytes(4)

    def tar(key=1, kind=float_type, root=1, part=2, name=3, storage=1):
        storages = pickled(1) + pickled((key, "cpu", kind)) + one + pickled([(part, root, 0, 1)])
        tensors = pickled(1) + pickled((name, storage, float_type))
        tensors += struct.pack("<i4x3q", 1, 1, 1, 0)
        return tar_of(
            {
                "storages": storages,
                "tensors": tensors,
                "pickle": pickled({"w": Reference("3")}),
            }
        )

    assert read_tar(held(tar()))["w"].size == 1
    for place in ("key", "kind", "root", "part", "name", "storage"):
        with pytest.raises(ValueError, match="tuple where a"):
            read_tar(held(tar(**{place: endless})))
    weights = {"w": tensor("0", "f4", (1,), view=(None,))}
    content = legacy_of(weights, {"0": one})
    assert read_legacy(held(content))["w"].size == 1
    keys = pickled(["0"])
    with pytest.raises(ValueError, match="tuple where a name belongs"):
        read_legacy(held(content.replace(keys, pickled([endless]))))


def test_legacy_storages(tmp_path):
    content = legacy_file({"w": np.arange(4, dtype=np.float32)})
    refused(
        tmp_path / "w.pth",
        content.replace(struct.pack("<q", 4), struct.pack("<q", 5)),
        "another size",
    )
    refused(
        tmp_path / "w.pth",
        legacy_of({"w": tensor("0", "f4", (4,), view=(None,))}, {"1": bytes(24)}),
        "damaged",
    )
    outside = {"w": tensor("0", "f4", (4,), view=(("9", 3, 4),))}
    refused(
        tmp_path / "w.pth",
        legacy_of(outside, {"0": struct.pack("<q", 4) + bytes(16)}),
        "beyond its storage",
    )
