"""Which poolings, unpoolings and smoothings a network can take together."""

from covjax.errors import InputError
from covjax.ops.checks import check_name
from covjax.ops.poolings import POOLING_TABLE, smoothings
from covjax.ops.unpool import FITS, UNPOOLING_TABLE


def check_pooling(
    encoder_smoothing: str, encoder_pooling: str, decoder_unpooling: str, decoder_smoothing: str
) -> None:
    """Raises InputError for an unknown name in a network's four fields or one that fits not."""
    for field, name, table in (
        ("encoder_smoothing", encoder_smoothing, smoothings()),
        ("encoder_pooling", encoder_pooling, POOLING_TABLE),
        ("decoder_unpooling", decoder_unpooling, UNPOOLING_TABLE),
        ("decoder_smoothing", decoder_smoothing, smoothings()),
    ):
        check_name(f"model option {field}", name, table)
    fitting = FITS[decoder_unpooling]
    if encoder_pooling not in fitting:
        others = [name for name, poolings in FITS.items() if encoder_pooling in poolings]
        raise InputError(
            f"model option decoder_unpooling: '{decoder_unpooling}' does not fit encoder_pooling "
            f"'{encoder_pooling}', use {' or '.join(others)}, "
            f"or a pooling that it fits: {', '.join(fitting)}"
        )
