"""Quickstart: both stages, small, on synthetic slices.

  covjax train --config quickstart --workdir runs/quickstart

Expect 3 to 4 minutes on two CPU cores and, on the 80 test slices, a classifier accuracy of 0.60 to
0.75 and a lesion Dice of 0.35: enough to see that everything works (the best threshold on grey
levels reaches no more than 0.47).
"""

from covjax.configs import framework


def get_config():
    config = framework.get_config().unlock()
    config.data.phantom.update(patients=50, slices_per_patient=8, size=128)
    config.classifier.input.update(slice_size=(128, 128))
    config.classifier.epochs = 10
    config.segmenter.input.size = (96, 96)
    config.segmenter.model.features = 32
    config.segmenter.epochs = 10
    return config.lock()
