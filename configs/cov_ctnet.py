"""CoV-CTNet: healthy or infected, on Haar-enhanced 82x82 slices, with the paper's training.

Paper: "Classification and Region Analysis of COVID-19 Infection using Lung CT Images and Deep Convolutional Neural
Networks", arXiv:2009.08864.

  python train.py --config configs/cov_ctnet.py --workdir runs/cov_ctnet \
      --config.data.source=prlab21 --config.data.path=PATH
"""

from configs import common


def get_config():
    config = common.run()
    config.classifier = common.classifier()
    return config.lock()
