"""Draws what the enhancement makes of a slice.

  covjax enhance SLICE.png --preset prlab21 --output OUT.png
  covjax enhance [SLICE.png]

Without a preset: a picture of all of them side by side. Without a slice: one
of the synthetic phantom.
"""

import io
from pathlib import Path

import numpy as np
from absl import flags
from PIL import Image

from covjax.commands import cli
from covjax.commands.shared_flags import define_bits, define_intensity, define_path, read_paths
from covjax.errors import InputError, unknown
from covjax.files import write_whole
from covjax.locks import held
from covjax.preprocess.presets import GAINS, PRESETS

FLAGS = cli.new_flags()
_PRESET = flags.DEFINE_string(
    "preset", None, f"One of {', '.join(PRESETS)}; all if not given.", flag_values=FLAGS
)
_GAIN = flags.DEFINE_string("gain", "orthonormal", f"One of {', '.join(GAINS)}.", flag_values=FLAGS)
_INTENSITY = define_intensity(FLAGS)
_BITS = define_bits(FLAGS)
_WINDOW = flags.DEFINE_string(
    "window", "lung", "Of HU: lung, mediastinum or CENTRE,WIDTH.", flag_values=FLAGS
)
_OUTPUT = define_path(
    FLAGS, "output", "PNG to write, at the preset's own size.", default="enhanced.png"
)


def draw(path: str | None = None) -> None:
    import jax.numpy as jnp

    from covjax.data.phantom.picture import phantom_slice
    from covjax.preprocess.enhance import enhance

    if _PRESET.value is not None and _PRESET.value not in PRESETS:
        raise unknown("--preset", _PRESET.value, PRESETS)
    if _GAIN.value not in GAINS:
        raise unknown("--gain", _GAIN.value, GAINS)
    output = cli.given(_OUTPUT)
    if output.suffix.lower() != ".png":
        raise InputError(f"--output: {output} must end in .png")
    image = (
        phantom_slice(0, 6, slices_per_patient=12)[0]
        if path is None
        else _slice(*read_paths([path]))
    )
    presets = [_PRESET.value] if _PRESET.value else list(PRESETS)
    images = jnp.asarray(image)[None, ..., None]
    pictures = {name: np.asarray(enhance(images, name, _GAIN.value))[0, ..., 0] for name in presets}
    drawn = _png(pictures[_PRESET.value]) if _PRESET.value else _side_by_side(pictures)
    with held(output.parent):
        write_whole(output, drawn)
    for preset, picture in pictures.items():
        height, width = picture.shape
        white = np.mean(picture >= 255)
        print(f"{preset:10} {height}x{width}, {white:5.1%} white: {PRESETS[preset]}")
    print(output)


def _slice(path: Path) -> np.ndarray:
    from covjax.data.formats.images import read_picture
    from covjax.data.intensity import eight_bit, parse_window

    picture = read_picture(path, _INTENSITY.value, int(_BITS.value))
    return eight_bit(
        picture.values,
        parse_window(_WINDOW.value, "--window") if picture.intensity == "hu" else None,
    )


def _png(picture: np.ndarray) -> bytes:
    content = io.BytesIO()
    Image.fromarray(np.round(picture).astype(np.uint8)).save(content, "PNG")
    return content.getvalue()


def _side_by_side(pictures: dict[str, np.ndarray]) -> bytes:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(2.4 * len(pictures), 3.0), layout="constrained")
    content = io.BytesIO()
    for axes, (preset, picture) in zip(
        figure.subplots(1, len(pictures)), pictures.items(), strict=True
    ):
        axes.imshow(picture, cmap="gray", vmin=0, vmax=255)
        axes.set_title(f"{preset}\n{picture.shape[0]}x{picture.shape[1]}", fontsize=9)
        axes.set_axis_off()
    figure.savefig(content, dpi=100, format="png")
    return content.getvalue()


def main() -> None:
    cli.run(draw, FLAGS, __doc__, operands=1)
