"""Studies: variants of one configuration over seeds and folds, compared with each other. See
configs/study.py.
"""

from covjax.study.run import run_study

__all__ = ["run_study"]
