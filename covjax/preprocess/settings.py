"""What a stage's network sees: the sections `input` and `augment`."""

from dataclasses import dataclass

from covjax.fields import POSITIVE, Rule, off_or_up_to, setting
from covjax.preprocess.presets import GAINS, PRESETS

NORMALIZATIONS = {
    "zero_center": "subtract the training mean, keep the 0..255 scale (the paper's)",
    "standardize": "subtract the training mean, divide by the training standard deviation",
    "pretrained": "mean and standard deviation that the network's published weights were "
    "trained with",
    "auto": "pretrained for a network that starts from published weights, else zero_center; "
    "settled as a run begins",
}


def _is_size(sides: object) -> bool:
    if not isinstance(sides, tuple) or len(sides) != 2:
        return False
    return all(isinstance(side, int) and 16 <= side <= 4096 for side in sides)


SIZE = Rule("height and width, 16 to 4096 pixels", _is_size)


@dataclass(frozen=True)
class InputSettings:
    """From a slice to the network's input."""

    size: tuple[int, int] = setting((304, 304), "of the network's input", rule=SIZE)
    channels: int = setting(
        1, "of the network's input: grey slices are repeated over them", rule=POSITIVE
    )
    enhance: str = setting("none", "how slices are enhanced", choices=PRESETS)
    slice_size: tuple[int, int] = setting(
        (304, 304),
        "what slices are brought to before enhancement (with none: to size)",
        rule=SIZE,
    )
    gain: str = setting(
        "orthonormal",
        "of the enhancement; unit: LL is halved per level, nothing saturates",
        choices=GAINS,
    )
    normalize: str = setting(
        "auto",
        "pretrained: what published weights expect; auto: that with such weights, else zero_center",
        choices=NORMALIZATIONS,
    )


@dataclass(frozen=True)
class Augmentation:
    """How far augmentation of training slices may go, each sample uniformly up to there.

    Image and mask move together. Look at it by `covjax preview`. Source of cutout:
    "Improved Regularization of Convolutional Neural Networks with Cutout" (2017), arXiv:1708.04552,
    which is about classification. Of mixup, see `covjax.preprocess.augment.mix_pairs`.
    """

    flip: bool = setting(False, "mirror left-right and top-bottom, each with probability 1/2")
    rotation: float = setting(
        0.0, "+- degrees in the picture, whatever its sides", rule=off_or_up_to(180)
    )
    scale: float = setting(
        0.0, "+- share of the size (0.1: 0.9 to 1.1 of it)", rule=off_or_up_to(0.9)
    )
    translation: float = setting(0.0, "+- share of the side", rule=off_or_up_to(0.5))
    shear: float = setting(
        0.0, "+- degrees in the picture, whatever its sides", rule=off_or_up_to(60)
    )
    elastic: float = setting(
        0.0,
        "+- share of the side by which the 7x7 nodes of a cubic B-spline move; nothing folds",
        rule=off_or_up_to(0.12),
    )
    intensity: float = setting(
        0.0, "+- share of contrast, and of 255 as brightness", rule=off_or_up_to(0.9)
    )
    gamma: float = setting(
        0.0,
        "exponents 1 / (1 + gamma) to 1 + gamma, evenly on a logarithmic scale, of values as "
        "shares of 255",
        rule=off_or_up_to(4),
    )
    noise: float = setting(
        0.0, "standard deviation of Gaussian noise, as a share of 255", rule=off_or_up_to(0.5)
    )
    blur: float = setting(
        0.0, "standard deviation of a Gaussian blur, in pixels", rule=off_or_up_to(8)
    )
    cutout: float = setting(
        0.0,
        "share of height and width of a window, about a point anywhere in the slice, where the "
        "image becomes its own mean and the mask 255, which counts nowhere",
        rule=off_or_up_to(0.9),
    )
    mixup: float = setting(
        0.0,
        "of a classifier: pairs of slices and their labels mixed, by weights from "
        "Beta(mixup, mixup)",
        rule=off_or_up_to(10),
    )
