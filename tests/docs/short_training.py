"""Shortens the trainings of examples: `exec`uted before one of them."""

from dataclasses import replace

from covjax import framework

EPOCHS = 2


def shorten_training():
    """Lets `covjax.framework.train_run` train for EPOCHS epochs."""
    train_run = framework.train_run

    def shortened(settings, workdir):
        stages = {name: replace(stage, epochs=EPOCHS) for name, stage in settings.stages.items()}
        train_run(replace(settings, stages=stages), workdir)

    framework.train_run = shortened
