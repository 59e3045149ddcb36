"""Colours of classes on grey slices: Okabe and Ito's palette, safe for colour blindness."""

# Vermilion, sky, yellow, green, purple, orange, blue. The first is also that of infection without
# classes.
COLOURS = ("#D55E00", "#56B4E9", "#F0E442", "#009E73", "#CC79A7", "#E69F00", "#0072B2")


def rgb(colour: str) -> tuple[int, int, int]:
    """Returns red, green and blue, 0 to 255, of a colour as #RRGGBB."""
    red, green, blue = bytes.fromhex(colour[1:])
    return red, green, blue
