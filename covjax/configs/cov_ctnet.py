"""CoV-CTNet: healthy or infected, on Haar-enhanced 82x82 slices, with the paper's training.

Paper: "Classification and Region Analysis of COVID-19 Infection using Lung CT Images and Deep
Convolutional Neural Networks", arXiv:2009.08864.

  covjax train --config cov_ctnet --workdir runs/cov_ctnet \
      --config.data.source=prlab21 --config.data.path=PATH

Expect 10 minutes on two CPU cores for the 829 slices of prlab21 and, on unseen patients, chance:
accuracy 0.53, MCC 0.10, ROC AUC 0.50 (seed 1). covjax.configs.framework trains the same network to
AUC 0.74.
"""

from covjax.settings import default_config


def get_config():
    return default_config("classifier").lock()
