"""Studies: variants of CoV-RASeg over seeds and folds, compared slice by slice with the paper's.

  covjax train --config study:pooling --workdir runs/pooling \
      --config.data.source=prlab21 --config.data.path=PATH

Studies: pooling, losses. The same command goes on after an interruption and repeats no finished
run. The grid is made smaller, or larger later on, by --config.study.only=NAME,NAME (variants),
--config.study.seeds="(0,)" and --config.study.folds="(0,1)"; --config.split.folds=5
--config.split.by=block is for slices of unknown patients. Every other field is that of all runs,
e.g. --config.segmenter.epochs=10.

The study of poolings has a variant for every pooling, those of plug-ins too (--plugin=FILE).

A study of your own is one function here: a base and, for every variant, the fields in which it
differs.

Expect: networks of half the width at 128x128 train at some 12 slices/s on two CPU cores (other work
with them), so a run on prlab21 takes 6 to 8 minutes, 3 variants, as --config.study.only names
them, of 2 seeds and 4 folds 3 hours, and all poolings a day (calculated).
"""

from covjax.configs import framework
from covjax.errors import unknown
from covjax.pooling import FITS, POOLINGS, UNPOOLINGS
from covjax.settings import default_study


def pooling():
    """What CoV-RASeg's pooling is worth: the paper's, others in its place, and none to smooth."""
    pairs = {"max_transposed_conv": ("max", "transposed_conv")}
    for name in POOLINGS:
        # the paper's own pair, maxima that return to where they were, is the reference
        undoes = None if name == "max" else _undoing(name)
        pairs[name if undoes else f"{name}_bilinear"] = (name, undoes or "bilinear")
    smoothings = {
        "paper": "avg",
        "segnet": "none",
        "max_smoothing": "max",
        "gated_smoothing": "gated",
    }
    return "paper", {
        **{
            name: {"model": {"encoder_smoothing": kind, "decoder_smoothing": kind}}
            for name, kind in smoothings.items()
        },
        **{
            name: {"model": {"encoder_pooling": a, "decoder_unpooling": b}}
            for name, (a, b) in pairs.items()
        },
    }


def _undoing(pooling):
    """Returns the unpooling that needs what a pooling keeps, if there is one."""
    own = (name for name in UNPOOLINGS if 0 < len(FITS[name]) < len(POOLINGS))
    return next((name for name in own if pooling in FITS[name]), None)


def losses():
    """The paper's class weights against none, milder ones and losses that compare regions."""
    names = ("focal", "dice", "generalized_dice", "tversky", "ce_dice")
    plain = {name: {"loss": {"name": name, "class_weights": "none"}} for name in names}
    weighted = {
        name: {"loss": {"name": "cross_entropy", "class_weights": weights}}
        for name, weights in (
            ("cross_entropy", "none"),
            ("static_attention", "median_frequency"),
            ("sqrt_weights", "sqrt_inverse_frequency"),
        )
    }
    return "cross_entropy", weighted | plain


STUDIES = {"pooling": pooling, "losses": losses}


def get_config(study="pooling"):
    if study not in STUDIES:
        raise unknown("study", study, STUDIES)
    reference, variants = STUDIES[study]()
    config = framework.get_config().unlock()
    del config.classifier
    config.segmenter.input.size = (128, 128)
    config.segmenter.model.features = 32
    config.split.folds = 4
    fields = {name: {"segmenter": fields} for name, fields in variants.items()}
    config.study = default_study(fields, name=study, reference=reference)
    return config.lock()
