"""A classifier's weights into the encoder of a segmentation network: which go where, and what
starts anew.
"""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from covjax.errors import InputError
from covjax.models import create_model
from covjax.pretrained import load_pretrained
from covjax.pretrained.convert import _arranged, match_state, reference_shapes
from covjax.pretrained.misfit import misfit, outline
from covjax.runs.initialise import start_text
from tests.pretrained.formats import zip_file

# Places of the convolutions, stage by stage, in torchvision's lists of layers.
VGG16_BN = ((0, 3), (7, 10), (14, 17, 20), (24, 27, 30), (34, 37, 40))
VGG19_BN = ((0, 3), (7, 10), (14, 17, 20, 23), (27, 30, 33, 36), (40, 43, 46, 49))


def shapes_of(name, channels=3, **options):
    model = create_model(name, **options)
    x = jax.ShapeDtypeStruct((1, 64, 64, channels), jnp.float32)
    shapes = jax.eval_shape(model.init, jax.random.PRNGKey(0), x)
    return model, {kind: shapes[kind] for kind in ("params", "batch_stats") if kind in shapes}


def numbered(classifier):
    """Every array of a classifier's state full of a number of its own."""
    shapes = reference_shapes(*outline(classifier))
    return {
        key: np.broadcast_to(np.float32(n), shape)
        for n, (key, shape) in enumerate(sorted(shapes.items()))
    }


def decoder(convolutions, *more):
    return {
        f"decoder{s}_conv{k}"
        for s, count in enumerate(convolutions, 1)
        for k in range(1, count + 1)
    } | {*more}


@pytest.mark.parametrize(
    ("name", "options", "classifier", "fresh", "begins"),
    [
        ("deeplab_v3", {"backbone": "resnet18"}, "resnet18", {"head"}, ("conv1.", "bn1.", "layer")),
        (
            "deeplab_v3plus",
            {"backbone": "efficientnet_lite0"},
            "efficientnet_lite0",
            {"head"},
            ("conv_stem.", "bn1.", "blocks."),
        ),
        ("deeplab_v1", {}, "vgg16", {"fc6", "fc7", "fc8"}, ("features.",)),
        ("fcn_resnet50", {}, "resnet50", {"last", "logits"}, ("conv1.", "bn1.", "layer")),
        (
            "unet_backbone",
            {},
            "efficientnet_lite0",
            decoder((2,) * 5, "logits"),
            ("conv_stem.", "bn1.", "blocks."),
        ),
        (
            "fcn16s",
            {"hidden": 8},
            "vgg16",
            {"fc6", "fc7", "score", "score_pool4", "enlarge_pool4", "enlarge"},
            ("features.",),
        ),
        ("segnet", {}, "vgg16_bn", decoder((2, 2, 3, 3, 3)), ("features.",)),
        (
            "u_segnet",
            {},
            "vgg16_bn",
            decoder((2, 2, 3), "logits"),
            tuple(
                f"features.{n}."
                for stage in VGG16_BN[:3]
                for place in stage
                for n in (place, place + 1)
            ),
        ),
    ],
)
def test_an_encoder_takes_a_classifiers_weights(name, options, classifier, fresh, begins):
    state = numbered(classifier)
    model, shapes = shapes_of(name, **options)
    variables, match = match_state(model, state, shapes, known=state.keys())
    assert match.fits and set(match.fresh) == fresh
    assert match.loaded == sorted(key for key in state if key.startswith(begins))
    assert match.unused == sorted(state.keys() - set(match.loaded))
    flat = flatten_dict(variables)
    anew = {path for path, leaf in flat.items() if isinstance(leaf, jax.ShapeDtypeStruct)}
    assert {path[1] for path in anew} == fresh and len(flat) - len(anew) == len(match.loaded)
    if name in ("segnet", "u_segnet"):
        for stage, places in enumerate(VGG16_BN[: 3 if name == "u_segnet" else 5], 1):
            for k, place in enumerate(places, 1):
                block = variables["params"][f"encoder{stage}_conv{k}"]
                means = variables["batch_stats"][f"encoder{stage}_conv{k}"]["bn"]["mean"]
                assert block["conv"]["kernel"].max() == state[f"features.{place}.weight"].max()
                assert block["bn"]["bias"].max() == state[f"features.{place + 1}.bias"].max()
                assert means.max() == state[f"features.{place + 1}.running_mean"].max()


def test_vgg19():
    model = create_model("vgg19_seg")
    assert model.encoder == "vgg19_bn"
    for stage, places in enumerate(VGG19_BN, 1):
        for k, place in enumerate(places, 1):
            name = f"encoder{stage}_conv{k}"
            assert model.encoder_path((name, "conv", "bias")) == (f"features_{place}", "bias")
            assert model.encoder_path((name, "bn", "var")) == (f"features_{place + 1}", "var")
    assert model.encoder_path(("decoder5_conv4", "conv", "bias")) is None


def test_dense_layers_become_the_convolutions_of_fcn():
    fcn = create_model("fcn8s", batch_norm=True)
    assert fcn.encoder == "vgg16_bn"
    assert fcn.encoder_path(("fc6", "kernel")) == ("classifier_0", "kernel")
    assert fcn.encoder_path(("fc7", "bias")) == ("classifier_3", "bias")
    rng = np.random.default_rng(0)
    flattened = SimpleNamespace(flattened={"classifier_0": (3, 4, 2)})
    weight = rng.standard_normal((5, 24))
    x = rng.standard_normal((4, 2, 3))
    kernel = _arranged(flattened, ("classifier_0", "kernel"), weight, (4, 2, 3, 5))
    np.testing.assert_allclose(
        np.einsum("hwc,hwcf->f", x, kernel), weight @ x.transpose(2, 0, 1).ravel()
    )
    assert _arranged(flattened, ("classifier_0", "kernel"), weight, (2, 4, 3, 5)) is None


def test_what_is_recorded_told_and_refused(tmp_path, monkeypatch):
    state = {key: np.ones(array.shape, np.float32) for key, array in numbered("resnet18").items()}
    path = tmp_path / "resnet18.pth"
    path.write_bytes(zip_file(state))
    variables, record = load_pretrained(
        *shapes_of("deeplab_v3", channels=1, backbone="resnet18"), path
    )
    assert (variables["params"]["conv1"]["conv"]["kernel"] == 3).all() and record["summed"] == [
        "conv1.weight"
    ]
    assert (record["network"], record["fresh"], record["loaded"]) == ("resnet18", ["head"], 100)
    assert record["unused"] == ["fc.bias", "fc.weight"] and record["input"]["mean"] == (
        0.485,
        0.456,
        0.406,
    )
    line = "segmenter: 100 arrays of resnet18 from resnet18.pth; anew: head"
    assert start_text("segmenter", record, "pretrained") == line
    unlike = "; input.normalize is standardize, these weights expect pretrained"
    assert start_text("segmenter", record, "standardize") == line + unlike
    record |= {"skipped": [f"x{k}" for k in range(9)], "fresh": []}
    assert start_text("segmenter", record, "pretrained").endswith(
        "anew: x0, x1, x2, x3, x4, x5, x6, x7 and 1 more (see init_segmenter.json)"
    )
    # Which network it looks like is found, and tested, elsewhere; it takes tracing those that end
    # in the same layer.
    monkeypatch.setitem(misfit.__globals__, "resembled", lambda state: "resnet18")
    for model, encoder in (("deeplab_v3", "resnet50"), ("u_segnet", "vgg16_bn")):
        wrong = (
            rf"does not fit the encoder of {model}, {encoder}, it looks like weights of resnet18: "
            r".* missing \(-\).*: -"
        )
        with pytest.raises(InputError, match=wrong):
            load_pretrained(*shapes_of(model), path)
    with pytest.raises(InputError, match="model unet: there are no published weights for it"):
        load_pretrained(create_model("unet"), {}, path)
