"""Draws what the augmentation of a configuration makes of training slices.

covjax preview --config framework --output OUT.png
    [--config.segmenter.augment.elastic=0.08 ..]
"""

from covjax.commands import cli
from covjax.commands.config_flag import define_config
from covjax.commands.shared_flags import define_output
from covjax.errors import InputError
from covjax.files import write_whole
from covjax.locks import held

FLAGS = cli.new_flags()
_CONFIG = define_config(FLAGS)
_OUTPUT = define_output(FLAGS, "PNG to write.")


def preview() -> None:
    from covjax.report import augmentation_grid
    from covjax.runs.preview import preview_augmentation
    from covjax.settings import read_settings

    output = cli.given(_OUTPUT)
    if output.suffix.lower() != ".png":
        raise InputError(f"{output}: must end in .png, the picture is one")
    drawn = augmentation_grid(preview_augmentation(read_settings(cli.given(_CONFIG))))
    with held(output.parent):
        write_whole(output, drawn)
    print(output)


def main() -> None:
    cli.run(preview, FLAGS, __doc__, required=("config", "output"))
