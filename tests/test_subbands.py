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


def extended(x, place):
    """What pywt.pad makes of x; it counts the value that periodization repeats in the signal."""
    before, after = place.margins
    if place.mode == "periodization":
        odd = x.shape[-1] % 2
        return pywt.pad(np.pad(x, [(0, 0), (0, odd)], mode="edge"), [(0, 0), (before, after - odd)], "periodic")
    return pywt.pad(x, [(0, 0), (before, after)], place.mode)


def errors(length, sizes):
    """Yields (wavelet, mode, size, error forward, error inverse) of all wavelets of one length.

    One compiled program per length, its filters are arguments. It takes extended signals: extension has its own test.
    """
    cases = [(size, mode) for size in sizes for mode in modes_for(size)]
    signals = [values(1, size).astype(np.float64) for size, _ in cases]
    places = [axis_of(size, LENGTHS[length][0], mode) for size, mode in cases]
    inputs = [extended(x, place).astype(np.float32) for x, place in zip(signals, places, strict=True)]
    inverses = {}
    for size, mode in cases:  # without periodization every mode has the same inverse
        periodic = mode == "periodization"
        count = pywt.dwt_coeff_len(size, length, mode)
        bands = [values(1, count, seed=seed) - 128 for seed in range(2)]
        inverses[size, periodic] = bands, 2 * count - (0 if periodic else length - 2)

    @jax.jit
    def program(inputs, forward, inverse):
        split_up = [subbands._add_slices(x, p._replace(filters=forward)) for x, p in zip(inputs, places, strict=True)]
        merged = {}
        for (size, periodic), (bands, back) in inverses.items():
            place = Axis(-1, back, inverse, "periodization" if periodic else "zero")
            merged[size, periodic] = subbands._fold(subbands._add_slices_back(*map(jnp.asarray, bands), place), place)
        return split_up, merged

    for name in LENGTHS[length]:
        filters = [np.asarray(taps) for taps in pywt.Wavelet(name).filter_bank]
        taps = [jnp.asarray(f) for f in (filters[0][::-1], filters[1][::-1], *filters[2:])]
        split_up, merged = jax.device_get(program(inputs, Filters(*taps[:2]), Filters(*taps[2:])))
        for (size, mode), x, got in zip(cases, signals, split_up, strict=True):
            bands, _ = inverses[size, mode == "periodization"]
            back = pywt.idwt(*(b.astype(np.float64) for b in bands), name, mode)
            yield (
                name, mode, size,
                worst(got, pywt.dwt(x, name, mode=mode)),
                worst([merged[size, mode == "periodization"]], [back]),
            )  # fmt: skip


@pytest.mark.parametrize("length", LENGTHS)
def test_parity_of_every_wavelet_and_mode(length):
    for name, mode, size, forward, inverse in errors(length, [155, 44]):
        assert max(forward, inverse) <= 1e-5, (name, mode, size)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("length", [2, 8, 102])
def test_extension_is_that_of_pywavelets(length, mode):
    places = [Axis(-1, size, Filters((0.5,) * length, (0.5,) * length), mode) for size in SIZES]
    places = [place for place in places if mode in modes_for(place.size)]
    xs = [values(1, place.size) for place in places]
    got = jax.jit(lambda xs: [subbands._extend(x, place) for x, place in zip(xs, places, strict=True)])(xs)
    for x, place, result in zip(xs, places, got, strict=True):
        assert worst([result], [extended(x.astype(np.float64), place)]) < 1e-6


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
