"""Part parity: the same variables and inputs on the CPU and on this machine's accelerator."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from covjax.models import create_model
from covjax.nn.pooling import Pool
from covjax.ops.poolings import POOLINGS
from covjax.optim.losses import sample_losses
from covjax.optim.settings import LossSettings
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
# Largest difference by precision, of values and of gradients: in float32 of any value, as a share
# of the largest of its array; in lower precision by the norm of all. TF32 keeps 10 bits of a
# mantissa, bfloat16 7: on a CPU, of networks as initialised, its logits differ by 0.11 and its
# gradients by 0.33 (cov_raseg), because rounding decides which pixel wins a maximum and which ReLU
# lets through.
BOUNDS = {"highest": (1e-4, 1e-4), "tensorfloat32": (2e-2, 2e-2), "bfloat16": (0.2, 0.5)}
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
    """Bands and what is made of them again; the gradient of both."""

    def total(x):
        bands = dwt2(x, wavelet)
        back = idwt2(bands, wavelet)
        cubes = [(values**3).sum() for values in (*bands, back)]
        return sum(cubes), (bands, back)

    gradient, values = jax.grad(total, has_aux=True)(x)
    return values, gradient


def pooled(pooling: str, x: jax.Array) -> tuple:
    """Through the module, which holds the parameters that some poolings learn."""
    module = Pool(pooling)
    variables = module.init(KEYS, x)

    def total(x):
        return (module.apply(variables, x, rngs=KEYS)[0] ** 2).sum()

    return module.apply(variables, x, rngs=KEYS)[0], jax.grad(total)(x)


def loss_and_gradient(name: str, logits: jax.Array) -> tuple:
    settings = LossSettings(name)
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
    """Notes how far the parts of a result differ, see BOUNDS."""
    with notes.attempt(what):
        expected = computed(reference or function, jax.devices("cpu")[0], "highest", given)
        result = computed(function, jax.devices()[0], precision, given)
        measure = largest_difference if precision == "highest" else difference_of_norms
        parts = zip(("", ", gradient"), expected, result, BOUNDS[precision], strict=True)
        for part, reference_part, result_part, bound in parts:
            worst = measure(reference_part, result_part)
            notes.add(f"{what}{part}", difference=worst, bound=bound, within=worst <= bound)


def computed(function: Callable, device: jax.Device, precision: str, given: tuple) -> tuple:
    matmul = "highest" if precision == "highest" else "default"
    with jax.default_matmul_precision(matmul):
        result = jax.jit(function)(*jax.device_put(given, device))
    return jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), result)


def largest_difference(a: Any, b: Any) -> float:
    """Of any array of a tree, as a share of that array's largest value."""
    pairs = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    return max(float(np.abs(x - y).max() / max(1e-30, np.abs(x).max())) for x, y in pairs)


def difference_of_norms(a: Any, b: Any) -> float:
    """Norm of the difference of two trees over that of the first.

    In low precision arrays whose gradient is zero but for rounding differ by all they hold.
    """
    squares = sum(float(np.sum(np.square(x))) for x in jax.tree.leaves(a))
    apart = sum(
        float(np.sum(np.square(x - y)))
        for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    )
    return float(np.sqrt(apart / max(1e-60, squares)))


if __name__ == "__main__":
    run(parity)
