"""What is said of weights that do not fit a network: what differs, and whose weights they look
like.
"""

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from covjax.models import create_model, list_models, model_class
from covjax.pretrained.convert import Match, reference_shapes

LISTED = 10  # differences named in one line
# share of names and shapes, of all, that another network must have in common to be named
ALIKE = 0.5


def name_of(model: nn.Module) -> str:
    """Returns the name by which `create_model` made a network."""
    return model.name or type(model).__name__


def differences(match: Match) -> list[str]:
    """Returns one entry for each name that does not fit: - missing, + left over, ~ of another
    shape.
    """
    signs = (("-", match.missing), ("+", match.left_over), ("~", match.misshapen))
    return [sign + ascii(entry)[1:-1] for sign, entries in signs for entry in entries]


def misfit(part: str, name: str, full: Sequence[str], state: Mapping[str, np.ndarray]) -> str:
    """Says, in one line, how weights differ from those of network `name`, which `part` takes, and
    whose they seem.
    """
    counts = ", ".join(
        f"{count} {what}"
        for sign, what in (
            ("-", "missing (-)"),
            ("+", "left over (+)"),
            ("~", "of another shape (~)"),
        )
        if (count := sum(entry.startswith(sign) for entry in full))
    )
    listed = ", ".join(full[:LISTED]) + (
        f" and {len(full) - LISTED} more (see --debug)" if len(full) > LISTED else ""
    )
    other = resembled(state)
    if other is not None and other != name:
        remedy = f"it looks like weights of {other}"
    else:
        remedy = "use weights of this network, or name what to skip"
    return f"does not fit {part}, {remedy}: {counts}: {listed}"


def resembled(state: Mapping[str, np.ndarray]) -> str | None:
    """Returns the network that has most names and shapes in common with a state dict, if it has
    most of them.
    """
    here = {(key, tuple(array.shape)) for key, array in state.items()}
    best = ALIKE
    found = None
    for name in _candidates(state):
        shapes = set(reference_shapes(*outline(name)).items())
        if (share := len(here & shapes) / len(here | shapes)) > best:
            best = share
            found = name
    return found


def _candidates(state: Mapping[str, np.ndarray]) -> list[str]:
    """Returns the networks with published weights whose last layer is in the state, or all of them
    if none is.

    To trace a network takes a second or so; most are told apart by the name of that layer.
    """
    published = [
        name
        for name in list_models("classification")
        if hasattr(model_class(name), "reference_key")
    ]
    families = {name: model_class(name) for name in published}
    alike = [
        name
        for name, family in families.items()
        if family.reference_key((family.head[-1], "kernel")) in state
    ]
    return alike or published


@cache
def outline(name: str) -> tuple[nn.Module, Any]:
    """Returns a network with three channels and 1000 classes, and the shapes of its variables."""
    model = create_model(name, num_classes=1000)
    x = jax.ShapeDtypeStruct(
        (1, model.pretrained_input.size, model.pretrained_input.size, 3), jnp.float32
    )
    variables = jax.eval_shape(model.init, jax.random.PRNGKey(0), x)
    return model, {kind: variables[kind] for kind in ("params", "batch_stats") if kind in variables}
