"""Reading picture files into 8-bit grey slices and masks, with one clear error for what cannot be one."""

import struct
import warnings
import zlib
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import numpy as np
from PIL import Image, UnidentifiedImageError

from covjax.data.classes import map_classes
from covjax.errors import InputError

SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")
FORMATS = ("PNG", "JPEG", "TIFF", "BMP")  # no other decoder runs, whatever a file called .png holds
GREYS_16 = ("I;16", "I;16B", "I;16L", "I;16N", "I")
MIN_SIDE, MAX_PIXELS = 16, 64_000_000


def list_images(folder: Path, but: str | None = None) -> dict[str, Path]:
    """Returns every picture below `folder` as {path without suffix, relative, with "/": file}, sorted.

    Hidden files, links to folders, and the subfolder `but` are left out. Raises InputError if two pictures share a
    stem, a link leads nowhere, or there are no pictures.
    """
    found: dict[str, Path] = {}
    for path in sorted(folder.rglob("*")):
        inside = path.relative_to(folder)
        hidden = any(part.startswith(".") for part in inside.parts)
        if path.suffix.lower() not in SUFFIXES or hidden or inside.parts[0] == but:
            continue
        if path.is_symlink() and not path.exists():
            raise InputError(f"{path}: a link to nothing, restore what it points to or remove it")
        if not path.is_file():
            continue
        stem = inside.with_suffix("").as_posix()
        if stem in found:
            raise InputError(f"{path}: {found[stem].name} has the same name without its suffix, rename one of them")
        found[stem] = path
    if not found:
        raise InputError(f"{folder}: holds no picture ({', '.join(SUFFIXES)}), point to a folder of slices")
    return found


def read_image(path: Path, bits: int = 16) -> np.ndarray:
    """Reads a picture as uint8 [H, W]: colour becomes luminance, transparency black, 16-bit greys are scaled to 8.

    `bits` says how many bits a 16-bit file uses (12 or 16). Raises InputError naming the file when it is damaged, not
    a picture, CMYK, too large or too small, or when its values need more than `bits` bits.
    """
    image = _decoded(path)
    if image.mode in GREYS_16:
        return _from_16_bit(np.asarray(image), path, bits)
    return as_grey(image, path)


def as_grey(image: Image.Image, name: object) -> np.ndarray:
    """Returns a picture of 8-bit values as uint8 [H, W]: colour becomes luminance, transparency black.

    Raises InputError, which calls it `name`, for one of another kind.
    """
    if image.mode not in ("L", "LA", "RGB", "RGBA", "P", "PA", "1"):
        raise InputError(f"{name}: {image.mode} pictures are not CT slices, save it as 8-bit grey or RGB")
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, (0, 0, 0, 255)), image)
    return np.asarray(image.convert("RGB").convert("L") if image.mode == "P" else image.convert("L"))


def read_mask(path: Path, threshold: int = 0, classes: Mapping[int, int] = MappingProxyType({})) -> np.ndarray:
    """Reads a mask as uint8 [H, W] of 0 (background) and 1 (infected), or of what `classes` makes of it.

    The file holds 0 and 1, or 0 and 255; with a `threshold` above 0 any grey counts and values above it are infected
    (for masks saved as JPEG), and with `classes` ({value in the file: in the mask}) it holds those values. Raises
    InputError naming the file and the values that do not fit.
    """
    image = _decoded(path)
    if image.mode not in ("L", "RGB", "RGBA", "LA", "P", "1"):
        raise InputError(f"{path}: {image.mode} masks are not supported, save it as 8-bit grey")
    # A palette mask stores class numbers as indices; its colours mean nothing.
    values = np.asarray(image if image.mode in ("L", "P") else image.convert("L"))
    if classes:
        return map_classes(values, classes, path)
    if threshold > 0:
        return (values > threshold).astype(np.uint8)
    found = np.flatnonzero(np.bincount(values.ravel(), minlength=256))
    if not (set(found) <= {0, 1} or set(found) <= {0, 255}):
        some = ", ".join(str(v) for v in found[:6]) + (", .." if len(found) > 6 else "")
        raise InputError(
            f"{path}: mask values {some}; a mask holds 0 and 1, or 0 and 255 (or set data.mask_threshold, e.g. 127)"
        )
    return (values > 0).astype(np.uint8)


def _decoded(path: Path) -> Image.Image:
    """Opens, checks and decodes a picture, turning every way it can be damaged into one InputError."""
    try:
        if path.stat().st_size == 0:
            raise InputError(f"{path}: the file is empty, restore or remove it")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # on odd metadata and on size, which is checked here
            with Image.open(path, formats=FORMATS) as image:
                _check_header(path, image)
                image.load()
                return image
    except InputError:
        raise
    except Image.DecompressionBombError:
        raise _too_large(path) from None
    except UnidentifiedImageError:
        raise InputError(f"{path}: not a picture whatever its name says, replace or remove it") from None
    except OSError as error:
        if error.errno is not None:
            raise InputError(f"{path}: cannot be read ({error.strerror}), check the path") from None
        raise _damaged(path, error) from None
    # Damaged files fail in many ways inside the decoders, none of them a programming error of ours.
    except (
        SyntaxError,
        ValueError,
        LookupError,
        TypeError,
        ArithmeticError,
        struct.error,
        zlib.error,
    ) as error:
        raise _damaged(path, error) from None


def _check_header(path: Path, image: Image.Image) -> None:
    """Refuses by size, mode and number of pages, before anything is decoded."""
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise _too_large(path)
    if min(width, height) < MIN_SIDE:
        raise InputError(f"{path}: {width}x{height} pixels, a slice has at least {MIN_SIDE}x{MIN_SIDE}")
    if image.format == "TIFF" and image.n_frames > 1:
        raise InputError(f"{path}: holds {image.n_frames} pictures, save every slice in a file of its own")


def _too_large(path: Path) -> InputError:
    return InputError(f"{path}: more than {MAX_PIXELS:,} pixels, not one CT slice; crop or resize it")


def _damaged(path: Path, error: Exception) -> InputError:
    reason = " ".join(str(error).split()) or type(error).__name__
    return InputError(f"{path}: damaged or truncated ({reason}), replace or remove it")


def _from_16_bit(values: np.ndarray, path: Path, bits: int) -> np.ndarray:
    top = 2**bits - 1
    if values.min() < 0 or values.max() > top:
        raise InputError(
            f"{path}: values {values.min()}..{values.max()} do not fit {bits} bits, set data.bits to 12 or 16, "
            "or export the slice through a lung window"
        )
    return np.round(values.astype(np.float32) * (255 / top)).astype(np.uint8)
