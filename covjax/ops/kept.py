"""What a pooling keeps for the unpooling that undoes it."""

import jax
from flax import struct

from covjax.ops.sides import Pair
from covjax.ops.wavelets import Details


@struct.dataclass
class Switches:
    """Which pixel of each window won a max-pool; may cross jit."""

    winner: jax.Array  # [N, H // window, W // window, C] int8, row-major position in the window
    window: int = struct.field(pytree_node=False)
    size: Pair = struct.field(pytree_node=False)  # [H, W] of what was pooled


@struct.dataclass
class HighBands:
    """What a Haar pooling leaves out, each [N, ceil(H / 2), ceil(W / 2), C]; may cross jit."""

    bands: Details
    size: Pair = struct.field(pytree_node=False)  # [H, W] of what was pooled


@struct.dataclass
class KeptArrays:
    """What a pooling of a plug-in keeps for its unpooling, any arrays; may cross jit."""

    arrays: dict[str, jax.Array]
    size: Pair = struct.field(pytree_node=False)  # [H, W] of what was pooled


Kept = Switches | HighBands | KeptArrays | None
