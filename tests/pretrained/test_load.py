"""From a weight file into a network: names, layouts, the first and the last layer, and what does
not fit.
"""

import json
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from jax import lax

from covjax.errors import InputError
from covjax.models import create_model, list_models, model_class
from covjax.models.reference import IMAGENET, PublishedClassifier, torch_key
from covjax.nn.layers import Conv, ConvBN
from covjax.pretrained import load_pretrained
from covjax.pretrained.convert import match_state, reference_shapes
from covjax.pretrained.misfit import outline, resembled
from covjax.pretrained.spellings import respelled
from tests.pretrained.formats import zip_file

SIDE = 6
EPSILON = 1e-5


class Small(PublishedClassifier):
    """Every kind of layer that published networks have, small."""

    num_classes: int = 5
    aux: bool = False
    stem: ClassVar[str] = "conv1"
    head: ClassVar[tuple[str, ...]] = ("fc_3", "aux1")
    flattened = {"fc_0": (8, SIDE, SIDE)}
    pretrained_input = IMAGENET

    @nn.compact
    def __call__(self, x, train=False):
        x = ConvBN(4, 3, name="conv1")(x, train=train)
        x = Conv(4, 3, groups=4, use_bias=False, name="layer1_0")(x)
        x = nn.relu(Conv(8, 1, name="layer1_1")(x))
        if self.aux:
            nn.Dense(self.num_classes, name="aux1")(x.mean((1, 2)))
        x = nn.relu(nn.Dense(7, name="fc_0")(x.reshape(len(x), -1)))
        return nn.Dense(self.num_classes, name="fc_3")(x)

    @staticmethod
    def reference_key(path):
        *modules, leaf = path
        modules = {"conv1/conv": ["conv1"], "conv1/bn": ["bn1"]}.get("/".join(modules), modules)
        return torch_key((*modules, leaf))


SHAPES = {
    "conv1.weight": (4, 3, 3, 3),
    **{f"bn1.{leaf}": (4,) for leaf in ("weight", "bias", "running_mean", "running_var")},
    "layer1.0.weight": (4, 1, 3, 3),
    "layer1.1.weight": (8, 4, 1, 1),
    "layer1.1.bias": (8,),
    "fc.0.weight": (7, 8 * SIDE * SIDE),
    "fc.0.bias": (7,),
    "fc.3.weight": (5, 7),
    "fc.3.bias": (5,),
}
AUXILIARY = {"aux1.weight": (5, 8), "aux1.bias": (5,)}


def state_of(shapes, seed=0):
    rng = np.random.default_rng(seed)
    return {
        k: (rng.random(s) + 0.5 if "var" in k else rng.standard_normal(s)).astype("f4")
        for k, s in shapes.items()
    }


def reference_logits(state, x):
    """The network in PyTorch's layout, straight from the definition of its layers; x is [N, C, H,
    W].
    """

    def conv(x, w, groups=1):
        padding = [(w.shape[2] // 2,) * 2] * 2
        numbers = ("NCHW", "OIHW", "NCHW")
        return lax.conv_general_dilated(
            x, w, (1, 1), padding, dimension_numbers=numbers, feature_group_count=groups
        )

    def at(name):
        return state[name].reshape(-1, 1, 1)

    x = conv(x, state["conv1.weight"])
    x = (x - at("bn1.running_mean")) / np.sqrt(at("bn1.running_var") + EPSILON) * at(
        "bn1.weight"
    ) + at("bn1.bias")
    x = conv(np.maximum(x, 0), state["layer1.0.weight"], groups=4)
    x = np.maximum(conv(x, state["layer1.1.weight"]) + at("layer1.1.bias"), 0)
    x = np.maximum(x.reshape(len(x), -1) @ state["fc.0.weight"].T + state["fc.0.bias"], 0)
    return x @ state["fc.3.weight"].T + state["fc.3.bias"]


def fresh(model, channels=3):
    """Variables as initialised, but without the time that compiling the initialisation takes."""
    shapes = jax.eval_shape(model.init, jax.random.PRNGKey(0), jnp.zeros((1, SIDE, SIDE, channels)))
    rng = np.random.default_rng(7)
    return jax.tree.map(lambda leaf: jnp.asarray(rng.random(leaf.shape), leaf.dtype), shapes)


def load(tmp_path, state, model, channels=3, content=None, **options):
    path = tmp_path / "small.pth"
    path.write_bytes(zip_file(state) if content is None else content)
    return load_pretrained(model, fresh(model, channels), path, **options)


def pictures(channels, seed=1):
    return np.random.default_rng(seed).standard_normal((2, SIDE, SIDE, channels)).astype(np.float32)


def near(got, want):
    np.testing.assert_allclose(got, want, rtol=2e-5, atol=2e-5 * np.abs(want).max())


@pytest.mark.parametrize(
    "spelled",
    [
        lambda state: state,
        lambda state: {f"module.{name}": array for name, array in state.items()},
        lambda state: {f"module._orig_mod.{name}": array for name, array in state.items()},
        # a 1x1 convolution as matrix
        lambda state: state | {"layer1.1.weight": state["layer1.1.weight"][:, :, 0, 0]},
        # and the reverse
        lambda state: state | {"fc.0.weight": state["fc.0.weight"].reshape(7, 8, SIDE, SIDE)},
    ],
    ids=["plain", "DataParallel", "compiled", "matrix", "convolution"],
)
def test_logits(tmp_path, spelled):
    state = state_of(SHAPES)
    x = pictures(3)
    variables, record = load(tmp_path, spelled(state), Small())
    near(Small().apply(variables, x), reference_logits(state, x.transpose(0, 3, 1, 2)))
    assert record["loaded"] == len(SHAPES) and not any(
        record[k] for k in ("skipped", "replaced", "unused", "summed")
    )
    assert record["file"] == "small.pth" and len(record["sha256"]) == 64
    assert json.loads(json.dumps(record))["input"] == {
        **IMAGENET._asdict(),
        "mean": [*IMAGENET.mean],
        "std": [*IMAGENET.std],
    }
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(variables))


def test_one_channel_sums_the_colours(tmp_path):
    state = state_of(SHAPES)
    x = pictures(1)
    variables, record = load(tmp_path, state, Small(), channels=1)
    grey_as_rgb = np.repeat(x, 3, -1).transpose(0, 3, 1, 2)
    near(Small().apply(variables, x), reference_logits(state, grey_as_rgb))
    assert record["summed"] == ["conv1.weight"] and record["loaded"] == len(SHAPES)


@pytest.mark.parametrize("channels", [1, 2, 4])
def test_fresh_first_layer(tmp_path, channels):
    variables, record = load(tmp_path, state_of(SHAPES), Small(), channels=channels, first="fresh")
    kernel = variables["params"]["conv1"]["conv"]["kernel"]
    np.testing.assert_array_equal(
        kernel, fresh(Small(), channels)["params"]["conv1"]["conv"]["kernel"]
    )
    assert record["replaced"] == ["conv1.weight"] and not record["summed"]


def test_first_layer_that_fits_is_kept(tmp_path):
    state = state_of(SHAPES)
    variables, record = load(tmp_path, state, Small(), first="fresh")
    kernel = variables["params"]["conv1"]["conv"]["kernel"]
    np.testing.assert_array_equal(kernel, state["conv1.weight"].transpose(2, 3, 1, 0))
    assert not record["replaced"]


def test_other_numbers_of_channels(tmp_path):
    with pytest.raises(
        InputError, match=r"~conv1.weight \[4, 3, 3, 3\] in the file, \[4, 2, 3, 3\] here"
    ):
        load(tmp_path, state_of(SHAPES), Small(), channels=2)
    with pytest.raises(InputError, match=r"^first: 'mean' is unknown, use one of fresh, sum"):
        load(tmp_path, state_of(SHAPES), Small(), first="mean")


def test_head_of_another_number_of_classes(tmp_path):
    state = state_of(SHAPES | AUXILIARY)
    model = Small(num_classes=2, aux=True)
    variables, record = load(tmp_path, state, model)
    assert record["replaced"] == ["aux1.bias", "aux1.weight", "fc.3.bias", "fc.3.weight"]
    before = fresh(model)["params"]
    for name in ("fc_3", "aux1"):
        jax.tree.map(np.testing.assert_array_equal, variables["params"][name], before[name])
    np.testing.assert_array_equal(variables["params"]["fc_0"]["bias"], state["fc.0.bias"])


def test_auxiliary_heads(tmp_path):
    _, record = load(tmp_path, state_of(SHAPES | AUXILIARY), Small())
    assert record["unused"] == ["aux1.bias", "aux1.weight"] and record["loaded"] == len(SHAPES)
    with pytest.raises(InputError, match="2 missing .*: -aux1.bias, -aux1.weight$"):
        load(tmp_path, state_of(SHAPES), Small(aux=True))


def test_what_does_not_fit(tmp_path):
    state = state_of(SHAPES)
    del state["bn1.weight"], state["fc.3.bias"]
    state |= state_of({"se.weight": (3, 3), "layer1.1.bias": (9,), "x\x1b[2J\n": (1,)})
    with pytest.raises(InputError) as error:
        load(tmp_path, state, Small())
    message = str(error.value)
    assert (
        message.startswith(f"{tmp_path / 'small.pth'}: does not fit Small, ")
        and message.isprintable()
    )
    assert "2 missing (-), 2 left over (+), 1 of another shape (~): " in message
    assert message.endswith(
        "-bn1.weight, -fc.3.bias, +se.weight, +x\\x1b[2J\\n, "
        "~layer1.1.bias [9] in the file, [8] here"
    )
    _, record = load(
        tmp_path, state, Small(), skip=["bn1.*", "fc.3.bias", "se.*", "x*", "layer1.1.bias"]
    )
    assert record["skipped"] == [
        "bn1.bias", "bn1.running_mean", "bn1.running_var", "bn1.weight", "fc.3.bias",
        "layer1.1.bias", "se.weight", "x\x1b[2J\n",
    ]  # fmt: skip


def test_an_unknown_prefix_is_named(tmp_path):
    state = {f"query.encoder.{name}": array for name, array in state_of(SHAPES).items()}
    for more in ({}, state_of({"key.bias": (1,)})):
        with pytest.raises(
            InputError, match="does not fit Small, its names begin with 'query.encoder.', save"
        ):
            load(tmp_path, state | more, Small())


def test_long_lists_are_cut_and_kept_for_debugging(tmp_path):
    state = state_of(SHAPES) | state_of({f"more.{k:02}": (1,) for k in range(30)})
    with pytest.raises(
        InputError,
        match=r"30 left over \(\+\): \+more.00, .*, \+more.09 and 20 more \(see --debug\)$",
    ) as error:
        load(tmp_path, state, Small())
    assert "+more.29" in str(error.value.__cause__) and len(str(error.value)) < 400 + len(
        str(tmp_path)
    )


def test_skipped_stay_as_they_were(tmp_path):
    variables, record = load(tmp_path, state_of(SHAPES), Small(), skip=["layer1.*", "fc.?.bias"])
    before = fresh(Small())["params"]
    for name in ("layer1_0", "layer1_1"):
        jax.tree.map(np.testing.assert_array_equal, variables["params"][name], before[name])
    assert record["skipped"] == [
        "fc.0.bias",
        "fc.3.bias",
        "layer1.0.weight",
        "layer1.1.bias",
        "layer1.1.weight",
    ]
    with pytest.raises(InputError, match="the pattern 'layer9.*' skips nothing"):
        load(tmp_path, state_of(SHAPES), Small(), skip=["layer9.*"])
    with pytest.raises(InputError, match="all its weights are skipped"):
        load(tmp_path, state_of(SHAPES), Small(), skip=["*"])


def test_networks_without_published_weights(tmp_path):
    model = create_model("cov_ctnet")
    with pytest.raises(InputError, match="model cov_ctnet: there are no published weights for it"):
        load_pretrained(model, {}, tmp_path / "none.pth")
    with pytest.raises(
        InputError, match="no package holds its weights, only those of efficientnet_lite0"
    ):
        load_pretrained(create_model("resnet18"), {}, "package")


def test_package_that_is_not_installed(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"not installed: .* -m pip install -e '.*\[lite0\]'$"):
        load_pretrained(create_model("efficientnet_lite0"), {}, "package")


PUBLISHED = [
    name for name in list_models("classification") if hasattr(model_class(name), "pretrained_input")
]


@pytest.mark.parametrize("name", [name for name in PUBLISHED if not name.startswith("vgg")])
def test_every_published_network_fits_itself_and_is_recognised(tmp_path, name):
    model, variables = outline(name)
    shapes = reference_shapes(model, variables)
    state = {key: np.zeros(shape, np.float32) for key, shape in shapes.items()}
    _, match = match_state(model, state, variables)
    assert match.fits and match.loaded == sorted(shapes)
    assert not any((match.skipped, match.replaced, match.unused, match.summed))
    assert resembled(state) == name


def test_another_architecture_is_named(tmp_path):
    state = {
        key: np.zeros(shape, np.float32)
        for key, shape in reference_shapes(*outline("resnet18")).items()
    }
    (tmp_path / "net.pth").write_bytes(zip_file(state))
    model, variables = outline("resnet50")
    with pytest.raises(
        InputError, match="does not fit resnet50, it looks like weights of resnet18: 165 missing"
    ):
        load_pretrained(model, variables, tmp_path / "net.pth")


def test_old_names():
    zero = np.zeros(1)
    old = [
        (
            "features.denseblock1.denselayer1.norm.1.weight",
            "features.denseblock1.denselayer1.norm1.weight",
        ),
        (
            "features.denseblock4.denselayer32.conv.2.weight",
            "features.denseblock4.denselayer32.conv2.weight",
        ),
        ("features.transition1.norm.weight", "features.transition1.norm.weight"),
        ("last_linear.bias", "fc.bias"),
        ("layer1.0.bn1.weight", "layer1.0.bn1.weight"),
    ]
    assert list(respelled({name: zero for name, _ in old})) == [name for _, name in old]
    vgg = {
        "features.0.weight": 1,
        "pre_logits.fc1.weight": 2,
        "pre_logits.fc2.bias": 3,
        "head.fc.weight": 4,
    }
    new = ["features.0.weight", "classifier.0.weight", "classifier.3.bias", "classifier.6.weight"]
    assert list(respelled(vgg)) == new
    assert list(respelled({"head.fc.weight": 4})) == ["head.fc.weight"]
    assert respelled({}) == {}
    lite = [
        "_conv_stem.weight",
        "_blocks.0._bn1.bias",
        "_blocks.1._expand_conv.weight",
        "_blocks.15._bn2.bias",
        "_fc.bias",
    ]
    new = [
        "conv_stem.weight",
        "blocks.0.0.bn1.bias",
        "blocks.1.0.conv_pw.weight",
        "blocks.6.0.bn3.bias",
        "classifier.bias",
    ]
    assert list(respelled(dict.fromkeys(lite, zero))) == new
    with pytest.raises(ValueError, match="another name for fc.bias"):
        respelled({"last_linear.bias": zero, "fc.bias": zero})
