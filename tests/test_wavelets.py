"""dwt2 and idwt2 against PyWavelets in float64."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import pywt
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.test_util import check_grads

from covjax.errors import InputError
from covjax.wavelets import Bands, dwt2, idwt2

SIZES = [(304, 304), (155, 155), (81, 81), (44, 44), (37, 52), (7, 1), (1, 1), (2, 3)]
WAVELETS = ["haar", "db4"]
SMALL = st.integers(1, 20)


def images(height, width, count=2, channels=3, seed=0):
    return np.random.default_rng(seed).uniform(0, 255, (count, height, width, channels)).astype(np.float32)


def reference_dwt2(x, wavelet):
    approximation, details = pywt.dwt2(np.asarray(x, np.float64), wavelet, mode="symmetric", axes=(1, 2))
    return Bands(approximation, *details)


def reference_idwt2(bands, wavelet):
    ll, *details = (np.asarray(b, np.float64) for b in bands)
    return pywt.idwt2((ll, tuple(details)), wavelet, mode="symmetric", axes=(1, 2))


def relative_error(got, expected):
    """Largest difference over the largest magnitude of the expected arrays."""
    pairs = zip(got, expected, strict=True)
    difference = max(np.abs(np.asarray(a, np.float64) - b).max() for a, b in pairs)
    return difference / max(np.abs(b).max() for b in expected)


@pytest.mark.parametrize("wavelet", WAVELETS)
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_parity_with_pywavelets(size, wavelet):
    x = images(*size)
    forward = jax.jit(functools.partial(dwt2, wavelet=wavelet))
    inverse = jax.jit(functools.partial(idwt2, wavelet=wavelet))
    bands, expected = forward(x), reference_dwt2(x, wavelet)
    n, h, w, c = x.shape
    taps = pywt.Wavelet(wavelet).dec_len
    shape = (n, pywt.dwt_coeff_len(h, taps, "symmetric"), pywt.dwt_coeff_len(w, taps, "symmetric"), c)
    assert {b.shape for b in bands} == {shape}
    assert {b.dtype for b in bands} == {jnp.dtype("float32")}
    assert relative_error(bands, expected) <= 1e-5

    image = inverse(bands)
    assert image.shape == (n, 2 * shape[1] - taps + 2, 2 * shape[2] - taps + 2, c)
    assert relative_error([image], [reference_idwt2(expected, wavelet)]) <= 1e-5


@pytest.mark.parametrize("wavelet", WAVELETS)
def test_inverse_of_arbitrary_bands(wavelet):
    # Bands that no image has: parity must not rest on perfect reconstruction.
    bands = Bands(*(images(9, 6, seed=seed) - 128 for seed in range(4)))
    assert relative_error([idwt2(bands, wavelet)], [reference_idwt2(bands, wavelet)]) <= 1e-5


@pytest.mark.parametrize("wavelet", ["sym5", "bior3.5", "coif2"])
def test_other_filter_banks(wavelet):
    # A biorthogonal bank tells analysis from synthesis filters and their directions apart.
    x = images(23, 18)
    bands = dwt2(x, wavelet)
    assert relative_error(bands, reference_dwt2(x, wavelet)) <= 1e-5
    assert relative_error([idwt2(bands, wavelet)], [reference_idwt2(bands, wavelet)]) <= 1e-5


@settings(max_examples=8, deadline=None)
@given(height=SMALL, width=SMALL, wavelet=st.sampled_from(WAVELETS))
def test_perfect_reconstruction_repeats_the_edge_of_odd_sizes(height, width, wavelet):
    x = images(height, width, count=1, channels=1)
    expected = np.pad(x, ((0, 0), (0, height % 2), (0, width % 2), (0, 0)), mode="edge")
    result = jax.jit(lambda x: idwt2(dwt2(x, wavelet), wavelet))(x)
    np.testing.assert_allclose(result, expected, atol=255e-5)


@pytest.mark.parametrize("wavelet", WAVELETS)
def test_energy_and_gain_of_an_orthonormal_transform(wavelet):
    flat = dwt2(jnp.full((1, 12, 10, 1), 100.0), wavelet)
    np.testing.assert_allclose(flat.ll, 200.0, rtol=1e-5)
    assert max(np.abs(b).max() for b in flat[1:]) < 1e-3
    # Away from the borders the transform is a rotation.
    x = np.zeros((1, 40, 40, 1), np.float32)
    x[:, 16:24, 16:24] = images(8, 8, count=1, channels=1)
    energy = sum(float(np.sum(np.square(b, dtype=np.float64))) for b in dwt2(x, wavelet))
    np.testing.assert_allclose(energy, np.sum(np.square(x, dtype=np.float64)), rtol=1e-5)


def test_names_of_the_bands():
    rows = jnp.zeros((1, 8, 8, 1)).at[:, 1::2].set(1.0)  # changes along the height only
    _, lh, hl, hh = dwt2(rows)
    assert np.all(np.abs(lh) > 0.5) and not np.any(hl) and not np.any(hh)


@pytest.mark.parametrize(("size", "wavelet"), [((6, 5), "haar"), ((6, 5), "db4"), ((1, 3), "db4")])
def test_gradients(size, wavelet):
    x = images(*size, count=1, channels=2) / 255
    forward = jax.jit(functools.partial(dwt2, wavelet=wavelet))
    inverse = jax.jit(functools.partial(idwt2, wavelet=wavelet))
    check_grads(forward, (x,), order=1, atol=1e-2, rtol=1e-2)
    check_grads(inverse, (forward(x),), order=1, atol=1e-2, rtol=1e-2)


def test_gradient_is_the_adjoint():
    # Exact where finite differences are not: <dwt2(x), b> = <x, adjoint(b)> for unrelated x and b.
    x = images(11, 6, seed=1)
    value, pull_back = jax.vjp(functools.partial(dwt2, wavelet="db4"), x)
    cotangent = Bands(*(images(*value.ll.shape[1:3], seed=seed) - 128 for seed in range(4)))
    (adjoint,) = pull_back(jax.tree.map(jnp.asarray, cotangent))
    left = sum(np.vdot(np.asarray(a, np.float64), b) for a, b in zip(value, cotangent, strict=True))
    np.testing.assert_allclose(np.vdot(np.asarray(adjoint, np.float64), x), left, rtol=1e-4)


@pytest.mark.parametrize("wavelet", WAVELETS)
def test_jit_and_vmap(wavelet):
    def round_trip(x):
        bands = dwt2(x, wavelet)
        return bands, idwt2(bands, wavelet)

    x = images(13, 10, count=6)
    eager = jax.tree.leaves(round_trip(x))
    jitted = jax.tree.leaves(jax.jit(round_trip)(x))
    mapped = jax.tree.leaves(jax.vmap(round_trip)(x.reshape(3, 2, *x.shape[1:])))
    for one, two, three in zip(eager, jitted, mapped, strict=True):
        np.testing.assert_allclose(two, one, atol=1e-3)
        np.testing.assert_allclose(three.reshape(one.shape), one, atol=1e-3)


def test_channels_and_images_do_not_mix():
    x = images(9, 14)
    together = dwt2(x, "db4")
    single = jax.jit(functools.partial(dwt2, wavelet="db4"))
    for image in range(2):
        for channel in range(3):
            alone = single(x[image : image + 1, :, :, channel : channel + 1])
            for a, b in zip(alone, together, strict=True):
                np.testing.assert_allclose(a[0, ..., 0], b[image, ..., channel], atol=1e-3)


def test_empty_batch():
    bands = dwt2(np.zeros((0, 8, 8, 1), np.float32), "db4")
    assert bands.hh.shape == (0, 7, 7, 1)
    assert idwt2(bands, "db4").shape == (0, 8, 8, 1)


def test_bfloat16_is_computed_in_float32():
    x = jnp.asarray(images(20, 21), jnp.bfloat16)
    bands = dwt2(x, "db4")
    assert {b.dtype for b in bands} == {jnp.dtype("bfloat16")}
    exact = reference_dwt2(np.asarray(x, np.float64), "db4")
    for got, expected in zip(bands, exact, strict=True):  # one rounding to 8 bits of the result, nothing more
        error = np.abs(np.asarray(got, np.float64) - expected)
        assert np.all(error <= np.abs(expected) * 2.0**-8 + 1e-3)
    assert idwt2(bands, "db4").dtype == jnp.bfloat16


def test_float64():
    x = images(31, 18).astype(np.float64)
    with jax.enable_x64(True):
        bands = dwt2(x, "db4")
        assert bands.ll.dtype == jnp.float64
        assert relative_error(bands, reference_dwt2(x, "db4")) < 1e-11
        assert relative_error([idwt2(bands, "db4")], [reference_idwt2(bands, "db4")]) < 1e-11


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (np.zeros((8, 8), np.float32), r"x: shape \(8, 8\) has 2 axes"),
        (np.zeros((1, 8, 8, 1), np.int32), "x: type int32 .* float32"),
        (np.zeros((1, 0, 8, 1), np.float32), "x: .* no pixels"),
    ],
)
def test_unusable_images(x, message):
    with pytest.raises(InputError, match=message):
        dwt2(x)


@pytest.mark.parametrize(
    ("shapes", "dtype", "message"),
    [
        ([(1, 4, 4, 1)] * 3 + [(1, 4, 5, 1)], np.float32, r"bands: shapes differ .*hh \(1, 4, 5, 1\)"),
        ([(4, 4)] * 4, np.float32, r"bands.ll: shape \(4, 4\) has 2 axes"),
        ([(1, 4, 4, 1)] * 4, np.uint8, "bands.ll: type uint8"),
        ([(1, 3, 4, 1)] * 4, np.float32, "bands: 3x4 is too small for 'db4', needs at least 4"),
    ],
)
def test_unusable_bands(shapes, dtype, message):
    with pytest.raises(InputError, match=message):
        idwt2(Bands(*(np.zeros(shape, dtype) for shape in shapes)), "db4")


def test_unknown_names():
    x = np.zeros((1, 8, 8, 1), np.float32)
    for call in (dwt2, lambda x, *names: idwt2(Bands(x, x, x, x), *names)):
        with pytest.raises(InputError, match="wavelet: 'harr' is unknown.*did you mean 'haar'"):
            call(x, "harr")
        with pytest.raises(InputError, match="mode: 'symetric' is unknown.*did you mean 'symmetric'"):
            call(x, "haar", "symetric")
