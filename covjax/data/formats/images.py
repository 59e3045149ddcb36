"""Picture files as 8-bit grey slices, with one clear error for what cannot be one."""

from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError
from PIL.TiffImagePlugin import TiffImageFile

from covjax.data.formats.damage import reading
from covjax.data.formats.deep_pictures import Picture, check_used, read_deep
from covjax.errors import InputError

SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")
FORMATS = ("PNG", "JPEG", "TIFF", "BMP")  # no other decoder runs, whatever a file called .png holds
DEEP = ("I;16", "I;16B", "I;16L", "I;16N", "I", "F")  # greys of more than 8 bits
SIXTEEN = "covjax: 16 bits"
TURNED = "covjax: turned"  # in `info` of a picture: what its file says
MIN_SIDE = 16
MAX_PIXELS = 64_000_000


def list_images(folder: Path, but: str | None = None) -> dict[str, Path]:
    """Returns every picture below `folder` as {relative path without suffix: file}, sorted.

    Hidden files, links to folders, and the subfolder `but` are left out. Raises InputError if two
    pictures share a stem, a link leads nowhere, or there are no pictures.
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
            raise InputError(
                f"{path}: {found[stem].name} has the same name without its suffix, rename one of "
                "them"
            )
        found[stem] = path
    if not found:
        raise InputError(
            f"{folder}: holds no picture ({', '.join(SUFFIXES)}), point to a folder of slices"
        )
    return found


def read_picture(path: Path, declared: str = "auto", bits: int = 0) -> Picture:
    """Reads a picture, upright as its EXIF or TIFF orientation says.

    Colour becomes luminance and transparency black. Of more than 8 bits a pixel, grey levels are
    scaled to 8, and HU are HU where `declared` says so
    (covjax.data.formats.hounsfield.INTENSITIES; it is for
    such pictures alone). `bits` says how many bits grey levels use
    (covjax.data.formats.deep_pictures.BITS). Raises InputError naming the file when it is damaged,
    not a
    picture, CMYK, too large or too small, or when it is not clear what its values are.
    """
    image = decoded(path)
    if image.mode in DEEP:
        return read_deep(path, np.asarray(image), declared, bits)._replace(
            turned=image.info[TURNED]
        )
    grey = as_grey(image, path)
    if image.info[SIXTEEN]:
        check_used(path, grey, declared)
    return Picture(grey, turned=image.info[TURNED])


def read_image(path: Path, bits: int = 0) -> np.ndarray:
    """Reads a picture as uint8 [H, W]; see `read_picture`."""
    return read_picture(path, "auto", bits).values


def is_turned(path: Path) -> bool:
    """Returns whether a picture's header says that it is stored turned. Raises InputError."""
    return decoded(path, pixels=False).info[TURNED]


def is_deep(path: Path) -> bool:
    """Returns whether a picture has greys of more than 8 bits, by its header. Raises InputError."""
    return decoded(path, pixels=False).mode in DEEP


def as_grey(image: Image.Image, name: object) -> np.ndarray:
    """Returns a picture of 8-bit values as uint8 [H, W]: colour as luminance, transparency black.

    Raises InputError, which calls it `name`, for one of another kind.
    """
    if image.mode not in ("L", "LA", "RGB", "RGBA", "P", "PA", "1"):
        raise InputError(
            f"{name}: {image.mode} pictures are not CT slices, save it as 8-bit grey or RGB"
        )
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, (0, 0, 0, 255)), image)
    if image.mode == "P":
        image = image.convert("RGB")
    return np.asarray(image.convert("L"))


def decoded(path: Path, pixels: bool = True) -> Image.Image:
    """Opens, checks and decodes a picture, upright; without `pixels` its header alone."""
    with reading(path):
        if path.stat().st_size == 0:
            raise InputError(f"{path}: the file is empty, restore or remove it")
        try:
            # Not by its name: Pillow 13 maps such files, and garbles uncompressed TIFF that is to
            # be turned.
            with path.open("rb") as file, Image.open(file, formats=FORMATS) as image:
                if pixels and image.format == "PNG":
                    _verify(path)
                _check_header(path, image)
                image.info[SIXTEEN] = any(";16" in str(tile.args) for tile in image.tile)
                image.info[TURNED] = image.getexif().get(ExifTags.Base.Orientation, 1) != 1
                if pixels:
                    image.load()
                    ImageOps.exif_transpose(image, in_place=True)
                return image
        except Image.DecompressionBombError:
            raise _too_large(path) from None
        except UnidentifiedImageError:
            raise InputError(
                f"{path}: not a picture whatever its name says, replace or remove it"
            ) from None


def _verify(path: Path) -> None:
    """Compares the checksums of a PNG, which loading one does not. Raises what Pillow raises."""
    with path.open("rb") as file, Image.open(file, formats=FORMATS) as image:
        image.verify()


def _check_header(path: Path, image: Image.Image) -> None:
    """Refuses by size, mode and number of pages, before anything is decoded."""
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise _too_large(path)
    if min(width, height) < MIN_SIDE:
        raise InputError(
            f"{path}: {width}x{height} pixels, a slice has at least {MIN_SIDE}x{MIN_SIDE}"
        )
    if isinstance(image, TiffImageFile) and image.n_frames > 1:
        raise InputError(
            f"{path}: holds {image.n_frames} pictures, save every slice in a separate file"
        )


def _too_large(path: Path) -> InputError:
    return InputError(
        f"{path}: more than {MAX_PIXELS:,} pixels, not one CT slice; crop or resize it"
    )
