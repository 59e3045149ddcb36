"""CoV-RASeg: infected region of infected slices, 304x304, with the paper's training.

Paper: "Classification and Region Analysis of COVID-19 Infection using Lung CT Images and Deep Convolutional Neural
Networks", arXiv:2009.08864. SA-CoV-RASeg (static attention): --config.segmenter.loss.class_weights=median_frequency.

  python train.py --config configs/cov_raseg.py --workdir runs/cov_raseg \
      --config.data.source=prlab21 --config.data.path=PATH
"""

from configs import common


def get_config():
    config = common.run()
    config.segmenter = common.segmenter()
    return config.lock()
