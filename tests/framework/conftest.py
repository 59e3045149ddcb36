"""One tiny trained run, shared by the tests of this folder."""

import pytest

from configs import framework
from covjax.framework import train_run


def tiny_config(folder):
    config = framework.get_config()
    with config.unlocked():
        config.data.prepared_dir = str(folder / "prepared")
        config.data.phantom.update(patients=8, slices_per_patient=5, size=48)
        config.classifier.input.update(size=(32, 32), slice_size=(48, 48))
        config.segmenter.input.update(size=(32, 40), slice_size=(48, 48))
        config.segmenter.model.features = 8
        for stage in (config.classifier, config.segmenter):
            stage.update(epochs=2, batch_size=4)
    return config


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """(workdir, config) of a finished run of both stages."""
    folder = tmp_path_factory.mktemp("run")
    config = tiny_config(folder)
    train_run(config, folder / "workdir")
    return folder / "workdir", config
