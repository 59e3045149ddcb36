"""Every form of weight file, written by hand and by PyTorch, and everything else that is saved as
one.
"""

import hashlib
import io

import numpy as np
import pytest
import safetensors.numpy

from covjax.errors import InputError
from covjax.pretrained.files import read_weights
from tests.pretrained.formats import (
    FORMS,
    ORDERED,
    Call,
    Global,
    Reference,
    legacy_of,
    pickled,
    tar_file,
    tensor,
    zip_of,
)

RNG = np.random.default_rng(0)
STATE = {
    "conv1.weight": RNG.standard_normal((4, 3, 3, 3)).astype(np.float32),
    "bn1.running_var": RNG.random(4).astype(np.float32),
    "bn1.num_batches_tracked": np.int64(7) + np.zeros((), np.int64),
    "fc.weight": RNG.standard_normal((2, 5)).astype(np.float32),
    "scalar": np.full((), 0.5, np.float32),
}
WRAPS = {
    "bare": lambda state: state,
    "ordered": lambda state: Call(
        Global("collections", "OrderedDict"), (), state and {"_metadata": {"": {"version": 1}}}
    ),
    "checkpoint": lambda state: {
        "epoch": 3,
        "state_dict": state,
        "best": 0.5,
        "lr": [0.1, None, (True, -5)],
    },
    "nested": lambda state: {
        "model": {"state_dict": state},
        "optimizer": {"state": {0: {"step": 1.0}}},
    },
}


def read(path, content):
    path.write_bytes(content)
    return read_weights(path).state


def refused(path, content, *words):
    """One line that names the file and says `words`."""
    path.write_bytes(content)
    with pytest.raises(InputError) as error:
        read_weights(path)
    message = str(error.value)
    assert (
        message.startswith(f"{path}: ")
        and "\n" not in message
        and len(message) < 500 + len(str(path))
    ), message
    assert message.isascii() and message.isprintable(), message
    assert all(word in message for word in words), message


def same(state, want, decimals=None):
    want = {name: array for name, array in want.items() if not name.endswith("num_batches_tracked")}
    assert state.keys() == want.keys()
    for name, array in want.items():
        assert state[name].dtype == np.float32 and state[name].shape == array.shape
        np.testing.assert_array_equal(state[name], array if decimals is None else decimals(array))


KINDS = {
    "f4": None,
    "f8": None,
    "f2": lambda a: a.astype(np.float16).astype(np.float32),
    "bf16": lambda a: (a.reshape(-1).view(np.uint32) >> 16 << 16).view(np.float32).reshape(a.shape),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", KINDS)
def test_forms_and_types(tmp_path, form, kind):
    same(read(tmp_path / "w.pth", FORMS[form](STATE, kind)), STATE, KINDS[kind])


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("wrap", ["bare", "checkpoint", "nested"])
def test_checkpoints(tmp_path, form, wrap):
    same(read(tmp_path / "w.pth", FORMS[form](STATE, wrap=WRAPS[wrap])), STATE)


def test_ordered_dictionaries_with_state(tmp_path):
    """What `state_dict()` returns: an OrderedDict, filled, then given an attribute."""
    from tests.pretrained.formats import Raw, _encoded, stored

    item = tensor("0", "f4", (2, 2))
    body = (
        _encoded(ORDERED)
        + b"("
        + _encoded("w")
        + _encoded(item)
        + b"u"
        + _encoded({"_metadata": {}})
        + b"b"
    )
    content = np.arange(4, dtype=np.float32).reshape(2, 2)
    same(
        read(tmp_path / "w.pth", zip_of(pickled(Raw(body)), {"0": stored(content, "f4")})),
        {"w": content},
    )


def test_parameters_of_old_files(tmp_path):
    same(read(tmp_path / "w.pth", tar_file(STATE, parameters=True)), STATE)


STORED = Reference(("storage", Global("torch", "FloatStorage"), "0", "cpu", 2, None))
STATES = {
    "tensor before 0.1.12": Call(Global("torch", "FloatTensor"), (), (STORED, 0, (2,), (1,))),
    "parameter before 0.1.10": Call(
        Global("torch.nn.parameter", "Parameter"), (), (STORED, None, ORDERED, True, False), b"\x81"
    ),
    "parameter before 0.4": Call(
        Global("torch.nn.parameter", "Parameter"), (STORED,), (True, False, ORDERED)
    ),
}


@pytest.mark.parametrize("kind", STATES)
def test_states_of_old_objects(tmp_path, kind):
    """As torch.Tensor.__setstate__ takes them."""
    storage = (2).to_bytes(8, "little") + np.float32([1, 2]).tobytes()
    content = legacy_of({"w": STATES[kind]}, {"0": storage})
    same(read(tmp_path / "w.pth", content), {"w": np.float32([1, 2])})


def test_an_empty_tensor_beside_the_weights(tmp_path):
    names = {"model": {"w": tensor("0", "f4", (1,))}, "empty": tensor("1", "f4", (0,))}
    content = zip_of(pickled(names), {"0": np.float32([5]).tobytes(), "1": b""})
    same(read(tmp_path / "w.pth", content), {"w": np.float32([5])})


def test_views_of_one_storage(tmp_path):
    base = np.arange(24, dtype=np.float32)
    names = {
        "transposed": tensor("0", "f4", (4, 3), size=24, offset=12, strides=(1, 4)),
        "last": tensor("0", "f4", (2,), size=24, offset=22),
    }
    state = read(tmp_path / "w.pth", zip_of(pickled(names), {"0": base.tobytes()}))
    same(state, {"transposed": base[12:].reshape(3, 4).T, "last": base[22:]})
    storage = ("0", 12, 12)
    older = {"w": tensor("0", "f4", (3,), size=24, offset=2, view=(("7", *storage[1:]),))}
    state = read(
        tmp_path / "w.pth", legacy_of(older, {"0": (24).to_bytes(8, "little") + base.tobytes()})
    )
    same(state, {"w": base[14:17]})


def test_big_endian_zip(tmp_path):
    content = zip_of(
        pickled({"w": tensor("0", "f4", (3,))}), {"0": np.arange(3, dtype=">f4").tobytes()}
    )
    content = content.replace(b"little", b"bigend")  # checksums are of the former
    refused(tmp_path / "w.pth", content, "checksum of 'archive/byteorder'")
    import tests.pretrained.formats as formats

    out = io.BytesIO()
    with formats.zipfile.ZipFile(out, "w") as archive:
        archive.writestr("a/data.pkl", pickled({"w": tensor("0", "f4", (3,))}))
        archive.writestr("a/byteorder", "big")
        archive.writestr("a/data/0", np.arange(3, dtype=">f4").tobytes())
    same(read(tmp_path / "w.pth", out.getvalue()), {"w": np.arange(3, dtype=np.float32)})
    refused(
        tmp_path / "w.pth", legacy_of({"w": tensor("0", "f4", (1,))}, little=False), "big-endian"
    )


def test_safetensors(tmp_path):
    floats = {name: array for name, array in STATE.items() if array.dtype == np.float32}
    same(read(tmp_path / "m.safetensors", safetensors.numpy.save(floats)), floats)
    half = {name: array.astype(np.float16) for name, array in floats.items()}
    same(read(tmp_path / "m.safetensors", safetensors.numpy.save(half)), floats, KINDS["f2"])
    refused(tmp_path / "m.safetensors", safetensors.numpy.save({}), "no weights")
    refused(
        tmp_path / "m.safetensors",
        safetensors.numpy.save({"w": np.zeros(2, np.uint16)}),
        "'w'",
        "'U16'",
    )


@pytest.mark.parametrize("kind", ["float16", "bfloat16", "float64"])
def test_safetensors_by_pytorch(tmp_path, kind):
    torch = pytest.importorskip("torch")
    from safetensors.torch import save_file

    want = {"w": torch.tensor(STATE["fc.weight"]).to(getattr(torch, kind))}
    save_file(want, tmp_path / "w.safetensors")
    same(read_weights(tmp_path / "w.safetensors").state, {"w": want["w"].float().numpy()})


@pytest.mark.parametrize(
    "options", [{}, {"_use_new_zipfile_serialization": False}], ids=["zip", "legacy"]
)
def test_files_of_pytorch(tmp_path, options):
    torch = pytest.importorskip("torch")
    layer = torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.Linear(4, 2)
    )
    shared = torch.arange(20.0)
    cases = [
        layer.state_dict(),
        dict(layer.named_parameters()),
        {name: value.half() for name, value in layer.state_dict().items()},
        {name: value.bfloat16() for name, value in layer.named_parameters()},
        {
            "nhwc": torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last),
            "view": shared[5:9],
            "whole": shared,
        },
    ]
    for case in cases:
        for wrapped in (
            case,
            {
                "state_dict": case,
                "best": np.float64(0.5),
                "optimizer": {"lr": 0.1, "size": torch.Size([1])},
            },
        ):
            torch.save(wrapped, tmp_path / "w.pth", **options)
            floats = {
                k: v.detach().float().numpy() for k, v in case.items() if not k.endswith("tracked")
            }
            same(read_weights(tmp_path / "w.pth").state, floats)
    torch.save(layer, tmp_path / "w.pth", **options)
    with pytest.raises(InputError, match="save the weights alone"):
        read_weights(tmp_path / "w.pth")


def test_checksum_in_the_name(tmp_path):
    content = FORMS["zip"](STATE)
    digest = hashlib.sha256(content).hexdigest()
    for length in (8, 10, 64):
        read(tmp_path / f"net-{digest[:length]}.pth", content)
    for name in ("net-v2.pth", "net-1234567.pth", "net.pth", "a-net-large.pth"):  # no checksum
        read(tmp_path / name, content)
    wrong = f"{int(digest[:8], 16) ^ 1:08x}"
    refused(tmp_path / f"net-{wrong}.pth", content, wrong, digest[:8], "download it again")
    read(tmp_path / f"net-{digest[:8]}.pth", content)
    refused(tmp_path / f"net-{digest[:8]}.pth", content + b" ", "its name says")


OTHERS = {
    "empty": (b"", "is empty"),
    "page": (
        b"\n<!DOCTYPE html><html><body>404</body></html>",
        "web page, not weights; download it again",
    ),
    "xml": (b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>', "web page"),
    "lfs": (
        b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12\n",
        "Git LFS pointer",
    ),
    "text": (b"Not Found", "is no weight file"),
    "picture": (b"\x89PNG\r\n\x1a\n" + bytes(300), "is no weight file"),
    "no weights": (zip_of(pickled({"epoch": 3})), "holds no weights by name"),
    "list": (
        zip_of(pickled([tensor("0", "f4", (1,))]), {"0": bytes(4)}),
        "holds no weights by name",
    ),
    "another zip": (
        FORMS["zip"](STATE).replace(b"data.pkl", b"data.pkx"),
        "no weights of torch.save",
    ),
    "program": (zip_of(pickled({}), more=[("archive/code/a.py", "")]), "TorchScript"),
    "another tar": (
        FORMS["tar"](STATE).replace(b"tensors\0", b"tensorz\0"),
        "no weights of torch.save",
    ),
    "another pickle": (pickled({"w": 1}), "not of torch.save"),
    "not finite": (
        FORMS["zip"]({"w": np.array([1, np.nan], np.float32)}),
        "'w' in it holds values that are not finite",
    ),
    "too large": (FORMS["zip"]({"w": np.array([1e300])}, "f8"), "not finite"),
}


@pytest.mark.parametrize("name", OTHERS)
def test_what_is_no_weight_file(tmp_path, name):
    content, words = OTHERS[name]
    refused(tmp_path / "w.pth", content, words)


def test_paths(tmp_path):
    (tmp_path / "dangling").symlink_to("nowhere")
    for path in (tmp_path, tmp_path / "none.pth", tmp_path / "dangling"):
        with pytest.raises(InputError, match="is not a file"):
            read_weights(path)
