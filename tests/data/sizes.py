"""The way back from what is centred in an array, for tests."""


def unpadded(pixels, shape):
    """Returns the pixels [*shape] that `covjax.data.resizing.padded` put into a larger array."""
    top, left = ((whole - side) // 2 for whole, side in zip(pixels.shape, shape, strict=True))
    return pixels[top : top + shape[0], left : left + shape[1]]
