"""Any segmentation network by its name, on plain slices, infected ones only.

  python train.py --config configs/segment.py:model=unet --workdir runs/unet \
      --config.data.source=prlab21 --config.data.path=PATH

Networks: covjax.models.list_models("segmentation"), segnet_plain if none is named. Their options are fields, e.g.
--config.segmenter.model.width=32. Input is standardised and gradients are clipped.
"""

from configs import common, framework
from covjax.models import model_options


def get_config(arguments=""):
    name = common.arguments(arguments, model="segnet_plain")["model"]
    config = framework.get_config().unlock()
    del config.classifier
    if name != config.segmenter.model.name:
        config.segmenter.model = dict(name=name, **model_options(name, "segmentation"))
    config.segmenter.input.normalize = "standardize"
    config.segmenter.optimizer.clip_norm = 1.0
    return config.lock()
