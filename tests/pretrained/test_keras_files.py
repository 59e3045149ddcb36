"""Keras' files: names and layouts, and files that point elsewhere or declare more than they
hold.
"""

import io
import sys
import zlib

import jax
import numpy as np
import pytest

from covjax.errors import InputError
from covjax.models import create_model
from covjax.pretrained import load_pretrained
from covjax.pretrained.files import read_weights
from tests.pretrained.keras_layout import keras_file
from tests.pretrained.test_files import refused

NAME = "block1_conv1/kernel:0"
h5py = pytest.importorskip("h5py")


def thin(layer, number, name, shape):
    """A value told by place alone; kernels as small as they may be, so that files are."""
    seed = zlib.crc32(f"{layer} {number} {name.split('_')[-1][:2]}".encode())
    return np.full([min(n, 2) if len(shape) > 1 else 2 for n in shape], seed % 1000, np.float32)


@pytest.mark.parametrize("style", ["keras2", "keras1", "keras3", "model"])
def test_names(tmp_path, style):
    (tmp_path / "x.h5").write_bytes(keras_file(thin, style=style))
    file = read_weights(tmp_path / "x.h5")
    # timm's state dict less num_batches_tracked
    assert file.form == "keras" and len(file.state) == 236
    values = {
        "conv1.weight": ("block1_conv1", None, "kernel"),
        "bn2.weight": ("block1_conv2_bn", None, "gamma"),
        "block1.rep.0.conv1.weight": ("block2_sepconv1", None, "depthwise_kernel"),
        "block1.rep.4.bias": ("block2_sepconv2_bn", None, "beta"),
        "block1.skip.weight": ("", 0, "kernel"),
        "block2.skipbn.bias": ("", 1, "beta"),
        "block2.rep.1.pointwise.weight": ("block3_sepconv1", None, "pointwise_kernel"),
        "block5.rep.8.weight": ("block6_sepconv3_bn", None, "gamma"),
        "block12.skip.weight": ("", 3, "kernel"),
        "conv4.pointwise.weight": ("block14_sepconv2", None, "pointwise_kernel"),
        "bn3.weight": ("block14_sepconv1_bn", None, "gamma"),
        "fc.weight": ("predictions", None, "kernel"),
    }
    for key, (layer, number, name) in values.items():
        if style != "keras1" or name in ("gamma", "beta", "depthwise_kernel", "pointwise_kernel"):
            assert file.state[key].flat[0] == thin(layer, number, name, (1,))[0], key


def test_layouts(tmp_path):
    rng = np.random.default_rng(0)
    kept = {}

    def values(layer, number, name, shape):
        kept[layer, number, name] = rng.standard_normal(
            [min(n, 5 - k) for k, n in enumerate(shape)]
        ).astype("f4")
        return kept[layer, number, name]

    (tmp_path / "x.h5").write_bytes(keras_file(values))
    state = read_weights(tmp_path / "x.h5").state
    np.testing.assert_array_equal(
        state["conv1.weight"], kept["block1_conv1", None, "kernel"].transpose(3, 2, 0, 1)
    )
    depthwise = kept["block2_sepconv1", None, "depthwise_kernel"]  # (3, 3, C, 1) -> (C, 1, 3, 3)
    np.testing.assert_array_equal(
        state["block1.rep.0.conv1.weight"], depthwise.transpose(2, 3, 0, 1)
    )
    np.testing.assert_array_equal(state["fc.weight"], kept["predictions", None, "kernel"].T)


def test_without_top(tmp_path):
    (tmp_path / "xception_weights_tf_dim_ordering_tf_kernels_notop.h5").write_bytes(
        keras_file(thin, top=False)
    )
    state = read_weights(next(tmp_path.iterdir())).state
    assert len(state) == 234 and not [key for key in state if key.startswith("fc")]


def made(fill):
    out = io.BytesIO()
    with h5py.File(out, "w") as file:
        fill(file)
    return out.getvalue()


def virtual(file):
    layout = h5py.VirtualLayout((4,), "f4")
    layout[:] = h5py.VirtualSource("/etc/passwd", "x", (4,))
    file.create_virtual_dataset("block1_conv1/kernel:0", layout)


def many_names(file):
    file[NAME] = np.zeros(99_999, np.float32)
    for k in range(9):
        file[f"block1_conv1/{k}_kernel"] = file[NAME]


@pytest.mark.parametrize("top", [True, False])
def test_into_xception(tmp_path, top):
    path = tmp_path / "xception.h5"
    path.write_bytes(
        keras_file(lambda layer, number, name, shape: np.ones(shape, np.float32), top=top)
    )
    model = create_model("xception", num_classes=2, padding="keras")
    variables = jax.eval_shape(
        model.init, jax.random.PRNGKey(0), np.zeros((1, 82, 82, 1), np.float32)
    )
    with pytest.raises(InputError, match="set the model's padding to keras"):
        load_pretrained(create_model("xception", padding="torch"), variables, path)
    if not top:
        with pytest.raises(InputError, match="2 missing .*: -fc.bias, -fc.weight$"):
            load_pretrained(model, variables, path)
    _, record = load_pretrained(model, variables, path, skip=() if top else ["fc.*"])
    assert record["loaded"] == 234 and record["summed"] == ["conv1.weight"]
    assert record["replaced" if top else "skipped"] == ["fc.bias", "fc.weight"]


HOSTILE = {
    "link to a file": (
        lambda f: f.update({"a": h5py.ExternalLink("/etc/passwd", "/")}),
        "link to elsewhere",
    ),
    "link within": (lambda f: f.update({"a": h5py.SoftLink("/")}), "link to elsewhere"),
    "numbers of another file": (
        lambda f: f.create_dataset(NAME, (4,), "f4", external=[("/etc/passwd", 0, 16)]),
        "kept elsewhere",
    ),
    "virtual": (virtual, "kept elsewhere"),
    "compressed": (
        lambda f: f.create_dataset(NAME, data=np.zeros((9, 9), "f4"), compression="gzip"),
        "compressed",
    ),
    "never filled": (lambda f: f.create_dataset(NAME, (2**40,), "f4"), "declares more values"),
    "in pieces": (lambda f: f.create_dataset(NAME, (2**40,), "f4", chunks=(1024,)), "compressed"),
    "one by many names": (many_names, "declares more values"),
    "texts": (lambda f: f.create_dataset(NAME, data=b"text"), "no floating-point numbers"),
    "in a circle": (lambda f: f.update({"block1_conv1/again": f["/"]}), "more groups"),
    "another network": (
        lambda f: f.create_dataset("conv1/kernel:0", data=np.zeros((7, 7, 3, 4), "f4")),
        "Xception",
    ),
    "another leaf": (
        lambda f: f.create_dataset("block1_conv1/axes:0", data=np.zeros(2, "f4")),
        "Xception",
    ),
    "nothing": (lambda f: None, "holds no weights"),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile(tmp_path, name):
    def fill(file):
        if name == "in a circle":
            file.create_group("block1_conv1")
        HOSTILE[name][0](file)

    refused(tmp_path / "x.h5", made(fill), HOSTILE[name][1])


def test_truncated(tmp_path):
    content = keras_file(thin)
    for length in np.linspace(8, len(content) - 1, 50).astype(int):
        refused(tmp_path / "x.h5", content[:length])


def test_without_h5py(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "h5py", None)
    monkeypatch.delitem(sys.modules, "covjax.pretrained.keras_files", raising=False)
    refused(tmp_path / "x.h5", b"\x89HDF\r\n\x1a\n" + bytes(100), "[h5]'")
