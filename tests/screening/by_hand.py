"""New slices to screen, and what a `Screener` says of them."""

from PIL import Image

from covjax.data.intensity import eight_bit
from covjax.screening.screener import Screener
from tests.data.written import scan

VALUES = scan((5, 40, 50))


def write_picture(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def by_hand(workdir, values, window=(-600, 1500)):
    return list(
        Screener.from_workdir(workdir, 4).screen([eight_bit(one, window) for one in values])
    )
