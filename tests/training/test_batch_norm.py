"""Finalised BatchNorm statistics are those of evaluation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from covjax.configs import cov_raseg
from covjax.settings import read_settings
from covjax.stages.stage import init_variables, make_stage
from covjax.stages.statistics import measure_statistics
from covjax.training.batch_norm import make_finaliser, without_dropout

SIZE = (32, 32)
NETWORKS = {  # in which dropout lies before a BatchNorm, or beside one
    "unet": {"width": 4, "depth": 2, "batch_norm": True, "encoder_smoothing": "none"},
    "deeplab_v3plus": {"backbone": "resnet18"},
}


def batch():
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (4, *SIZE)).astype(np.uint8)
    mask = (image > 200).astype(np.uint8)
    return {"image": image, "mask": mask, "label": np.ones(4, np.int32), "valid": np.ones(4, bool)}


def finalised(name, options):
    config = cov_raseg.get_config().unlock()
    config.segmenter.input.update(size=SIZE, slice_size=SIZE, enhance="none")
    config.segmenter.model = ConfigDict({"name": name} | options)
    settings = read_settings(config).stages["segmenter"]
    stage = make_stage("segmenter", settings, measure_statistics("segmenter", settings, [batch()]))
    variables = init_variables(stage.model, settings, 0)
    statistics = make_finaliser(stage)(variables["params"], variables["batch_stats"], [batch()])
    return stage, {"params": variables["params"], "batch_stats": jax.device_get(statistics)}


@pytest.mark.parametrize("name", NETWORKS)
def test_of_one_batch_evaluation_gives_what_the_batch_itself_gives(name):
    """With dropout, behind which variances are larger, the same images were normalised to less."""
    stage, variables = finalised(name, NETWORKS[name])
    images = jnp.asarray(batch()["image"])

    @jax.jit
    def by_batch(variables):
        with without_dropout():
            return stage.logits(variables, images, train=True, mutable=["batch_stats"])[0]

    evaluated = jax.jit(lambda v: stage.logits(v, images))(variables)
    np.testing.assert_allclose(
        evaluated, by_batch(variables), rtol=2e-3, atol=2e-3 * np.abs(evaluated).max()
    )
