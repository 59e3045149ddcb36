"""Pooling and unpooling by name: the research subject of the paper, apart from networks.

Source: "Classification and Region Analysis of COVID-19 Infection using Lung CT Images and Deep
Convolutional Neural Networks", arXiv:2009.08864: average pooling for the homogeneity of regions,
max pooling for their boundary.

A new pooling is one function and one line in `ops.poolings.POOLING_TABLE`, a new unpooling one in
`ops.unpool.UNPOOLING_TABLE`. A network takes four fields, `encoder_smoothing`, `encoder_pooling`,
`decoder_unpooling`, `decoder_smoothing`, checks them by `check_pooling` and calls `Pool` and
`Unpool`.
"""

from covjax.nn.pooling import Pool, Unpool
from covjax.ops.kept import HighBands, Kept, Switches
from covjax.ops.pool import pool2d
from covjax.ops.poolings import POOLINGS, SMOOTHINGS
from covjax.ops.unpool import FITS, UNPOOLINGS, check_pooling, unpool2d

__all__ = [
    "FITS",
    "POOLINGS",
    "SMOOTHINGS",
    "UNPOOLINGS",
    "HighBands",
    "Kept",
    "Pool",
    "Switches",
    "Unpool",
    "check_pooling",
    "pool2d",
    "unpool2d",
]
