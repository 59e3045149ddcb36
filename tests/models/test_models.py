"""Both networks of the paper: exact parameter counts, sizes, options, and the order of layers in
its release.
"""

from functools import partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

import covjax.models.segmentation.cov_raseg as cov_raseg
from covjax.errors import InputError
from covjax.models import MODELS, create_model, list_models
from covjax.models.segmentation.cov_raseg import FINALS
from covjax.nn.layers import BatchNorm

CHANNELS = {"cov_ctnet": 1, "cov_raseg": 3}


def variables_of(model, size, channels):
    return jax.eval_shape(model.init, jax.random.PRNGKey(0), jnp.zeros((1, *size, channels)))


def count(model, size, channels):
    return sum(
        int(np.prod(p.shape))
        for p in jax.tree.leaves(variables_of(model, size, channels)["params"])
    )


@pytest.mark.parametrize(
    ("name", "size", "channels", "parameters"),
    [("cov_ctnet", 82, 1, 11_322_762), ("cov_raseg", 304, 3, 373_126)],
)
def test_parameter_counts(name, size, channels, parameters):
    assert count(create_model(name), (size, size), channels) == parameters


@pytest.mark.parametrize("size", [(37, 52), (82, 82), (156, 156), (304, 304), (16, 16), (33, 200)])
@pytest.mark.parametrize("name", CHANNELS)
@pytest.mark.parametrize("train", [False, True])
def test_output_shapes(name, size, train):
    model = create_model(name, num_classes=3)
    variables = variables_of(model, size, CHANNELS[name])
    apply = partial(model.apply, train=train, mutable=["batch_stats"] if train else False)
    rngs = {"dropout": jax.random.PRNGKey(0)}
    out = jax.eval_shape(
        lambda v, x: apply(v, x, rngs=rngs), variables, jnp.zeros((2, *size, CHANNELS[name]))
    )
    logits = out[0] if train else out
    assert logits.shape == ((2, 3) if name == "cov_ctnet" else (2, *size, 3))
    assert logits.dtype == jnp.float32


@pytest.mark.parametrize(("name", "options"), [("cov_ctnet", {}), ("cov_raseg", {"features": 8})])
def test_bfloat16_computes_low_and_returns_float32(name, options, seeded):
    x = seeded[1](2, 36, 36, CHANNELS[name])
    high, low = (create_model(name, dtype=dtype, **options) for dtype in ("float32", "bfloat16"))
    variables = seeded[0](low, CHANNELS[name])  # of the types that init gives
    assert {p.dtype for p in jax.tree.leaves(variables)} == {jnp.dtype("float32")}
    got = jax.jit(low.apply)(variables, x)
    want = jax.jit(high.apply)(variables, x)
    assert got.dtype == jnp.float32
    # On average, because a max-pool may choose another pixel where two are nearly alike.
    error = jnp.abs(got - want).mean() / jnp.abs(want).mean()
    assert 0 < error < 0.1  # not zero: else it computed in float32
    text = jax.jit(low.apply).lower(variables, x).as_text()
    convolutions = [line for line in text.splitlines() if "stablehlo.convolution" in line]
    assert convolutions and all("xbf16>" in line.split("->")[-1] for line in convolutions)


@pytest.mark.parametrize(("name", "size"), [("cov_ctnet", 82), ("cov_raseg", 64)])
def test_remat_halves_activation_memory_and_changes_no_gradient(name, size, seeded, users_fusions):
    x = seeded[1](4, size, size, CHANNELS[name])
    variables = seeded[0](create_model(name), CHANNELS[name])

    def loss(params, model):
        state = {"params": params, "batch_stats": variables["batch_stats"]}
        keys = {"dropout": jax.random.PRNGKey(1)}
        logits, updated = model.apply(state, x, train=True, mutable=["batch_stats"], rngs=keys)
        return jnp.square(logits).mean(), updated

    outcome = []
    memory = []
    for remat in (False, True):
        step = jax.jit(
            jax.value_and_grad(partial(loss, model=create_model(name, remat=remat)), has_aux=True)
        )
        step = step.lower(variables["params"]).compile(users_fusions)
        memory.append(step.memory_analysis().temp_size_in_bytes)
        outcome.append(step(variables["params"]))
    chex.assert_trees_all_close(*outcome, rtol=1e-4, atol=1e-5)
    # before, XLA:CPU merged what was to be computed again with the first time
    if jax.__version_info__ >= (0, 12):
        assert memory[1] < 0.6 * memory[0]


@pytest.mark.parametrize("final", FINALS)
def test_every_final_of_cov_raseg(final, seeded):
    model = create_model("cov_raseg", features=8, final=final)
    x = seeded[1](2, 21, 18, 3)
    variables = seeded[0](model, 3)
    logits = jax.jit(model.apply)(variables, x)
    assert logits.shape == (2, 21, 18, 2) and bool(jnp.isfinite(logits).all())
    if final == "relu":
        assert logits.min() == 0
    if final == "linear":
        assert logits.min() < 0
    if final == "sigmoid2x2":  # the softmax of (0, z) is the sigmoid of z
        assert (logits[..., 0] == 0).all()
        np.testing.assert_allclose(
            jax.nn.softmax(logits)[..., 1], jax.nn.sigmoid(logits[..., 1]), rtol=1e-5
        )
        assert variables["params"]["final_kernel"].shape == (2, 2, 8, 1)


def test_order_of_layers_in_cov_raseg(monkeypatch):
    """The 43 layers of the release: input, 40 below, softmax and the class output."""
    seen = []

    def noting(name, function):
        def call(*args, **kwargs):
            seen.append(name)
            return function(*args, **kwargs)

        return call

    def intercept(call, args, kwargs, context):
        module = context.module
        if context.method_name == "__call__" and isinstance(module, cov_raseg.Conv):
            seen.append(f"conv{module.kernel_size}x{module.features}")
        if context.method_name == "__call__" and isinstance(module, BatchNorm):
            seen.extend(["bn", "relu"] if module.activation else ["bn"])
        if context.method_name == "__call__" and isinstance(module, cov_raseg.Pool):
            seen.append(f"{module.kind}{module.window}/{module.stride or module.window}")
        if context.method_name == "__call__" and isinstance(module, cov_raseg.Unpool):
            seen.append(f"unpool {module.kind}")
        return call(*args, **kwargs)

    monkeypatch.setattr(nn, "relu", noting("relu", nn.relu))
    with nn.intercept_methods(intercept):
        variables_of(create_model("cov_raseg"), (304, 304), 3)
    block = ["conv3x64", "bn", "relu"]
    third = ["conv3x64", "relu"]
    encoder = [*block, *block, "avg2/1", *third, "max2/2"]
    decoder = ["unpool indices", *third, "avg2/1", *block]
    assert seen == [*encoder, *encoder, *decoder, *block, *decoder, "conv3x2", "bn", "relu"]
    assert len(seen) == 43 - 3


def test_initial_values_are_glorot_and_zero():
    model = create_model("cov_raseg", features=16)
    params = jax.jit(model.init)(jax.random.PRNGKey(0), jnp.zeros((1, 8, 8, 3)))["params"]
    kernel = np.asarray(params["encoder1_conv2"]["conv"]["kernel"])
    limit = np.sqrt(6 / (9 * 16 + 9 * 16))
    assert (
        0.95 * limit < np.abs(kernel).max() <= limit
        and abs(kernel.std() - limit / np.sqrt(3)) < 0.05 * limit
    )
    assert not np.asarray(params["encoder1_conv2"]["conv"]["bias"]).any()


@pytest.mark.parametrize("head_relu", [False, True])
def test_penultimate_features_of_cov_ctnet(head_relu, seeded):
    model = create_model("cov_ctnet", head_relu=head_relu)
    x = seeded[1](4, 40, 40, 1)
    variables = seeded[0](model, 1)
    logits, sown = jax.jit(partial(model.apply, mutable=["intermediates"]))(variables, x)
    (features,) = sown["intermediates"]["features"]
    assert features.shape == (4, 64) and (features.min() == 0) == head_relu
    last = variables["params"]["fc3"]
    np.testing.assert_allclose(
        features @ last["kernel"] + last["bias"], logits, rtol=1e-4, atol=1e-4
    )
    assert count(model, (82, 82), 1) == 11_322_762


def test_tasks():
    assert list_models() == sorted(n for table in MODELS.values() for n in table)
    assert "cov_ctnet" in list_models("classification") and "cov_raseg" not in list_models(
        "classification"
    )


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: create_model("cov_rasg"),
            "'cov_rasg' is unknown, use one of .*; did you mean 'cov_raseg'",
        ),
        (
            lambda: create_model("cov_raseg", task="classification"),
            "classification model: 'cov_raseg' is unknown",
        ),
        (lambda: create_model("cov_raseg", task="segmentaton"), "did you mean 'segmentation'"),
        (
            lambda: list_models("regression"),
            "task: 'regression' is unknown, use one of classification, segmentation",
        ),
        (lambda: create_model("cov_raseg", dtype="bfloat6"), "did you mean 'bfloat16'"),
        (
            lambda: create_model("cov_raseg", fetures=8),
            "option of model cov_raseg: 'fetures'.*did you mean 'features'",
        ),
        (
            lambda: create_model("cov_raseg", head_relu=True),
            "'head_relu' is unknown, use one of .*features, final",
        ),
        (lambda: create_model("cov_raseg", final="lineer"), "did you mean 'linear'"),
        (
            lambda: create_model("cov_raseg", final="sigmoid2x2", num_classes=3),
            "'sigmoid2x2' is for 2 classes, not 3",
        ),
        (
            lambda: create_model("cov_raseg", encoder_pooling="har"),
            "encoder_pooling: 'har' .*did you mean 'haar'",
        ),
        (
            lambda: create_model("cov_raseg", encoder_pooling="avg"),
            "'indices' does not fit encoder_pooling 'avg', use n",
        ),
        (
            lambda: create_model("cov_raseg", features=0),
            "cov_raseg: features=0, give a whole number, 1 or more",
        ),
        (
            lambda: create_model("cov_ctnet", num_classes=1),
            "cov_ctnet: num_classes=1, give a whole number, 2 or more",
        ),
        (lambda: variables_of(create_model("cov_raseg"), (3, 9), 3), "smaller than the 2x2 window"),
    ],
)
def test_errors_come_at_once_and_name_the_nearest(call, message):
    with pytest.raises(InputError, match=message):
        call()
