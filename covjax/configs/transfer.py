"""What published weights are worth: a network fine-tuned from them, and the same from scratch.

  for seed in 1 2 3; do for init in tl scratch; do
    covjax train --config transfer:init=$init --workdir runs/${init}_$seed \
        --config.seed=$seed \
        --config.data.path=PATH
  done; done
  covjax compare runs/tl_1 runs/scratch_1 runs/tl_2 runs/scratch_2 runs/tl_3 \
      runs/scratch_3 --output runs/tl

PATH is a folder with index.csv (file, label, split, source_group), e.g. that of COVID-CT
(arXiv:2003.13865): slices cut out of papers. What its split holds out is tested on and
nothing else: the best epoch is chosen on slices of other papers, taken from its training split
(split.by=held_out).

Choices: init=tl (default) or scratch; model= any classifier with published weights (default
efficientnet_lite0, whose weights come with the extra lite0; for others
--config.classifier.init.weights=PATH). From scratch the input is normalised as for the weights, and
all layers learn; fine-tuning keeps the first stages of Lite0 as they are (one seed: best validation
AUC 0.87 so, 0.81 when all layers learned, for 10 epochs and without blur).
"""

from covjax.configs import classify
from covjax.errors import unknown
from covjax.settings import read_arguments

FROZEN = {"efficientnet_lite0": "stem/*,blocks_0*,blocks_1*,blocks_2*,blocks_3*"}


def get_config(arguments=""):
    chosen = read_arguments(arguments, model="efficientnet_lite0", init="tl")
    if chosen["init"] not in classify.CHOICES["init"]:
        raise unknown("init", chosen["init"], classify.CHOICES["init"])
    config = classify.get_config(f"model={chosen['model']},init=tl,input=original").unlock()
    config.data.update(source="folder", patient_column="source_group")
    config.split.update(by="held_out", shares=(0.7, 0.15, 0.15))
    stage = config.classifier
    stage.input.normalize = "pretrained"
    if chosen["init"] == "scratch":
        stage.init.weights = "none"
    else:
        stage.optimizer.freeze = FROZEN.get(chosen["model"], "")
    stage.augment.update(
        rotation=15.0, scale=0.3, translation=0.1, intensity=0.2, gamma=0.3, blur=1.0, cutout=0.3
    )
    stage.optimizer.update(
        name="adamw",
        learning_rate=2e-4,
        weight_decay=0.05,
        schedule="cosine",
        warmup_epochs=1.0,
        momentum=0.9,
        clip_norm=1.0,
        ema=0.95,
    )
    stage.update(batch_size=16, epochs=8)
    return config.lock()
