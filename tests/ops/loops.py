"""Poolings and unpoolings as slow numpy loops over windows, straight from their definitions, in
float64.
"""

import math

import numpy as np


def sigmoid(z):
    return 1 / (1 + math.exp(-z))


def lp(pixels, there, p):
    power = 1 + math.log1p(math.exp(p["power"]))
    return np.mean(np.abs(pixels) ** power) ** (1 / power)


def soft(pixels, there, p):
    inside = pixels[there]
    weights = np.exp(inside - inside.max())
    return (weights * inside).sum() / weights.sum()


def expected(pixels, there, p):
    weights = np.maximum(pixels, 0)
    weights = weights if weights.sum() > 0 else there.astype(float)
    return (weights * pixels).sum() / weights.sum()


def maximum(pixels, there, p):
    return pixels[there].max()


def blend(share, pixels, there):
    return share * maximum(pixels, there, None) + (1 - share) * pixels.mean()


# Of one channel's window: pixels (zeros where it reaches outside), which of them are there, the
# channel's parameters.
OF_A_WINDOW = {
    "max": maximum,
    "avg": lambda pixels, there, p: pixels.mean(),
    "max_avg_sum": lambda pixels, there, p: maximum(pixels, there, p) + pixels.mean(),
    "mixed": lambda pixels, there, p: blend(sigmoid(p["mix"]), pixels, there),
    "gated": lambda pixels, there, p: blend(
        sigmoid((p["gate"].ravel() * pixels).sum()), pixels, there
    ),
    "stochastic": expected,
    "lp": lp,
    "soft": soft,
}


def windows(x, window, stride):
    """Yields (index of the output, pixels, which are there): side by side, or padded to ceil(side /
    stride).
    """
    n, height, width, channels = x.shape
    before = 0 if stride == window else (window - 1) // 2
    for i, j in np.ndindex(*outputs(x, window, stride)):
        rows, columns = (
            np.arange(k * stride - before, k * stride - before + window) for k in (i, j)
        )
        there = ((rows >= 0) & (rows < height))[:, None] & ((columns >= 0) & (columns < width))
        part = (
            x[:, rows.clip(0, height - 1)][:, :, columns.clip(0, width - 1)]
            * there[None, :, :, None]
        )
        for b, c in np.ndindex(n, channels):
            yield (b, i, j, c), part[b, :, :, c].ravel(), there.ravel()


def outputs(x, window, stride):
    return tuple(
        side // window if stride == window else math.ceil(side / stride) for side in x.shape[1:3]
    )


def pool(x, kind, window, stride, parameters):
    x = np.asarray(x, np.float64)
    if kind == "max_avg_concat":
        return np.concatenate([pool(x, k, window, stride, {}) for k in ("max", "avg")], -1)
    if kind in ("avg_then_max", "max_then_avg"):
        first, second = kind.split("_then_")
        return pool(pool(x, first, window, 1, {}), second, window, stride, {})
    if kind == "blur":
        return blur(pool(x, "max", window, 1, {}), outputs(x, window, stride), stride)
    out = np.zeros((x.shape[0], *outputs(x, window, stride), x.shape[-1]))
    if kind == "conv":
        out += parameters["bias"]
        kernel = parameters["kernel"].reshape(-1, x.shape[-1], x.shape[-1])
        for (b, i, j, c), pixels, _ in windows(x, window, stride):
            out[b, i, j] += pixels @ kernel[:, c]
        return out
    for (b, i, j, c), pixels, there in windows(x, window, stride):
        own = {
            name: value if value.ndim == 0 else value[..., c] for name, value in parameters.items()
        }
        out[b, i, j, c] = OF_A_WINDOW[kind](pixels, there, own)
    return out


def blur(x, sides, stride):
    """Weights 1 2 1 along both axes; outside the image its edge goes on."""
    out = np.zeros((x.shape[0], *sides, x.shape[-1]))
    x = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="edge")
    weights = np.outer((1, 2, 1), (1, 2, 1)) / 16
    for i, j in np.ndindex(*sides):
        out[:, i, j] = np.einsum(
            "nhwc,hw->nc", x[:, i * stride : i * stride + 3, j * stride : j * stride + 3], weights
        )
    return out


def unpool(x, kind, size, stride, parameters):
    """By asking of every new pixel which old ones it comes from."""
    x = np.asarray(x, np.float64)
    n, h, w, channels = x.shape
    if kind == "bilinear":
        return np.einsum("ia,jb,nabc->nijc", hats(size[0], h, stride), hats(size[1], w, stride), x)
    out = np.zeros((n, *size, channels))
    for i, j in np.ndindex(*size):
        a, row = divmod(i, stride)
        b, column = divmod(j, stride)
        if kind == "nearest":
            out[:, i, j] = x[:, min(a, h - 1), min(b, w - 1)]
        elif a < h and b < w:
            out[:, i, j] = x[:, a, b] @ parameters["kernel"][row, column]
    return out + (parameters["bias"] if kind == "transposed_conv" else 0)


def hats(long, short, stride):
    """How much of each old pixel goes into each new one: linear between centres, constant beyond
    the outer ones.
    """
    centres = (np.minimum(np.arange(long), short * stride - 1) + 0.5) / stride - 0.5
    return np.maximum(0, 1 - np.abs(centres.clip(0, short - 1)[:, None] - np.arange(short)))
