"""Tries a pooling or an unpooling as networks use it, before one is trained with it."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.test_util import check_grads

from covjax.errors import InputError, unknown
from covjax.nn.pooling import Pool, Unpool
from covjax.ops.kept import Kept
from covjax.ops.poolings import POOLING_TABLE
from covjax.ops.unpool import FITS, UNPOOLING_TABLE

SIZES = ((8, 8), (7, 9), (6, 5))  # odd sides too
DEVICES = 4
CONSTANTS = (0.0, 1.0, -2.0)


class Finding(NamedTuple):
    """What a check of an operator found."""

    check: str
    problem: str | None  # None: it passed


class _Operator(NamedTuple):
    """A pooling, alone or before the unpooling under test, as a function of a picture."""

    name: str
    initialise: Callable[[jax.Array], Any]
    apply: Callable[[Any, jax.Array], jax.Array]  # (parameters, x) -> y
    size_of: Callable[[tuple[int, int]], tuple[int, int]]


class _Fault(Exception):
    """What is wrong, in words."""


def check_operator(name: str) -> None:
    """Raises InputError unless a pooling or unpooling does what networks rely on.

    Its checks: `operator_findings`.
    """
    check_findings(name, operator_findings(name))


def check_findings(name: str, findings: list[Finding]) -> None:
    """Raises InputError, with all that failed in one line, unless all checks passed."""
    faults = [finding for finding in findings if finding.problem]
    if faults:
        words = "; ".join(f"{check}: {problem}" for check, problem in faults)
        raise InputError(f"operator '{name}': {words}, mend its function")


def operator_findings(name: str) -> list[Finding]:
    """Returns what each check of a pooling or unpooling found.

    Of pictures with even and odd sides: the shape; the type, float32 and bfloat16 (whose values lie
    within 2 % of the largest of float32's); gradients by input and parameters against finite
    differences in float64; values and gradients that are finite on constant pictures; a sample's
    values that no other sample of the batch changes; the same values under jit; the same values on
    one and on four devices, where these are there.

    Raises InputError for an unknown name.
    """
    operators = list(_operators(name))
    checks = (
        ("shape", _check_shape),
        ("type", _check_type),
        ("gradient", _check_gradient),
        ("constant picture", _check_constant),
        ("batch", _check_batch),
        ("compiled", _check_compiled),
        (f"{DEVICES} devices", _check_devices),
    )
    return [Finding(title, _first_problem(check, operators)) for title, check in checks]


def _first_problem(check: Callable[[_Operator], None], operators: list[_Operator]) -> str | None:
    for operator in operators:
        try:
            check(operator)
        except _Fault as fault:
            return f"{operator.name}: {fault}"
        # what a function of others raises, whatever it is, is what was to be found
        except Exception as error:
            return f"{operator.name}: {type(error).__name__}: {' '.join(str(error).split())[:200]}"
    return None


def _operators(name: str) -> Iterator[_Operator]:
    if name in POOLING_TABLE:
        windows = (2,) if POOLING_TABLE[name].halves else (2, 3)
        for window in windows:
            yield _pooling(name, window, window)
        if POOLING_TABLE[name].smooths:
            yield _pooling(name, 2, 1)
            yield _pooling(name, 3, 1)
    elif name in UNPOOLING_TABLE:
        for pooling in FITS[name][:2]:
            yield _unpooling(name, pooling)
    else:
        raise unknown("operator", name, [*POOLING_TABLE, *UNPOOLING_TABLE])


def _pooling(name: str, window: int, stride: int) -> _Operator:
    layer = Pool(name, window, stride)

    def initialise(x: jax.Array) -> Any:
        return jax.jit(layer.init)(jax.random.key(0), x)

    def apply(parameters: Any, x: jax.Array) -> jax.Array:
        pooled, kept = layer.apply(parameters, x)
        if not isinstance(kept, Kept):
            raise _Fault(f"keeps {type(kept).__name__}, use Switches, HighBands or KeptArrays")
        return pooled

    def size_of(size: tuple[int, int]) -> tuple[int, int]:
        up = stride < window or POOLING_TABLE[name].halves
        height, width = (-(-side // stride) if up else side // stride for side in size)
        return height, width

    return _Operator(f"window {window}, stride {stride}", initialise, apply, size_of)


def _unpooling(name: str, pooling: str) -> _Operator:
    pool = Pool(pooling)
    layer = Unpool(name)

    @jax.jit
    def initialise(x: jax.Array) -> Any:
        below = pool.init(jax.random.key(0), x)
        pooled, kept = pool.apply(below, x)
        above = layer.init(jax.random.key(1), pooled, kept, x.shape[1:3])
        return {"pool": below, "unpool": above}

    def apply(parameters: Any, x: jax.Array) -> jax.Array:
        pooled, kept = pool.apply(parameters["pool"], x)
        y = layer.apply(parameters["unpool"], pooled, kept, x.shape[1:3])
        assert isinstance(y, jax.Array)
        return y

    def size_of(size: tuple[int, int]) -> tuple[int, int]:
        return size

    return _Operator(f"after {pooling}", initialise, apply, size_of)


def _picture(size: tuple[int, int], samples: int = 4, seed: int = 0) -> np.ndarray:
    """Returns random values [N, H, W, 3] of both signs."""
    return np.random.default_rng(seed).normal(size=(samples, *size, 3)).astype(np.float32)


def _started(operator: _Operator) -> tuple[jax.Array, Any]:
    """Returns a picture with an odd side, and the operator's first parameters."""
    x = jnp.asarray(_picture(SIZES[1]))
    return x, operator.initialise(x)


def _check_shape(operator: _Operator) -> None:
    channels = set()
    for size in SIZES:
        x = jnp.asarray(_picture(size))
        y = jax.eval_shape(operator.apply, operator.initialise(x), x)
        wanted = (len(x), *operator.size_of(size))
        if y.shape[:3] != wanted:
            raise _Fault(f"gives {y.shape} of {x.shape}, not {wanted} and channels")
        channels.add(y.shape[3])
    if len(channels) > 1 or (operator.name.endswith("stride 1") and channels != {3}):
        raise _Fault(f"gives {sorted(channels)} channels of 3")


def _check_type(operator: _Operator) -> None:
    x, parameters = _started(operator)
    compiled = jax.jit(operator.apply)
    exact = compiled(parameters, x)
    rough = compiled(parameters, x.astype(jnp.bfloat16))
    for given, y in ((x.dtype, exact), (jnp.dtype(jnp.bfloat16), rough)):
        if y.dtype != given:
            raise _Fault(f"gives {y.dtype} of {given}")
    error = float(jnp.abs(rough.astype(jnp.float32) - exact).max())
    if not error <= 0.02 * float(jnp.abs(exact).max()):
        raise _Fault(f"in bfloat16 values are off by {error:.2g}")


def _check_gradient(operator: _Operator) -> None:
    try:
        with jax.enable_x64(True):
            _compare_gradient(operator, jnp.float64, 1e-5, 1e-4)
    except AssertionError:
        # a function may well compute in float32 whatever it is given
        try:
            _compare_gradient(operator, jnp.float32, 1e-3, 1e-2)
        except AssertionError as error:
            numbers = " ".join(str(error).split())[:120]
            raise _Fault(f"is not that of finite differences ({numbers})") from error


def _compare_gradient(operator: _Operator, dtype: Any, step: float, tolerance: float) -> None:
    """Raises AssertionError unless gradients are those of finite differences."""
    x = jnp.asarray(_picture(SIZES[1], samples=2), dtype)
    start = operator.initialise(x)
    parameters = jax.tree.map(lambda value: value.astype(dtype), start)
    check_grads(
        jax.jit(operator.apply),
        (parameters, x),
        order=1,
        modes=("rev",),
        atol=tolerance,
        rtol=tolerance,
        eps=step,
    )


def _check_constant(operator: _Operator) -> None:
    def mean(parameters: Any, x: jax.Array) -> jax.Array:
        return operator.apply(parameters, x).astype(jnp.float32).mean()

    both = jax.jit(jax.value_and_grad(mean, argnums=(0, 1)))
    parameters = operator.initialise(jnp.asarray(_picture(SIZES[1])))
    for value in CONSTANTS:
        for dtype in (jnp.float32, jnp.bfloat16):
            found = both(parameters, jnp.full((1, *SIZES[1], 3), value, dtype))
            if not all(bool(jnp.isfinite(leaf).all()) for leaf in jax.tree.leaves(found)):
                raise _Fault(f"value or gradient is not finite where all pixels are {value}")


def _check_batch(operator: _Operator) -> None:
    x, parameters = _started(operator)
    compiled = jax.jit(operator.apply)
    together = compiled(parameters, x)
    for k in range(len(x)):
        _compare(compiled(parameters, x[k : k + 1]), together[k : k + 1], "alone in a batch")


def _check_compiled(operator: _Operator) -> None:
    x, parameters = _started(operator)
    compiled = jax.jit(operator.apply)(parameters, x)
    _compare(compiled, operator.apply(parameters, x), "under jit")


def _check_devices(operator: _Operator) -> None:
    devices = jax.local_devices(backend="cpu")[:DEVICES]
    if len(devices) < DEVICES:
        raise _Fault(
            f"not tried, this process has {len(devices)}, start it with "
            f"XLA_FLAGS=--xla_force_host_platform_device_count={DEVICES}"
        )
    x, parameters = _started(operator)
    mapped = jax.pmap(operator.apply, in_axes=(None, 0), devices=devices)
    spread = mapped(parameters, _picture(SIZES[1])[:, None])
    alone = jax.jit(operator.apply)(parameters, x)
    _compare(np.asarray(spread).reshape(alone.shape), alone, f"on {DEVICES} devices")


def _compare(found: Any, wanted: jax.Array, where: str) -> None:
    error = np.abs(np.asarray(found, np.float32) - np.asarray(wanted, np.float32)).max()
    if not error <= 1e-5:
        raise _Fault(f"other values {where}, by up to {error:.2g}")
