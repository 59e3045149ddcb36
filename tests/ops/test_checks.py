"""What functions of arrays say of what they cannot use: one line, in tracing too, and from no
value.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from covjax.errors import InputError
from covjax.models import create_model, list_models, model_class, model_options
from covjax.nn.pooling import Pool, Unpool
from covjax.ops import wavelets
from covjax.ops.pool import parameter_shapes, pool2d
from covjax.ops.poolings import POOLINGS
from covjax.ops.unpool import unpool2d
from covjax.preprocess.enhance import PRESETS, enhance

X = np.random.default_rng(0).random((2, 8, 8, 3), np.float32)
NO_ARRAYS = (None, "a", [[1], [1, 2]], np.array(["a"]), {"a": 1}, object())
NO_IMAGES = (
    *NO_ARRAYS,
    X[0],
    X[0, ..., 0],
    X[None],
    X[:, :0],
    X[..., :0],
    X > 0,
    X.astype(np.int32),
    X + 0j,
    3,
)
NO_NAMES = (None, "", "mx", ["max"], 3, ("max",))
NO_COUNTS = (0, -1, 2.0, "2", None, [2], True, np.nan)
POOLED, KEPT = pool2d(X)
LOW, HIGH = pool2d(X, "haar")
KEYS = jax.random.split(jax.random.key(0), 2)

# function, arguments that are right, and by name of some what is wrong
DOORS = [
    (enhance, {"image": X}, {"image": NO_IMAGES, "preset": NO_NAMES, "gain": NO_NAMES,
     "size": (3, (3,), (3.0, 4.0), (0, 4), (True, 4), "ab", np.array([3, 4]))}),
    (pool2d, {"x": X}, {"x": (*NO_IMAGES, X.astype(np.uint8), X[:, :1]),
     "kind": (*NO_NAMES, "none"),
     "window": (*NO_COUNTS, 12, (2, 2)), "stride": (0, 3, 1.0, "1", True)}),
    (pool2d, {"x": X, "kind": "gated", "parameters": {"gate": np.zeros((2, 2, 3), np.float32)}},
     {"parameters": (None, {}, [1], {"gate": np.zeros((3, 3, 3))}, {"gate": None}, 3)}),
    (pool2d, {"x": X, "kind": "stochastic", "keys": KEYS},
     {"keys": (3, jax.random.key(0), KEYS[:1], jnp.zeros((2, 2)), "a", jax.random.PRNGKey(0),
      [1, 2])}),
    (unpool2d, {"x": POOLED, "kept": KEPT},
     {"x": (*NO_IMAGES, X, POOLED[:, :3]), "kept": (None, HIGH, X, 3), "kind": NO_NAMES,
      "size": ((9, 9), 8, (8,), "ab"), "stride": NO_COUNTS}),
    (unpool2d, {"x": LOW, "kept": HIGH, "kind": "haar"},
     {"x": (*NO_IMAGES, X), "kept": (None, KEPT), "size": ((7, 7),)}),
    (unpool2d, {"x": POOLED, "kind": "nearest", "size": (8, 8)},
     {"x": NO_IMAGES, "kept": (X, 3), "size": ((20, 20), 8, (8,), "ab", (8.0, 8.0), (0, 0)),
      "stride": NO_COUNTS}),
    (unpool2d, {"x": POOLED, "kind": "transposed_conv",
     "parameters": {"kernel": np.zeros((2, 2, 3, 5), np.float32),
     "bias": np.zeros(5, np.float32)}}, {"parameters": (None, [1], {},
     {"kernel": np.zeros((3, 3, 3, 3)),
     "bias": np.zeros(3)}, {"kernel": np.zeros((2, 2, 3, 5)), "bias": 0})}),
    (wavelets.dwt2, {"x": X}, {"x": (*NO_ARRAYS, X[0, 0], X.astype(np.uint8), X + 0j, X[:, :0]),
     "wavelet": (None, "harr", 3, ["haar"], ((np.nan, 1),) * 4, (("a",),) * 4), "mode": NO_NAMES}),
    (wavelets.idwt2, {"bands": (X,) * 4}, {"bands": (None, 3, "abcd", X, (X,) * 3, (X, None, X, X),
     (X, X, X, X[1:]),
     (X.astype(int),) * 4)}),
    (wavelets.dwt, {"x": X}, {"x": NO_ARRAYS, "axis": (7, -5, 1.0, "1", None, True)}),
    (wavelets.idwt, {"low": X, "high": X}, {"low": NO_ARRAYS, "high": (*NO_ARRAYS, X[1:]),
     "axis": (7, 1.0, None)}),
    (wavelets.wavedec2, {"x": X}, {"x": NO_ARRAYS, "level": (0, -1, 1.5, "1", True)}),
    (wavelets.waverec2, {"coeffs": [X, (X, X, X)]},
     {"coeffs": (None, [], "abc", X, [None], [X, X], [X, None], [X, (X, None, X)], [X, (X, X)],
      [X, (X[1:],) * 3])}),
    (create_model, {"name": "unet"},
     {"name": NO_NAMES, "num_classes": (*NO_COUNTS, 1), "task": ("seg", "classification", 3),
     "dtype": ("float16", None, jnp.float32), "remat": ("x", 1, None), "features": (3,)}),
    (list_models, {}, {"task": ("x", ["segmentation"], 3)}),
    (model_options, {"name": "unet"}, {"name": NO_NAMES}),
    (model_class, {"name": "unet"}, {"name": NO_NAMES}),
]  # fmt: skip
WRONG = [
    pytest.param(function, right, name, wrong, id=f"{function.__name__}-{row}-{name}-{k}")
    for row, (function, right, places) in enumerate(DOORS)
    for name, every in places.items()
    for k, wrong in enumerate(every)
]


@pytest.mark.parametrize(("function", "right"), [(function, right) for function, right, _ in DOORS])
def test_what_is_right_is_taken(function, right):
    function(**right)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(("function", "right", "name", "wrong"), WRONG)
def test_what_cannot_be_used_gets_one_line(function, right, name, wrong):
    with pytest.raises(InputError) as error:
        function(**right | {name: wrong})
    message = str(error.value)
    assert "\n" not in message and ":" in message


@pytest.mark.parametrize("name", list_models())
def test_options_of_every_network_are_of_their_kind(name):
    for option, default in model_options(name).items():
        numbers = ("zzz", -1, None, float("nan"), [1]) + (
            () if isinstance(default, float) else (2.5, 0, True)
        )
        wrong = ("zzz", -1, None, 0, 2.5) if isinstance(default, bool) else numbers
        for value in wrong if isinstance(default, bool | int | float) else (3, None, ["max"]):
            with pytest.raises(InputError, match=f"{name}: {option}="):
                create_model(name, **{option: value})
        create_model(name, **{option: default})


@pytest.mark.parametrize(
    "name", ["resnet18", "unet", "fcn8s", "cov_ctnet", "shufflenet_v2_x1_0", "deeplab_v3"]
)
@pytest.mark.parametrize("image", [X[0], X[0, ..., 0], X[..., :0], X.astype(np.uint8)])
def test_networks_take_images_alone(name, image):
    with pytest.raises(InputError):
        jax.eval_shape(lambda: create_model(name).init(jax.random.key(0), image))


@pytest.mark.parametrize(
    "module", [Pool("mx"), Pool("gated", window=0), Pool("gated", window="2"), Pool(["max"])]
)
def test_poolings_of_a_network(module):
    with pytest.raises(InputError, match="pooling"):
        module.init(jax.random.key(0), X)


@pytest.mark.parametrize(
    "module",
    [Unpool("mx"), Unpool("transposed_conv", stride=0), Unpool("transposed_conv", features=0)],
)
def test_unpoolings_of_a_network(module):
    with pytest.raises(InputError, match="unpooling"):
        module.init(jax.random.key(0), POOLED, KEPT, (8, 8))


def test_values_are_not_looked_at():
    """Under jit there are none; NaN passes through, so that a loss shows it."""
    bad = jnp.asarray(X).at[0, 0, 0, 0].set(jnp.nan)
    for kind in POOLINGS:
        shapes = parameter_shapes(kind, 2, 3)
        parameters = {name: jnp.zeros(shape) for name, (_, shape) in shapes.items()}
        jax.jit(
            lambda x, kind=kind, parameters=parameters: pool2d(x, kind, parameters=parameters)[0]
        )(bad)
    for preset in PRESETS:
        jax.jit(lambda x, preset=preset: enhance(x, preset))(bad)
    assert jnp.isnan(jax.jit(wavelets.dwt2)(bad).ll).any()


def test_what_cannot_be_used_is_refused_while_tracing():
    for function in (pool2d, enhance, wavelets.dwt2):
        with pytest.raises(InputError):
            jax.jit(function)(jnp.zeros((2, 2), jnp.int32))
