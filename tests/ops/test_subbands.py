"""Extension and decimating filters against PyWavelets: every wavelet, every mode, every kind of
size, one axis.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import pywt

from covjax.ops import subbands
from covjax.ops.subbands import MODES, Axis, Filters, merge, slicing, split

NAMES = pywt.wavelist(kind="discrete")
LENGTHS = {
    length: [n for n in NAMES if pywt.Wavelet(n).dec_len == length] for length in range(2, 103, 2)
}
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
    return max(
        np.abs(np.asarray(g, np.float64) - e).max() for g, e in zip(got, expected, strict=True)
    ) / max(np.abs(e).max() for e in expected)


def extended(x, place):
    """What pywt.pad makes of x [1, size]; it counts the value that periodization repeats in the
    signal.
    """
    before, after = place.margins
    signal = x[0]
    mode = place.mode
    if mode == "periodization":
        odd = signal.size % 2
        signal = np.pad(signal, (0, odd), mode="edge")
        after = after - odd
        mode = "periodic"
    if mode == "smooth" and signal.size == 1:
        mode = "constant"  # one value has no slope: so pywt.dwt, but not every release of pywt.pad
    # its releases differ where it pads by nothing
    return pywt.pad(signal, (before + 1, after + 1), mode)[None, 1:-1]


def errors(length, sizes, dtype=np.float32):
    """Yields (wavelet, mode, size, error forward, error inverse) of all wavelets of one length.

    One compiled program per length, its filters are arguments. It takes extended signals: extension
    has its own test.
    """
    # (size, modes of one extended length, signal, extended signals, any bands, length they merge
    # to)
    cases = []
    for size in sizes:
        for modes in ([m for m in modes_for(size) if m != "periodization"], ["periodization"]):
            x = values(1, size).astype(np.float64)
            stacked = np.stack(
                [extended(x, axis_of(size, LENGTHS[length][0], mode)) for mode in modes]
            )
            count = pywt.dwt_coeff_len(size, length, modes[0])
            bands = [values(1, count, seed=seed).astype(dtype) - 128 for seed in range(2)]
            back = 2 * count - (0 if modes == ["periodization"] else length - 2)
            cases.append((size, modes, x, stacked.astype(dtype), bands, back))

    @jax.jit
    def program(forward, inverse):
        results = []
        for size, modes, _, stacked, bands, back in cases:
            low_and_high = subbands.add_slices(
                jnp.asarray(stacked), Axis(-1, size, forward, modes[0])
            )
            # all others share an inverse
            place = Axis(-1, back, inverse, modes[0] if len(modes) == 1 else "zero")
            merged = subbands.fold(subbands.add_slices_back(*map(jnp.asarray, bands), place), place)
            results.append((low_and_high, merged))
        return results

    for name in LENGTHS[length]:
        dec_lo, dec_hi, rec_lo, rec_hi = map(jnp.asarray, pywt.Wavelet(name).filter_bank)
        results = jax.device_get(
            program(Filters(dec_lo[::-1], dec_hi[::-1]), Filters(rec_lo, rec_hi))
        )
        for (size, modes, x, _, bands, _), (low_and_high, merged) in zip(
            cases, results, strict=True
        ):
            inverse = worst(
                [merged], [pywt.idwt(*(b.astype(np.float64) for b in bands), name, modes[0])]
            )
            for mode, *got in zip(modes, *low_and_high, strict=True):
                yield name, mode, size, worst(got, pywt.dwt(x, name, mode=mode)), inverse


@pytest.mark.parametrize("length", LENGTHS)
def test_parity_of_every_wavelet_and_mode(length):
    sizes = [155, 44] if length <= 20 else [37]  # odd and even; the longer, the longer it compiles
    for name, mode, size, forward, inverse in errors(length, sizes):
        assert max(forward, inverse) <= 1e-5, (name, mode, size)


@pytest.mark.parametrize("length", [2, 12, 24])
def test_parity_in_float64(length):
    with jax.enable_x64(True):
        for name, mode, size, forward, inverse in errors(length, [44, 7], np.float64):
            assert max(forward, inverse) <= 1e-10, (name, mode, size)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("length", [2, 8, 102])
def test_extension_is_that_of_pywavelets(length, mode):
    places = [Axis(-1, size, Filters((0.5,) * length, (0.5,) * length), mode) for size in SIZES]
    places = [place for place in places if mode in modes_for(place.size)]
    xs = [values(1, place.size) for place in places]
    got = jax.jit(
        lambda xs: [subbands.extend(x, place) for x, place in zip(xs, places, strict=True)]
    )(xs)
    for x, place, result in zip(xs, places, got, strict=True):
        assert worst([result], [extended(x.astype(np.float64), place)]) < 1e-6


FORMULATIONS = [("haar", (6, 5)), ("db4", (9, 14)), ("bior3.5", (13, 4)), ("dmey", (9, 40))]


@pytest.mark.parametrize("mode", ["periodization", "antireflect"])
@pytest.mark.parametrize(("name", "shape"), FORMULATIONS)
def test_both_formulations_are_the_same_function(name, shape, mode):
    bank = pywt.Wavelet(name)
    filters = Filters(tuple(bank.dec_lo[::-1]), tuple(bank.dec_hi[::-1]))
    axes = (Axis(-2, shape[1], filters, mode), Axis(-3, shape[0], filters, mode))
    x = jnp.asarray(values(2, *shape, 3))
    slices = jax.jit(lambda x: subbands._split(x, axes=axes, decimate=subbands.add_slices))(x)
    convolution = jax.jit(lambda x: subbands._split(x, axes=axes, decimate=subbands.convolve))(x)
    assert worst(slices, [np.asarray(b, np.float64) for b in convolution]) < 2e-6
    back = [
        jax.jit(lambda *b, add=add: subbands._merge(*b, axes=axes, interpolate=add)[0])(*slices)
        for add in (subbands.add_slices_back, subbands.convolve_back)
    ]
    assert worst(back[:1], [np.asarray(back[1], np.float64)]) < 2e-6


def test_accelerators_convolve_and_a_cpu_does_not():
    x = jnp.zeros((2, 8, 8, 1))
    axes = (axis_of(8, "db2", "symmetric")._replace(axis=-2),)
    function = jax.jit(lambda x: split(x, axes))
    traced = function.trace(x)
    cuda = traced.lower(lowering_platforms=("cuda",)).as_text()
    assert "stablehlo.convolution" in cuda and "stablehlo.while" not in cuda
    assert "stablehlo.convolution" not in traced.lower(lowering_platforms=("cpu",)).as_text()


@pytest.mark.parametrize("count", [1, 4, 5])
def test_blocks_of_images_cover_every_batch(count, monkeypatch):
    # three images, or fewer once they are many bands
    monkeypatch.setattr(slicing, "CACHED", 3 * 8 * 6)
    axes = (
        axis_of(6, "db2", "reflect")._replace(axis=-1),
        axis_of(8, "db2", "zero")._replace(axis=-2),
    )
    x = values(count, 8, 6)
    whole = jax.jit(lambda x: subbands._split(x, axes=axes, decimate=subbands.add_slices))(x)
    jax.clear_caches()
    bands = jax.jit(lambda x: split(x, axes))(x)
    for got, expected in zip(bands, whole, strict=True):
        np.testing.assert_allclose(got, expected, atol=1e-4)
    back = jax.jit(lambda *b: merge(b, axes))(*bands)
    convolved = jax.linear_transpose(
        lambda x: subbands._split(x, axes=axes, decimate=subbands.convolve), x
    )
    (adjoint,) = jax.jit(convolved)(list(bands))
    np.testing.assert_allclose(back, adjoint, atol=2e-3)


def test_every_mode_is_explained():
    assert set(MODES) == set(pywt.Modes.modes)
    assert all(len(text) > 15 for text in MODES.values())
