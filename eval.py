"""Evaluates a trained run, and what else is done with trained runs and data:

  python eval.py --workdir runs/NAME [--split val]
      scores on one split of the run's own data
  python eval.py --workdir runs/NAME --config.data.path=PATH .. --output OUT
      scores on another labelled set
  python eval.py --workdir runs/NAME --input PATH --output OUT
      new scans and pictures: masks, extent, pages
  python eval.py --compare runs/A runs/B .. --output OUT
      evaluated runs side by side
  python eval.py --pool runs/FOLD0 runs/FOLD1 .. --output OUT
      their predictions together, scored once
  python eval.py --audit --config configs/NAME.py [--output OUT]
      what is wrong with a data source (or --workdir: the data of a run)
  python eval.py --protocols OUT --config configs/NAME.py
      the paper's protocol beside honest ones (or --workdir)

Each has flags of its own: covjax evaluate --help (and screen, compare, pool,
audit, protocols) lists them, eval.py takes them too. An audit ends with
status 3 if it found something serious. Bad input ends with 1, a bad flag with
2; --debug shows the full traceback of an error.
"""

from covjax.commands import cli

COMMANDS = {
    "compare": ("compare", ""),
    "pool": ("pool", ""),
    "audit": ("audit", ""),
    "protocols": ("protocols", "--output"),
    "input": ("screen", "--input"),
}

if __name__ == "__main__":
    cli.open_door(__doc__, COMMANDS, default="evaluate")
