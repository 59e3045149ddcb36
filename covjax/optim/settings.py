"""What a stage's training minimises and how: the sections `loss` and `optimizer`."""

from dataclasses import dataclass

from covjax.errors import InputError, unknown
from covjax.fields import NOT_NEGATIVE, POSITIVE, SHARE, Rule, setting

LOSSES = {
    "cross_entropy": "-log p of the true class, mean over pixels (the paper's, arXiv:2009.08864)",
    "focal": "cross entropy times (1 - p)^focal_gamma: easy pixels count little (RetinaNet, "
    "arXiv:1708.02002)",
    "dice": "1 - soft Dice of every class but the background, slice by slice (V-Net, "
    "arXiv:1606.04797)",
    "generalized_dice": "1 - soft Dice of all classes, each weighed by 1 / its pixels squared "
    "(arXiv:1707.03237)",
    "tversky": "as dice, false alarms weighing tversky_alpha, misses tversky_beta "
    "(arXiv:1706.05721)",
    "ce_dice": "cross entropy plus dice, both slice by slice (nnU-Net, arXiv:1904.08128)",
}
PER_PIXEL = ("cross_entropy", "focal")  # those a classifier can use too: a slice is then the pixel
WEIGHTED = (*PER_PIXEL, "ce_dice")  # those that know class weights
CLASS_WEIGHTS = {
    "none": "every class weighs 1",
    "median_frequency": "median(frequency) / frequency, each in the images where the class "
    "occurs (arXiv:1411.4734)",
    "inverse_frequency": "1 / frequency, scaled to mean 1",
    "sqrt_inverse_frequency": "1 / sqrt(frequency), scaled to mean 1: gentler where lesions are "
    "a few per cent",
}
OPTIMIZERS = {
    "sgd": "momentum, L2 decay: as the paper trains",
    "adamw": "rates per parameter, decoupled decay",
}
SCHEDULES = {"constant": "the same rate throughout", "cosine": "falls to zero along half a cosine"}


def _check_class_weights(where: str, rule: str) -> None:
    if "," not in rule and rule not in CLASS_WEIGHTS:
        raise unknown(where, rule, CLASS_WEIGHTS)


def _is_smooth(pixels: float) -> bool:
    return pixels >= 1e-6


@dataclass(frozen=True)
class LossSettings:
    """What the training minimises."""

    name: str = setting("cross_entropy", "which loss", choices=LOSSES)
    class_weights: str = setting(
        "none",
        "of cross_entropy, focal and ce_dice: by counts of the training split, or the weights "
        'themselves, background first: "0.5,2"',
        check=_check_class_weights,
        allowed=f'{", ".join(CLASS_WEIGHTS)}, or numbers as "0.5,2"',
    )
    focal_gamma: float = setting(2.0, "of focal: 0 is cross entropy", rule=NOT_NEGATIVE)
    tversky_alpha: float = setting(
        0.3, "of tversky: what a pixel wrongly called infected weighs", rule=NOT_NEGATIVE
    )
    tversky_beta: float = setting(0.7, "of tversky: what a missed pixel weighs", rule=NOT_NEGATIVE)
    smooth: float = setting(
        1.0,
        "pixels added above and below, so that overlap losses are defined on empty masks",
        rule=Rule("1e-06 or more", _is_smooth),
    )

    def check(self, where: str) -> None:
        """Raises InputError for class weights or Tversky weights that have no meaning."""
        if self.class_weights != "none" and self.name not in WEIGHTED:
            raise InputError(
                f"{where}.class_weights: '{self.class_weights}' has no meaning for {self.name}, "
                f"set none or use one of {', '.join(WEIGHTED)}"
            )
        if self.tversky_alpha + self.tversky_beta == 0:
            raise InputError(
                f"{where}: tversky_alpha and tversky_beta are both 0, set one of them above 0"
            )


@dataclass(frozen=True)
class OptimizerSettings:
    """How parameters are updated."""

    name: str = setting("sgd", "which optimiser", choices=OPTIMIZERS)
    learning_rate: float = setting(1e-3, "the highest of the schedule", rule=POSITIVE)
    schedule: str = setting("constant", "of the learning rate", choices=SCHEDULES)
    warmup_epochs: float = setting(
        0.0, "epochs in which the rate rises to its highest", rule=NOT_NEGATIVE
    )
    momentum: float = setting(0.95, "of sgd; the first beta of adamw", rule=SHARE)
    weight_decay: float = setting(1e-4, "of kernels", rule=NOT_NEGATIVE)
    clip_norm: float = setting(
        0.0, "the gradient's norm is clipped to this; 0: not", rule=NOT_NEGATIVE
    )
    ema: float = setting(
        0.0, "above 0: evaluate with this moving average of the parameters", rule=SHARE
    )
    freeze: str = setting(
        "",
        "parameters that do not train, by patterns over their paths, the last that fits wins: "
        '"*,!fc3/*" is all but fc3. A BatchNorm layer whose scale is frozen keeps its statistics',
    )
    rates: str = setting(
        "",
        'learning rates of parts, as multiples: "stem/*:0.1,stage1*:0.3", the first that fits wins',
    )
