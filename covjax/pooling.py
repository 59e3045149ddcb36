"""Pooling and unpooling by name: the research subject of the paper, apart from networks.

Source: "Classification and Region Analysis of COVID-19 Infection using Lung CT Images and Deep
Convolutional Neural Networks", arXiv:2009.08864: average pooling for the homogeneity of regions,
max pooling for their boundary.

A new pooling is one function, given to `register_pooling` with its name, a new unpooling one given
to `register_unpooling`; `check_operator` tries them. A network takes four fields,
`encoder_smoothing`, `encoder_pooling`, `decoder_unpooling`, `decoder_smoothing`, checks them by
`check_pooling` and calls `Pool` and `Unpool`.
"""

from covjax.nn.operator_checks import check_operator
from covjax.nn.pooling import Pool, Unpool
from covjax.ops.fitting import check_pooling
from covjax.ops.grids import Grid, views
from covjax.ops.kept import HighBands, Kept, KeptArrays, Switches
from covjax.ops.pool import pool2d
from covjax.ops.poolings import POOLINGS, smoothings
from covjax.ops.register import register_pooling, register_unpooling
from covjax.ops.unpool import FITS, UNPOOLINGS, unpool2d

__all__ = [
    "FITS",
    "POOLINGS",
    "UNPOOLINGS",
    "Grid",
    "HighBands",
    "Kept",
    "KeptArrays",
    "Pool",
    "Switches",
    "Unpool",
    "check_operator",
    "check_pooling",
    "pool2d",
    "register_pooling",
    "register_unpooling",
    "smoothings",
    "unpool2d",
    "views",
]
