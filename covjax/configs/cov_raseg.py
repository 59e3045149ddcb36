"""CoV-RASeg: infected region of infected slices, 304x304, with the paper's training.

Paper: "Classification and Region Analysis of COVID-19 Infection using Lung CT Images and Deep
Convolutional Neural Networks", arXiv:2009.08864. SA-CoV-RASeg (static attention):
--config.segmenter.loss.class_weights=median_frequency.

  covjax train --config cov_raseg --workdir runs/cov_raseg \
      --config.data.source=prlab21 --config.data.path=PATH

Expect 0.9 to 1.2 slices/s on two CPU cores, so 2 to 2.5 hours for the 206 infected training slices
of prlab21 (calculated). Measured with static attention, seed 1 and
--config.segmenter.input.size="(128,128)", 30 epochs: 43 minutes during other work; on unseen
patients lesion Dice 0.30 pooled, 0.26 per slice (validation: 0.61 pooled).
"""

from covjax.settings import default_config


def get_config():
    return default_config("segmenter").lock()
