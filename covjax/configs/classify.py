"""Any classifier, trained as a row of the paper's Tables 2 and 3: D, O or TL.

Paper: "Classification and Region Analysis of COVID-19 Infection using Lung CT Images and Deep
Convolutional Neural Networks", arXiv:2009.08864.

  covjax train --config classify:model=resnet50,init=scratch,input=dwt \
      --workdir runs/resnet50_d --config.data.source=prlab21 --config.data.path=PATH    # row D
  ... --config classify:model=resnet50,init=scratch,input=original ..        # row O
  ... --config classify:model=resnet50,init=tl,input=original .. \
      --config.classifier.init.weights=resnet50-0676ba61.pth                            # row TL

model is any of `covjax.models.list_models("classification")`; what is left out is cov_ctnet,
scratch, dwt. From scratch, slices are 82x82x1 as in the paper (or as large as the network needs);
with published weights (TL) they have the size and the three channels of the weights, whose file
--config.classifier.init.weights names.

The training is the paper's, for scratch but for the rate (1e-4, not 1e-3, by which CoV-CTNet
diverges) and, of VGG without BatchNorm, the input: standardised, because zero-centred it diverges
within five steps. Every field is a flag, those of the network too: --config.classifier.model.FIELD.
"""

from ml_collections import ConfigDict

from covjax.errors import InputError, unknown
from covjax.models import list_models, model_class, model_options
from covjax.models.reference import PublishedClassifier
from covjax.pretrained import PACKAGE
from covjax.settings import default_config, read_arguments

# whose loss is not finite after a few steps on the paper's scale of 0..255
WITHOUT_BATCH_NORM = ("vgg16", "vgg19")
CHOICES = {
    "model": list_models("classification"),
    "init": ("scratch", "tl"),
    "input": ("dwt", "original"),
}


def get_config(arguments=""):
    chosen = read_arguments(arguments, model="cov_ctnet", init="scratch", input="dwt")
    for field, value in chosen.items():
        if value not in CHOICES[field]:
            raise unknown(field, value, CHOICES[field])
    name = chosen["model"]
    network = model_class(chosen["model"])
    config = default_config("classifier")
    stage = config.classifier
    stage.model = ConfigDict({"name": name, **model_options(name)})
    stage.input.enhance = "paper_text" if chosen["input"] == "dwt" else "none"
    if name in WITHOUT_BATCH_NORM and chosen["init"] == "scratch":
        stage.input.normalize = "standardize"
    side = max(82, network.least_side)
    if chosen["init"] == "tl":
        if not issubclass(network, PublishedClassifier):
            raise InputError(
                f"init: 'tl' needs published weights, {name} has none, use init=scratch"
            )
        stage.init.weights = PACKAGE if network.package else ""
        stage.optimizer.learning_rate = 1e-3
        stage.input.channels = 3
        side = network.pretrained_input.size
    stage.input.size = (side, side)
    return config.lock()
