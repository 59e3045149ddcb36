"""Extension and decimating filters against PyWavelets: every wavelet, every mode, every kind of size, one axis."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import pywt

from covjax import subbands
from covjax.subbands import MODES, Axis, Filters, merge, split

NAMES = pywt.wavelist(kind="discrete")
LENGTHS = {length: [n for n in NAMES if pywt.Wavelet(n).dec_len == length] for length in range(2, 103, 2)}
LENGTHS = {length: names for length, names in LENGTHS.items() if names}
SIZES = [304, 155, 81, 44, 37, 7, 1]


def values(*shape, seed=0):
    return np.random.default_rng(seed).uniform(0, 255, shape).astype(np.float32)


def axis_of(size, wavelet, mode):
    bank = pywt.Wavelet(wavelet)
    return Axis(-1, size, Filters(tuple(bank.dec_lo[::-1]), tuple(bank.dec_hi[::-1])), mode)


def modes_for(size):
    return [mode for mode in MODES if size > 1 or "reflect" not in mode]


def worst(got, expected):
    return max(np.abs(np.asarray(g, np.float64) - e).max() for g, e in zip(got, expected, strict=True)) / max(
        np.abs(e).max() for e in expected
    )


def forward_errors(length, sizes=SIZES):
    """Yields (wavelet, mode, size, error) of all wavelets of one length, all modes of a size split in one batch."""
    for size in sizes:
        x = values(2, size)
        for modes in ([m for m in modes_for(size) if m != "periodization"], ["periodization"]):
            first = LENGTHS[length][0]
            extended = [subbands._extend(jnp.asarray(x), axis_of(size, first, mode)) for mode in modes]
            for name in LENGTHS[length]:
                bands = subbands._add_slices(jnp.stack(extended), axis_of(size, name, modes[0]))
                for mode, *got in zip(modes, *map(np.asarray, bands), strict=True):
                    yield name, mode, size, worst(got, pywt.dwt(x.astype(np.float64), name, mode=mode))


def inverse_errors(length, sizes=SIZES):
    """Yields (wavelet, mode, size, error); without periodization every mode has the same inverse."""
    for size in sizes:
        for mode in ("zero", "periodization"):
            count = pywt.dwt_coeff_len(size, length, mode)
            bands = [values(2, count, seed=seed) - 128 for seed in range(2)]
            for name in LENGTHS[length]:
                bank = pywt.Wavelet(name)
                filters = Filters(tuple(bank.rec_lo), tuple(bank.rec_hi))
                place = Axis(-1, 2 * count - (0 if mode == "periodization" else length - 2), filters, mode)
                got = subbands._fold(subbands._add_slices_back(*map(jnp.asarray, bands), place), place)
                expected = pywt.idwt(*(b.astype(np.float64) for b in bands), name, mode=mode)
                assert got.shape == expected.shape
                yield name, mode, size, worst([got], [expected])


@pytest.mark.parametrize("length", LENGTHS)
def test_parity_of_every_wavelet_mode_and_size(length):
    for name, mode, size, error in forward_errors(length):
        assert error <= 1e-5, (name, mode, size)
    for name, mode, size, error in inverse_errors(length, [81, 7]):
        assert error <= 1e-5, (name, mode, size)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("length", [2, 4, 8, 20, 102])
def test_extension_is_that_of_pywavelets(length, mode):
    bank = Filters((0.5,) * length, (0.5,) * length)
    for size in SIZES:
        if mode not in modes_for(size):
            continue
        place = Axis(-1, size, bank, mode)
        x = values(1, size)
        got = np.asarray(subbands._extend(jnp.asarray(x), place), np.float64)
        before, after = place.margins
        signal, repeated = x[0].astype(np.float64), 0
        if mode == "periodization":
            signal, repeated = np.append(signal, signal[size - size % 2 :]), size % 2
        name = "periodic" if mode == "periodization" else mode
        expected = pywt.pad(signal, (before, after - repeated), name)[None]
        np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-5 * np.abs(expected).max())


FORMULATIONS = [("haar", (6, 5)), ("db4", (9, 14)), ("bior3.5", (13, 4)), ("db13", (9, 40))]


@pytest.mark.parametrize("mode", ["symmetric", "periodization", "antireflect"])
@pytest.mark.parametrize(("name", "shape"), FORMULATIONS)
def test_both_formulations_are_the_same_function(name, shape, mode, monkeypatch):
    monkeypatch.setattr(subbands, "MOST_SLICES", 1000)
    bank = pywt.Wavelet(name)
    filters = Filters(tuple(bank.dec_lo[::-1]), tuple(bank.dec_hi[::-1]))
    axes = (Axis(-2, shape[1], filters, mode), Axis(-3, shape[0], filters, mode))
    x = jnp.asarray(values(2, *shape, 3))
    slices = jax.jit(lambda x: subbands._split(x, axes=axes, decimate=subbands._add_slices))(x)
    convolution = jax.jit(lambda x: subbands._split(x, axes=axes, decimate=subbands._convolve))(x)
    assert worst(slices, [np.asarray(b, np.float64) for b in convolution]) < 2e-6
    back = [
        jax.jit(lambda *b, add=add: subbands._merge(*b, axes=axes, interpolate=add)[0])(*slices)
        for add in (subbands._add_slices_back, subbands._convolve_back)
    ]
    assert worst(back[:1], [np.asarray(back[1], np.float64)]) < 2e-6


def test_accelerators_convolve_and_a_cpu_does_not():
    x, axes = jnp.zeros((2, 8, 8, 1)), (axis_of(8, "db2", "symmetric")._replace(axis=-2),)
    function = jax.jit(lambda x: split(x, axes))
    traced = function.trace(x)
    cuda = traced.lower(lowering_platforms=("cuda",)).as_text()
    assert "stablehlo.convolution" in cuda and "stablehlo.while" not in cuda
    assert "stablehlo.convolution" not in traced.lower(lowering_platforms=("cpu",)).as_text()


@pytest.mark.parametrize("count", [1, 4, 5, 7])
def test_blocks_of_images_cover_every_batch(count, monkeypatch):
    monkeypatch.setattr(subbands, "CACHED", 3 * 8 * 6)  # three images, or fewer once they are many bands
    axes = (axis_of(6, "db2", "reflect")._replace(axis=-1), axis_of(8, "db2", "zero")._replace(axis=-2))
    x = values(count, 8, 6)
    whole = [np.asarray(b) for b in subbands._split(jnp.asarray(x), axes=axes, decimate=subbands._add_slices)]
    jax.clear_caches()
    bands = jax.jit(lambda x: split(x, axes))(x)
    for got, expected in zip(bands, whole, strict=True):
        np.testing.assert_allclose(got, expected, atol=1e-4)
    back = jax.jit(lambda *b: merge(b, axes))(*bands)
    adjoint = jax.linear_transpose(
        lambda x: subbands._split(x, axes=axes, decimate=subbands._convolve), jnp.asarray(x)
    )(list(bands))[0]
    np.testing.assert_allclose(back, adjoint, atol=2e-3)


def test_every_mode_is_explained():
    assert set(MODES) == set(pywt.Modes.modes)
    assert all(len(text) > 15 for text in MODES.values())
