"""The transforms against PyWavelets in float64. Every wavelet and mode: test_subbands.py."""

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
from covjax.ops import subbands
from covjax.ops.wavelets import (
    MODES,
    Bands,
    Details,
    FilterBank,
    dwt,
    dwt2,
    idwt,
    idwt2,
    wavedec2,
    waverec2,
)

SIZES = [(304, 304), (155, 155), (37, 52), (7, 1), (1, 1), (2, 3)]
WAVELETS = ["haar", "db4"]
SMALL = st.integers(1, 20)


def images(height, width, count=2, channels=3, seed=0):
    return (
        np.random.default_rng(seed)
        .uniform(0, 255, (count, height, width, channels))
        .astype(np.float32)
    )


def reference_dwt2(x, wavelet, mode="symmetric"):
    approximation, details = pywt.dwt2(np.asarray(x, np.float64), wavelet, mode=mode, axes=(1, 2))
    return Bands(approximation, *details)


def reference_idwt2(bands, wavelet, mode="symmetric"):
    ll, *details = (np.asarray(b, np.float64) for b in bands)
    return pywt.idwt2((ll, tuple(details)), wavelet, mode=mode, axes=(1, 2))


def product(a, b):
    pairs = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    return sum(np.vdot(np.asarray(p, np.float64), np.asarray(q, np.float64)) for p, q in pairs)


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
    bands = forward(x)
    expected = reference_dwt2(x, wavelet)
    n, h, w, c = x.shape
    taps = pywt.Wavelet(wavelet).dec_len
    shape = (
        n,
        pywt.dwt_coeff_len(h, taps, "symmetric"),
        pywt.dwt_coeff_len(w, taps, "symmetric"),
        c,
    )
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


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("wavelet", ["haar", "bior3.5"])
def test_parity_of_every_mode(wavelet, mode):
    # A biorthogonal bank tells analysis from synthesis filters and their directions apart.
    x = images(37, 52, count=1, channels=2)
    bands = dwt2(x, wavelet, mode)
    expected = reference_dwt2(x, wavelet, mode)
    assert [b.shape for b in bands] == [b.shape for b in expected]
    assert relative_error(bands, expected) <= 1e-5
    assert (
        relative_error([idwt2(bands, wavelet, mode)], [reference_idwt2(bands, wavelet, mode)])
        <= 1e-5
    )
    restored = np.asarray(idwt2(bands, wavelet, mode))[:, :37, :52]
    # PyWavelets' own inverse restores no better: filters of some wavelets are tabulated with 1e-9,
    # and the odd height.
    limit = max(
        1e-5, 2 * relative_error([reference_idwt2(expected, wavelet, mode)[:, :37, :52]], [x])
    )
    assert relative_error([restored], [x]) <= limit


@pytest.mark.parametrize("mode", MODES)
def test_tiny_images(mode):
    for height, width in [(1, 1), (2, 1), (7, 1), (3, 2)]:
        x = images(height, width, count=1)
        if "reflect" in mode and width == 1:
            with pytest.raises(ValueError):
                reference_dwt2(x, "db4", mode)
            with pytest.raises(
                InputError, match=f"x: .*a single pixel to reflect about.*mode '{mode}'"
            ):
                dwt2(x, "db4", mode)
        else:
            assert relative_error(dwt2(x, "db4", mode), reference_dwt2(x, "db4", mode)) <= 1e-5


@pytest.mark.parametrize("mode", ["smooth", "periodization"])
@pytest.mark.parametrize("axis", [0, 1, 2, -1])
def test_one_dimension_along_any_axis(axis, mode):
    x = images(9, 14, channels=5)[0]
    low, high = dwt(x, "db3", mode, axis)
    expected = pywt.dwt(x.astype(np.float64), "db3", mode, axis)
    assert relative_error((low, high), expected) <= 1e-5
    assert (
        relative_error(
            [idwt(low, high, "db3", mode, axis)], [pywt.idwt(*expected, "db3", mode, axis)]
        )
        <= 1e-5
    )


@pytest.mark.filterwarnings("ignore:Level value")
@pytest.mark.parametrize(
    ("size", "wavelet", "mode", "level"),
    [
        ((304, 304), "haar", "symmetric", 2),
        ((155, 81), "db4", "reflect", 3),
        ((37, 52), "bior2.2", "periodization", 2),
        ((44, 44), "sym4", "smooth", None),
        ((3, 5), "db4", "zero", None),
    ],
)
def test_several_levels(size, wavelet, mode, level):
    x = images(*size, count=1, channels=2)
    coeffs = jax.jit(lambda x: wavedec2(x, wavelet, mode, level))(x)
    expected = pywt.wavedec2(x.astype(np.float64), wavelet, mode, level, axes=(1, 2))
    assert len(coeffs) == len(expected) and all(isinstance(d, Details) for d in coeffs[1:])
    assert relative_error(jax.tree.leaves(coeffs), jax.tree.leaves(expected)) <= 1e-5
    back = jax.jit(lambda c: waverec2(c, wavelet, mode))(coeffs)
    assert relative_error([back], [pywt.waverec2(expected, wavelet, mode, axes=(1, 2))]) <= 1e-5
    assert relative_error([back[:, : size[0], : size[1]]], [x]) <= 1e-5


def test_too_many_levels_warn_as_in_pywavelets():
    x = images(16, 40)
    for transform in (wavedec2, lambda *a, **k: pywt.wavedec2(*a, **k, axes=(1, 2))):
        with pytest.warns(UserWarning, match="too high"):
            assert len(transform(x, "db2", level=4)) == 5


@pytest.mark.parametrize("taps", [2, 5, 8])
def test_filters_of_ones_own(taps):
    filters = [tuple(f) for f in np.random.default_rng(taps).normal(size=(4, taps))]
    bank = FilterBank(*filters)
    wavelet = pywt.Wavelet("own", filter_bank=filters)
    x = images(13, 10)
    bands = jax.jit(dwt2, static_argnames="wavelet")(x, wavelet=bank)
    assert relative_error(bands, reference_dwt2(x, wavelet)) <= 1e-5
    for same in (dwt2(x, bank), dwt2(x, wavelet)):
        assert relative_error(same, [np.asarray(b, np.float64) for b in bands]) <= 1e-6
    assert relative_error([idwt2(bands, bank)], [reference_idwt2(bands, wavelet)]) <= 1e-5


@pytest.mark.parametrize("wavelet", ["haar", "db4", "sym8", "coif3"])
def test_an_orthogonal_transform_is_a_rotation_under_periodization(wavelet):
    x = images(44, 16, channels=2)
    bands = dwt2(x, wavelet, "periodization")
    other = Bands(*(images(22, 8, channels=2, seed=seed) - 128 for seed in range(4)))
    adjoint = product(x, idwt2(other, wavelet, "periodization"))
    scale = np.sqrt(product(x, x) * product(other, other))
    np.testing.assert_allclose(product(bands, other), adjoint, atol=1e-6 * scale)
    np.testing.assert_allclose(product(bands, bands), product(x, x), rtol=1e-5)


def test_haar_is_exact_on_integers():
    x = images(12, 10).astype(np.uint8).astype(np.float32)
    for band, expected in zip(dwt2(x), reference_dwt2(x.astype(np.float64), "haar"), strict=True):
        np.testing.assert_array_equal(band, np.round(2 * expected) / 2)
    np.testing.assert_array_equal(idwt2(dwt2(x)), x)


def test_any_leading_batch():
    x = images(9, 12, count=6)
    expected = dwt2(x, "db2")
    nested = dwt2(x.reshape(2, 3, 9, 12, 3), "db2")
    single = dwt2(x[0], "db2")
    for a, b, c in zip(expected, nested, single, strict=True):
        np.testing.assert_array_equal(b.reshape(a.shape), a)
        np.testing.assert_array_equal(c, a[0])
    assert idwt2(nested, "db2").shape == (2, 3, 10, 12, 3)


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


@pytest.mark.parametrize(
    ("size", "wavelet", "mode"),
    [
        ((6, 5), "haar", "symmetric"),
        ((5, 3), "db4", "antireflect"),
        ((1, 4), "bior2.2", "periodization"),
    ],
)
def test_gradients(size, wavelet, mode):
    forward = functools.partial(dwt2, wavelet=wavelet, mode=mode)
    inverse = functools.partial(idwt2, wavelet=wavelet, mode=mode)
    with jax.enable_x64(True):
        x = jnp.asarray(images(*size, count=1, channels=2) / 255, jnp.float64)
        check_grads(jax.jit(forward), (x,), order=1)
        check_grads(jax.jit(inverse), (forward(x),), order=1)


def test_transformations_compose():
    x = jnp.asarray(images(8, 6, count=4))

    def energy(x):
        return sum(jnp.sum(b**2) for b in dwt2(x, "db2", "periodization"))

    # a rotation
    np.testing.assert_allclose(jax.vmap(jax.grad(energy))(x), 2 * x, rtol=1e-4, atol=1e-2)
    np.testing.assert_allclose(jax.pmap(jax.grad(energy))(x[None])[0], 2 * x, rtol=1e-4, atol=1e-2)
    np.testing.assert_allclose(jax.jvp(energy, (x,), (x,))[1], 2 * energy(x), rtol=1e-4)
    hessian = jax.hessian(energy)(x[0, :2, :2, :1]).reshape(4, 4)
    np.testing.assert_allclose(hessian, 2 * np.eye(4), atol=1e-5)
    # One operand mapped, the others not.
    low, high = dwt(x, axis=1)
    np.testing.assert_allclose(
        jax.vmap(idwt, (0, None))(low, high[0])[0], idwt(low[0], high[0]), atol=1e-3
    )


def test_inside_shard_map():
    kinds = (jax.sharding.AxisType.Auto,)
    mesh = jax.make_mesh((1,), ("batch",), axis_types=kinds, devices=jax.devices()[:1])
    spec = jax.sharding.PartitionSpec("batch")
    round_trip = jax.shard_map(
        lambda x: idwt2(dwt2(x, "db2"), "db2"), mesh=mesh, in_specs=spec, out_specs=spec
    )
    x = images(128, 256, count=10)  # more than a block
    np.testing.assert_allclose(jax.jit(round_trip)(x), x, atol=1e-3)


def test_equal_filters_compile_once():
    x = images(11, 7)
    dwt2(x, pywt.Wavelet("sym3"))
    before = subbands.split_p.impl._cache_size()
    dwt2(x, pywt.Wavelet("sym3"))
    dwt2(x, "sym3")
    assert subbands.split_p.impl._cache_size() == before


def test_gradient_is_the_adjoint():
    # Exact where finite differences are not: <dwt2(x), b> = <x, adjoint(b)> for unrelated x and b.
    x = images(11, 6, seed=1)
    value, pull_back = jax.vjp(functools.partial(dwt2, wavelet="db4"), x)
    cotangent = Bands(*(images(*value.ll.shape[1:3], seed=seed) - 128 for seed in range(4)))
    (adjoint,) = pull_back(jax.tree.map(jnp.asarray, cotangent))
    left = sum(np.vdot(np.asarray(a, np.float64), b) for a, b in zip(value, cotangent, strict=True))
    np.testing.assert_allclose(np.vdot(np.asarray(adjoint, np.float64), x), left, rtol=1e-4)


def test_jit_and_vmap():
    def round_trip(x):
        bands = dwt2(x, "db4")
        return bands, idwt2(bands, "db4")

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
    # one rounding to 8 bits of the result, nothing more
    for got, expected in zip(bands, exact, strict=True):
        error = np.abs(np.asarray(got, np.float64) - expected)
        assert np.all(error <= np.abs(expected) * 2.0**-8 + 1e-3)
    assert idwt2(bands, "db4").dtype == jnp.bfloat16


@pytest.mark.parametrize("mode", MODES)
def test_float64(mode):
    x = images(31, 18, count=1).astype(np.float64)
    with jax.enable_x64(True):
        for wavelet in ("db4", "bior6.8", "db38") if mode == "symmetric" else ("db4",):
            bands = dwt2(x, wavelet, mode)
            assert bands.ll.dtype == jnp.float64
            assert relative_error(bands, reference_dwt2(x, wavelet, mode)) < 1e-12
            expected = reference_idwt2(bands, wavelet, mode)
            assert relative_error([idwt2(bands, wavelet, mode)], [expected]) < 1e-12


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
        (
            [(1, 4, 4, 1)] * 3 + [(1, 4, 5, 1)],
            np.float32,
            r"bands: shapes differ .*hh \(1, 4, 5, 1\)",
        ),
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
        with pytest.raises(
            InputError, match="mode: 'symetric' is unknown.*did you mean 'symmetric'"
        ):
            call(x, "haar", "symetric")


NUMBERS = ((1.0, 2.0),) * 4


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: dwt2(x, NUMBERS[:3]), "wavelet: pass a name, a pywt.Wavelet or FilterBank"),
        (
            lambda x: dwt2(x, FilterBank(*NUMBERS[:3], (1.0,))),
            "wavelet: .* of as many finite numbers",
        ),
        (lambda x: dwt2(x, FilterBank(*NUMBERS[:3], (1.0, np.nan))), "wavelet: .* finite"),
        (lambda x: dwt2(x, 4), "wavelet: "),
        (lambda x: dwt(x, axis=4), "axis: 4 does not exist, the array has 4 axes"),
        (lambda x: dwt(np.float32(1)), r"x: shape \(\) has 0 axes"),
        (lambda x: idwt(x, x[:1]), r"low and high: shapes differ \(low \(2, .*, high \(1, "),
        (lambda x: idwt2((x, x, x)), r"bands: 3 arrays, pass the four \(ll, lh, hl, hh\)"),
        (lambda x: wavedec2(x, level=0), "level: 0 is not usable, pass an integer of at least 1"),
        (lambda x: wavedec2(x, level=-1), "level: -1"),
        (lambda x: wavedec2(x, level=1.0), "level: 1.0"),
        (lambda x: waverec2([]), "coeffs: no arrays"),
        (lambda x: waverec2([x, (x, x)]), r"coeffs\[1\]: 2 arrays, pass the three"),
        (
            lambda x: waverec2([x, (x[:, :2],) * 3]),
            r"coeffs\[1\]: shape \(2, 2, 8, 1\) does not belong to",
        ),
        (lambda x: waverec2([x.astype(int), (x, x, x)]), r"coeffs\[0\]: type int"),
    ],
)
def test_other_unusable_input(call, message):
    with pytest.raises(InputError, match=message) as caught:
        call(np.zeros((2, 8, 8, 1), np.float32))
    assert "\n" not in str(caught.value)
