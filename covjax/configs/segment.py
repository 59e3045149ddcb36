"""Any segmentation network by its name, on plain slices, infected ones only.

  covjax train --config segment:model=unet --workdir runs/unet \
      --config.data.source=prlab21 --config.data.path=PATH
  ... --config segment:model=unet_backbone,init=tl ..    # needs the extra lite0
  ... --config segment:model=deeplab_v3plus,init=tl .. \
      --config.segmenter.init.weights=resnet50-0676ba61.pth

Networks: covjax.models.list_models("segmentation"), segnet_plain if none is named. Their options
are fields, e.g. --config.segmenter.model.width=32. Input is standardised and gradients are clipped.
With init=tl the encoder starts from a classifier's published weights and gets the input that they
expect.
"""

from covjax.configs import framework
from covjax.errors import InputError, unknown
from covjax.models import create_model, model_options, published
from covjax.pretrained import PACKAGE
from covjax.settings import read_arguments


def get_config(arguments=""):
    chosen = read_arguments(arguments, model="segnet_plain", init="scratch")
    if chosen["init"] not in ("scratch", "tl"):
        raise unknown("init", chosen["init"], ("scratch", "tl"))
    name = chosen["model"]
    config = framework.get_config().unlock()
    del config.classifier
    if name != config.segmenter.model.name:
        config.segmenter.model = dict(name=name, **model_options(name, "segmentation"))
    config.segmenter.input.normalize = "standardize"
    config.segmenter.optimizer.clip_norm = 1.0
    if chosen["init"] == "tl":
        encoder = published(create_model(name))
        if encoder is None:
            raise InputError(
                f"init: 'tl' needs published weights, {name} takes none, use init=scratch"
            )
        # a flag names them
        config.segmenter.init.weights = PACKAGE if encoder.package else ""
        config.segmenter.input.normalize = "pretrained"
    return config.lock()
