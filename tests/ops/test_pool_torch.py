"""Poolings and unpoolings that PyTorch has, with their gradients, ties included; skipped without
it.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from covjax.ops.grids import grid_of
from covjax.ops.pool import pool2d
from covjax.ops.unpool import unpool2d

torch = pytest.importorskip("torch")
F = torch.nn.functional


def nchw(x):
    return torch.tensor(np.moveaxis(np.asarray(x), -1, 1).copy(), requires_grad=True)


def nhwc(x):
    return np.moveaxis(x.detach().numpy(), 1, -1)


def compare(ours, theirs, x, *parameters):
    """Values and the gradients of x and of parameters, which are of PyTorch's layout on both
    sides.
    """
    out = jax.eval_shape(ours, x, *parameters)
    weights = np.random.default_rng(9).integers(-3, 4, out.shape).astype(np.float32)

    @jax.jit
    def both(weights, *arguments):
        out, pull = jax.vjp(ours, *arguments)
        return out, pull(weights)

    out, got = both(weights, x, *parameters)
    given = nchw(x)
    leaves = [torch.tensor(p, requires_grad=True) for p in parameters]
    want = theirs(given, *leaves)
    np.testing.assert_allclose(out, nhwc(want), rtol=1e-5, atol=1e-5)
    want.backward(nchw(weights).detach())
    np.testing.assert_allclose(got[0], nhwc(given.grad), rtol=1e-5, atol=1e-5)
    for gradient, leaf in zip(got[1:], leaves, strict=True):
        np.testing.assert_allclose(gradient, leaf.grad.numpy(), rtol=1e-4, atol=1e-4)


@pytest.fixture(params=[(6, 8), (7, 9)], ids=str)
def x(request):
    # many ties
    return np.random.default_rng(0).integers(-2, 3, (2, *request.param, 3)).astype(np.float32)


@pytest.mark.parametrize(("window", "stride"), [(2, 2), (3, 3), (3, 2), (3, 1)])
def test_down(x, window, stride):
    padding = grid_of(x.shape[1:3], window, stride).around[0][0]
    places = dict(kernel_size=window, stride=stride, padding=padding)
    compare(lambda x: pool2d(x, "max", window, stride)[0], lambda x: F.max_pool2d(x, **places), x)
    compare(lambda x: pool2d(x, "avg", window, stride)[0], lambda x: F.avg_pool2d(x, **places), x)
    if padding == 0:
        compare(
            lambda x: pool2d(x, "lp", window, parameters={"power": jnp.full(3, 1.8545866)})[0],
            lambda x: F.lp_pool2d(x, 3.0, window) / window ** (2 / 3),
            np.abs(x) + 0.5,
        )
    kernel = np.random.default_rng(1).normal(size=(3, 3, window, window)).astype(np.float32)
    bias = np.arange(3, dtype=np.float32)
    compare(
        lambda x, k, b: pool2d(
            x, "conv", window, stride, {"kernel": k.transpose(2, 3, 1, 0), "bias": b}
        )[0],
        lambda x, k, b: F.conv2d(x, k, b, stride, padding),
        x,
        kernel,
        bias,
    )


def test_indices(x):
    size = x.shape[1:3]
    n = 2
    pooled, switches = pool2d(jnp.asarray(x))
    flat = F.max_pool2d(nchw(x), 2, return_indices=True)[1]
    values = np.random.default_rng(1).normal(size=pooled.shape).astype(np.float32)
    compare(
        lambda v: unpool2d(v, switches),
        lambda v: F.max_unpool2d(v, flat, n, output_size=size),
        values,
    )  # ties: the same pixels


@pytest.mark.parametrize("stride", [2, 3])
def test_up(stride):
    x = np.random.default_rng(0).normal(size=(2, 3, 4, 3)).astype(np.float32)
    kernel = np.random.default_rng(1).normal(size=(3, 3, stride, stride)).astype(np.float32)
    bias = np.arange(3, dtype=np.float32)
    for kind, options in (("nearest", {}), ("bilinear", {"align_corners": False})):
        compare(
            lambda x, kind=kind: unpool2d(
                x, None, kind, stride=stride, size=(3 * stride, 4 * stride)
            ),
            lambda x, kind=kind, o=options: F.interpolate(x, scale_factor=stride, mode=kind, **o),
            x,
        )
    for more in (0, 1):
        size = (3 * stride + more, 4 * stride + more)
        compare(
            lambda x, k, b, s=size: unpool2d(
                x,
                None,
                "transposed_conv",
                s,
                stride,
                {"kernel": k.transpose(2, 3, 0, 1), "bias": b},
            ),
            lambda x, k, b, m=more: F.conv_transpose2d(x, k, b, stride, output_padding=m),
            x,
            kernel,
            bias,
        )
