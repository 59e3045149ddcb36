"""Pictures of more than 8 bits a pixel: grey levels of 12 or 16 bits, or HU if declared."""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from covjax.data.formats.hounsfield import (
    NAMES,
    described,
    kinds_accepted,
    looks_like,
    remedy,
    set_aside,
)
from covjax.data.formats.hounsfield import decide as decide_values
from covjax.data.intensity import eight_bit
from covjax.errors import InputError

BITS = {
    0: "as many as the file has, refused where it hardly uses them",
    12: "0 to 4095",
    16: "0 to 65535",
}
# a picture of 16-bit grey levels holds values from here on; what does not uses 13 bits or fewer
USED = 2**13


class Picture(NamedTuple):
    """A picture as read."""

    values: np.ndarray  # [H, W]: uint8 of 8bit, float32 of hu
    intensity: str = "8bit"  # or hu
    notes: tuple[str, ...] = ()
    turned: bool = False  # upright, as its EXIF or TIFF orientation says


def read_deep(path: Path, values: np.ndarray, declared: str = "auto", bits: int = 0) -> Picture:
    """Returns what the values [H, W] of a picture are.

    Args:
      path: what errors name.
      values: 16-bit, 32-bit or floating-point greys.
      declared: what the user says, of covjax.data.formats.hounsfield.INTENSITIES.
      bits: of grey levels, of BITS.

    Raises:
      InputError: they are not what was declared. Or nothing was, and they are signed, fractions,
        hardly use their bits,
        or look like HU: a picture has no header that could say so, and a wrong guess makes it
        black or white.
    """
    if not np.isfinite(values).all():
        raise InputError(f"{path}: holds NaN or infinite values, repair or remove the file")
    if declared not in ("auto", "8bit") or (
        declared == "8bit" and declared in kinds_accepted(values)
    ):
        reading = decide_values(path, values, declared)
        converted = reading.convert(values)
        if reading.intensity == "8bit":
            converted = eight_bit(converted, None)
        return Picture(converted, reading.intensity, reading.notes)
    whole = values.dtype.kind in "iu" and values.min() >= 0
    if bits and whole and values.max() < 2**bits:
        return Picture(_scaled(values, bits))
    if bits:
        raise InputError(
            f"{path}: {described(values)} are no grey levels of {bits} bits, {_offers(values)}"
        )
    rest, _ = set_aside(values.ravel())
    dark = 0 < rest.max() < USED
    if not whole or values.max() >= 2**16 or dark or (rest.max() > 0 and looks_like(values)):
        raise InputError(
            f"{path}: {described(values)} may be HU or grey levels of fewer bits, {_offers(values)}"
        )
    return Picture(_scaled(values, 16))


def check_used(path: Path, grey: np.ndarray, declared: str) -> None:
    """Raises InputError for a 16-bit colour picture, decoded to 8 bits, that hardly uses them."""
    if declared not in ("auto", "8bit") or grey.max() < USED // 256:
        raise InputError(
            f"{path}: 16-bit colour, of which only the upper 8 bits are read, here at most "
            f"{grey.max()} of 255; save it as 16-bit grey, or as 8-bit"
        )


def _scaled(values: np.ndarray, bits: int) -> np.ndarray:
    return np.round(values.astype(np.float32) * (255 / (2**bits - 1))).astype(np.uint8)


def _offers(values: np.ndarray) -> str:
    """Returns what the user can declare so that the picture is read."""
    kinds = looks_like(values)
    found = [f"{remedy(kind)} for {NAMES[kind]}" for kind in kinds]
    low = values.min()
    high = values.max()
    if values.dtype.kind in "iu" and low >= 0:
        found += [
            f"{remedy(str(n), 'bits')} for {n}-bit grey levels" for n in (12, 16) if high < 2**n
        ]
    accepted = kinds_accepted(values)
    if "8bit" in accepted:
        found.append(f"{remedy('8bit')} for 0..255")
    if not kinds and low < 0:
        found += [f"{remedy(kind)} for {NAMES[kind]}" for kind in accepted if kind in NAMES]
    if not found:
        return "export the slice through a lung window as 8-bit grey"
    return "declare what they are: " + ", or ".join(found)
