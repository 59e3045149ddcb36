"""The way back from what is centred in an array, for tests."""


def unpadded(pixels, shape):
    """Returns what `covjax.data.resizing.padded` put into the centre of an array: pixels [*shape]."""
    top, left = ((whole - side) // 2 for whole, side in zip(pixels.shape, shape, strict=True))
    return pixels[top : top + shape[0], left : left + shape[1]]
