"""Lists poolings and unpoolings, those of plug-ins too, or tries one.

  covjax operators [--plugin=my_pooling.py]
  covjax operators --check=NAME --plugin=my_pooling.py

A check tries shapes, odd sides, types, gradients, constant pictures, batches
and four devices, and ends with status 1 if one of them fails.
"""

import os
import textwrap

from absl import flags

from covjax.commands import cli

DEVICES = "4"

FLAGS = cli.new_flags()
_CHECK = flags.DEFINE_string("check", None, "Pooling or unpooling to try.", flag_values=FLAGS)


def operators() -> None:
    from covjax.nn.operator_checks import check_findings, operator_findings

    name = _CHECK.value
    if name is None:
        print(_listed())
        return
    findings = operator_findings(name)
    for check, problem in findings:
        print(f"{check:17} {problem or 'passed'}")
    check_findings(name, findings)


def _listed() -> str:
    from covjax.pooling import FITS, POOLINGS, UNPOOLINGS

    lines = ["Poolings (--config.segmenter.model.encoder_pooling=NAME):"]
    for name, text in POOLINGS.items():
        fitting = ", ".join(unpooling for unpooling, fits in FITS.items() if name in fits)
        lines += _entry(name, f"{text}; unpooled by {fitting}")
    lines.append("Unpoolings (--config.segmenter.model.decoder_unpooling=NAME):")
    for name, text in UNPOOLINGS.items():
        lines += _entry(name, text)
    return "\n".join(lines)


def _entry(name: str, text: str) -> list[str]:
    indent = " " * 4
    words = textwrap.wrap(text, cli.COLUMNS, initial_indent=indent, subsequent_indent=indent)
    return [f"  {name}", *words]


def main() -> None:
    if "device_count" not in os.environ.get("XLA_FLAGS", ""):
        # read when jax is imported, as by a plug-in
        os.environ["JAX_NUM_CPU_DEVICES"] = DEVICES
    cli.run(operators, FLAGS, __doc__)
