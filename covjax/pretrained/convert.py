"""From the arrays of a PyTorch state dict to the variables of a network."""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from flax import linen as nn

from covjax.errors import InputError

UNUSED = ".num_batches_tracked"  # a counter that PyTorch keeps beside BatchNorm's statistics


def variables_from_state(model: nn.Module, state: Mapping[str, np.ndarray], variables: Any) -> Any:
    """Returns `variables` ({"params", "batch_stats"}) with every value taken from `state`, keys as in PyTorch.

    Raises InputError for a key that is missing or left over, or a value of another shape.
    """
    left = {key for key in state if not key.endswith(UNUSED)}

    def value(path, leaf):
        names = tuple(entry.key for entry in path[1:])
        key = model.reference_key(names)
        if key not in state:
            raise InputError(f"weights: '{key}' is missing, use a file of this architecture")
        left.discard(key)
        array = in_our_layout(np.asarray(state[key]), getattr(model, "flattened", {}).get(names[0]))
        if array.shape != leaf.shape:
            raise InputError(f"weights: '{key}' has shape {array.shape}, not {leaf.shape}, use a file of this network")
        return array.astype(leaf.dtype)

    converted = jax.tree_util.tree_map_with_path(value, variables)
    if left:
        raise InputError(f"weights: '{min(left)}' and {len(left) - 1} more are of no use, use a file of this network")
    return converted


def in_our_layout(array: np.ndarray, flattened: tuple[int, int, int] | None = None) -> np.ndarray:
    """Turns kernels OIHW into HWIO and (O, I) into (I, O), whose I is a feature map (C, H, W) if `flattened`; keeps
    vectors as they are."""
    if array.ndim == 4:
        return array.transpose(2, 3, 1, 0)
    if array.ndim == 2 and flattened:
        features = array.shape[0]
        return array.reshape(features, *flattened).transpose(2, 3, 1, 0).reshape(-1, features)
    return array.T if array.ndim == 2 else array
