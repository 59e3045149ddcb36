"""Studies: variants of one configuration, compared over seeds and folds (covjax.configs.study)."""

from covjax.study.run import run_study

__all__ = ["run_study"]
