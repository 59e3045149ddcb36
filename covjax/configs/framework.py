"""Both stages, trained to hold on unseen patients.

CoV-CTNet screens, CoV-RASeg segments what it calls infected.

Paper: "Classification and Region Analysis of COVID-19 Infection using Lung CT Images and Deep
Convolutional Neural Networks", arXiv:2009.08864. Networks and enhancement are the paper's; the
training differs from it where the paper's does not hold on unseen patients: gentler rates, stronger
augmentation, an enhancement that does not saturate, weighted classes, averaged parameters.
covjax.configs.cov_ctnet and covjax.configs.cov_raseg keep to the paper.

  covjax train --config framework --workdir runs/framework \
      --config.data.source=prlab21 --config.data.path=PATH

Expect, on the 829 slices of prlab21 and two CPU cores: 6 minutes for the classifier; for the
segmenter 35 minutes at --config.segmenter.input.size="(192,192)", about 2 hours at the full 304
(calculated). On unseen patients (seed 1, 192): accuracy 0.69, MCC 0.39, ROC AUC 0.74, lesion Dice
0.36 pooled and 0.28 per slice.
"""

from covjax.settings import default_config


def get_config():
    config = default_config("classifier", "segmenter")
    for stage in (config.classifier, config.segmenter):
        stage.augment.update(rotation=15.0, scale=0.15, intensity=0.2)
        stage.optimizer.update(schedule="cosine", momentum=0.9, ema=0.98)
    config.classifier.input.gain = "unit"
    config.classifier.optimizer.update(learning_rate=0.03, clip_norm=1.0)
    config.classifier.epochs = 15
    config.segmenter.loss.class_weights = "sqrt_inverse_frequency"
    config.segmenter.optimizer.learning_rate = 0.01
    config.segmenter.epochs = 20
    return config.lock()
