"""Trains a run or a study, or shows what augmentation does:

  python train.py --config configs/framework.py --workdir runs/NAME
      trains a run, or resumes it, and evaluates it
  python train.py --config configs/study.py:pooling --workdir runs/NAME
      trains the variants of a study and compares them
  python train.py --config configs/framework.py --show_augmentation OUT.png
      draws what augmentation does to training slices

--config.SECTION.FIELD=VALUE sets a field of the configuration. The flag
--debug shows the full traceback of an error.
"""

from covjax.commands import cli

if __name__ == "__main__":
    cli.open_door(__doc__, {"show_augmentation": ("preview", "--output")}, default="train")
