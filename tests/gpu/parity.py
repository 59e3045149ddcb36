"""Part parity: the same variables and inputs on the CPU and on this machine's accelerator."""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from ml_collections import ConfigDict

from covjax.models import create_model
from covjax.nn.pooling import Pool
from covjax.ops.pool import POOLINGS
from covjax.optim.losses import sample_losses
from covjax.wavelets import dwt2, idwt2
from tests.gpu.findings import Notes, run

# Networks, with the side and channels of their input.
NETWORKS = {
    "cov_raseg": (76, 3),
    "cov_ctnet": (82, 1),
    "unet": (64, 3),
    "resnet18": (82, 1),
    "unet_backbone": (96, 3),
    "efficientnet_lite0": (96, 3),
    "deeplab_v3plus": (96, 3),
    "fcn8s": (64, 3),
    "resnet50": (82, 1),
    "xception": (82, 1),
    "densenet201": (82, 1),
}
# Largest difference by precision, as a share of the largest value. TF32 keeps 10 bits of the
# mantissa of a factor, bfloat16 7.
BOUNDS = {"highest": 1e-4, "tensorfloat32": 2e-2, "bfloat16": 2e-1}
LOSSES = ("cross_entropy", "focal", "dice", "generalized_dice", "tversky", "ce_dice")
WAVELETS = ("haar", "db4", "bior2.2")
RNG = np.random.default_rng(0)
KEYS = {name: jax.random.PRNGKey(0) for name in ("params", "pooling", "dropout")}


def parity(notes: Notes) -> None:
    for wavelet in WAVELETS:
        compare(
            notes, f"dwt2, idwt2 {wavelet}", partial(there_and_back, wavelet), noise(2, 61, 64, 1)
        )
    for pooling in POOLINGS:
        compare(notes, f"pooling {pooling}", partial(pooled, pooling), noise(2, 31, 32, 4))
    for loss in LOSSES:
        compare(notes, f"loss {loss}", partial(loss_and_gradient, loss), noise(2, 24, 24, 2))
    names = list(NETWORKS)[:2] if notes.small else list(NETWORKS)
    for name in names:
        if notes.late(name):
            return
        for precision in BOUNDS if name in list(NETWORKS)[:4] else ("highest",):
            compare_network(notes, name, precision)


def noise(*shape: int) -> jax.Array:
    return jnp.asarray(RNG.normal(size=shape), jnp.float32)


def there_and_back(wavelet: str, x: jax.Array) -> tuple:
    bands = dwt2(x, wavelet)
    return bands, idwt2(bands, wavelet)


def pooled(pooling: str, x: jax.Array) -> tuple:
    """Through the module, which holds the parameters that some poolings learn."""
    module = Pool(pooling)
    variables = module.init(KEYS, x)

    def total(x):
        return (module.apply(variables, x, rngs=KEYS)[0] ** 2).sum()

    return module.apply(variables, x, rngs=KEYS)[0], jax.grad(total)(x)


def loss_and_gradient(name: str, logits: jax.Array) -> tuple:
    settings = ConfigDict(
        dict(name=name, focal_gamma=2.0, tversky_alpha=0.3, tversky_beta=0.7, smooth=1.0)
    )
    truth = (jnp.arange(logits[..., 0].size) % 7 == 0).astype(jnp.int32).reshape(logits.shape[:3])

    def total(logits):
        valid = jnp.ones(len(logits), bool)
        return sample_losses(settings, logits, truth, valid, jnp.asarray([0.6, 2.0]))[0].sum()

    return jax.value_and_grad(total)(logits)


def compare_network(notes: Notes, name: str, precision: str) -> None:
    """The reference is float32, whatever the precision."""
    side, channels = NETWORKS[name]
    x = noise(2, side, side, channels)
    model = create_model(name, num_classes=2)
    dtype = "bfloat16" if precision == "bfloat16" else "float32"
    with jax.default_device(jax.devices("cpu")[0]):
        variables = jax.jit(partial(model.init, train=False))(jax.random.PRNGKey(0), x)
    compare(
        notes,
        f"{name} {precision}",
        partial(logits_and_gradient, create_model(name, num_classes=2, dtype=dtype)),
        variables,
        x,
        precision=precision,
        reference=partial(logits_and_gradient, model),
    )


def logits_and_gradient(model: nn.Module, variables: dict, x: jax.Array) -> tuple:
    def total(params):
        logits = model.apply(variables | {"params": params}, x, train=False)
        return (logits.astype(jnp.float32) ** 2).mean(), logits

    gradient, logits = jax.grad(total, has_aux=True)(variables["params"])
    return logits, gradient


def compare(
    notes: Notes,
    what: str,
    function: Callable,
    *given,
    precision: str = "highest",
    reference: Callable | None = None,
) -> None:
    """Notes the largest difference of a leaf of the result, as a share of its largest value."""
    with notes.attempt(what):
        expected = computed(reference or function, jax.devices("cpu")[0], "highest", given)
        result = computed(function, jax.devices()[0], precision, given)
        pairs = zip(jax.tree.leaves(expected), jax.tree.leaves(result), strict=True)
        worst = max(difference(a, b) for a, b in pairs)
        bound = BOUNDS[precision]
        notes.add(what, difference=worst, bound=bound, within=worst <= bound)


def computed(function: Callable, device: jax.Device, precision: str, given: tuple) -> tuple:
    matmul = "highest" if precision == "highest" else "default"
    with jax.default_matmul_precision(matmul):
        result = jax.jit(function)(*jax.device_put(given, device))
    return jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), result)


def difference(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.abs(a - b).max() / max(1e-30, np.abs(a).max()))


if __name__ == "__main__":
    run(parity)
