"""Masks read by themselves, for tests."""

from covjax.data.formats.picture_masks import MaskFiles


def read_mask(path, threshold=0, classes=None):
    """Reads one mask as if it were all of its set."""
    return MaskFiles([path], threshold, classes or {}).read(path)
