"""What the commands share: flags, one-line errors, exit statuses."""

import errno
import itertools
import os
import re
import runpy
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path

from absl import app, flags, logging
from ml_collections import ConfigDict

from covjax.errors import InputError, Interrupted, RunError, unknown
from covjax.runtime import count_compile_time, enable_compilation_cache

flags.DEFINE_bool("debug", False, "Show the full traceback of an error.")

# What the libraries that write checkpoints and figures say, in whatever exception, when the disk
# refuses.
_REFUSALS = (
    errno.ENOSPC,
    errno.EROFS,
    errno.EACCES,
    errno.EPERM,
    errno.EFBIG,
    errno.EDQUOT,
    errno.EIO,
)


def run(main: Callable[..., int | None], operands: int = 0, more: tuple[str, ...] = ()) -> None:
    """Parses the flags and calls `main`, whose result, if any, is the exit status.

    Errors of the user's get one line: status 1, or 2 for a bad flag.

    Everything else is a bug and keeps its traceback. Up to `operands` words that are no flags
    become main's arguments; where one of the flags `more` is given, they are further values of it
    instead.
    """

    def guarded(argv: list[str]) -> int:
        enable_compilation_cache()
        count_compile_time()
        signal.signal(signal.SIGTERM, _terminated)
        try:
            return main(*argv[1:]) or 0
        except Interrupted as stop:
            print(stop, file=sys.stderr)
            return 128 + stop.signal_number
        except KeyboardInterrupt:
            print("stopped; run the same command to go on", file=sys.stderr)
            return 128 + signal.SIGINT
        except (InputError, RunError) as error:
            return _fail(str(error), 1)
        except flags.Error as error:
            return _fail(str(error), 2)
        except Exception as error:
            problem = _disk_problem(error)
            if problem is None:
                raise
            _fail(problem, 1)
            # The writers' threads would still complain, at length, of what ends with the process.
            sys.stdout.flush()
            os._exit(1)

    logging.set_verbosity(logging.WARNING)
    if "--debug" not in sys.argv:
        _silence_writers()
    app.run(guarded, flags_parser=partial(_parse, operands=operands, more=more))


def check_flags(jobs: Mapping[tuple[str, ...], tuple[str, ...]]) -> None:
    """Raises flags.Error unless the flags on the command line ask for one job.

    `jobs` maps the flags that ask for a job to those that may go with them; every flag is there.
    """
    names = dict.fromkeys(name for needs, others in jobs.items() for name in (*needs, *others))
    given = [
        flag.name
        for flag in map(flags.FLAGS.__getitem__, names)
        if flag.present and flag.value not in (None, False)
    ]
    fitting = [needs for needs, others in jobs.items() if set(given) <= {*needs, *others}]
    if not fitting:
        raise flags.Error(f"{_listed(given)} do not go together, see --help")
    missing = min(([name for name in needs if name not in given] for needs in fitting), key=len)
    if missing:
        beside = f" beside {_listed(given)}" if given else ""
        raise flags.Error(f"{_listed(missing)} is required{beside}, see --help")


def _listed(names: Iterable[str]) -> str:
    return ", ".join(f"--{name}" for name in names)


def _terminated(number: int, _) -> None:
    raise Interrupted(number, "stopped; run the same command to go on")


def _parse(argv: list[str], operands: int, more: tuple[str, ...]) -> list[str]:
    try:
        _check_overrides(argv)
        rest = flags.FLAGS(argv)
    except InputError as error:
        sys.exit(_fail(str(error), 1))
    except flags.Error as error:
        sys.exit(_fail(*_flag_problem(" ".join(str(error).split()))))
    except (KeyError, AttributeError, TypeError, ValueError) as error:
        # What assigning a value of the wrong type to a field of the configuration raises.
        sys.exit(_fail(f"--config: {' '.join(str(error).split())}", 1))
    for name in more:
        if flags.FLAGS[name].present:
            flags.FLAGS[name].value = [*flags.FLAGS[name].value, *rest[1:]]
            rest = rest[:1]
    if len(rest) > 1 + operands:
        sys.exit(_fail(f"'{rest[1 + operands]}' is not a flag, write --name=value (see --help)", 2))
    return rest


def _flag_problem(message: str) -> tuple[str, int]:
    """Returns message and exit status for what the flag library says: fields of the configuration
    are values.
    """
    field = re.match(r"flag --config\.([\w.]+)=(.*?): ", message)
    if field:
        return (
            f"--config.{field[1]}: '{field[2]}' does not fit this field ({message.removeprefix(field[0])})",
            1,
        )
    return message, 1 if "--config." in message else 2


def _check_overrides(argv: list[str]) -> None:
    """Raises InputError if the file that --config names cannot be used, or lacks a field that
    --config.a.b sets.

    The flag library finds both too, but says neither which fields there are nor what is wrong with
    the file.
    """
    path = None
    fields = []
    for argument, following in itertools.pairwise([*argv[1:], ""]):
        if field := re.match(r"--?(?:no)?config\.([^=]+)", argument):
            fields.append(field[1])
        elif named := re.match(r"--?config(?:=(.*))?$", argument):
            path = following if named[1] is None else named[1]
    if path is None or "config" not in flags.FLAGS:
        return
    config = _load_config(path)
    for field in fields:
        section = config
        where = "--config"
        for part in field.split("."):
            if not isinstance(section, ConfigDict):
                raise InputError(f"{where}: a value, it has no field '{part}'")
            if part not in section:
                raise unknown(where, part, section.keys())
            section = section[part]
            where = f"{where}.{part}"
        if isinstance(section, ConfigDict):
            raise InputError(
                f"{where}: a section, set one of its fields: {', '.join(sorted(section.keys()))}"
            )


def _load_config(named: str) -> ConfigDict:
    """Runs the file that --config names, with what follows a colon as the argument of its
    get_config().
    """
    path, *argument = named.split(":", 1)
    if not Path(path).is_file():
        raise InputError(f"--config: {path} is not a file, name one, e.g. configs/quickstart.py")
    try:
        config = runpy.run_path(path)["get_config"](*argument)
    except InputError as error:
        raise InputError(f"--config: {error}") from error
    except Exception as error:  # the file is a program of the user's and may raise anything
        raise InputError(
            f"--config: {path} is broken ({type(error).__name__}: {error}), correct it"
        ) from error
    if not isinstance(config, ConfigDict):
        raise InputError(f"--config: get_config() of {path} returns no ConfigDict, correct it")
    return config


def _fail(message: str, status: int) -> int:
    if "--debug" in sys.argv and sys.exc_info()[0]:
        traceback.print_exc()
    print(f"error: {' '.join(message.splitlines())}", file=sys.stderr)
    return status


def _silence_writers() -> None:
    """Keeps the threads that write checkpoints from printing tracebacks: what fails there is raised
    here as well.
    """
    logging.get_absl_handler().addFilter(
        lambda record: f"{os.sep}orbax{os.sep}" not in record.pathname
    )
    show = sys.unraisablehook

    def in_main_thread(unraisable):
        if threading.current_thread() is threading.main_thread():
            show(unraisable)

    sys.unraisablehook = in_main_thread


def _disk_problem(error: Exception) -> str | None:
    """Returns one line if an error means that the disk refused, else None."""
    text = " ".join(str(error).split())
    reason = next((os.strerror(n) for n in _REFUSALS if os.strerror(n) in text), None)
    filename = getattr(error, "filename", None)
    if reason is None and filename is None:
        return None
    # A failed write does not know its file; all files of a run but the prepared slices lie in these
    # folders.
    folders = [
        flags.FLAGS[name].value
        for name in ("workdir", "output", "protocols")
        if name in flags.FLAGS
    ]
    where = filename or " or ".join(str(folder) for folder in folders if folder)
    return f"{where}: {reason or error.strerror}, check that it can be written and that the disk is not full"
