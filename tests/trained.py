"""A configuration of both stages that trains in seconds."""

from covjax.configs import framework


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
