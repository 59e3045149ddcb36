"""What the commands share: how flags are parsed and explained, one-line errors, exit statuses."""

import errno
import importlib
import os
import re
import signal
import sys
import textwrap
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.metadata import entry_points
from typing import Any, TypeVar

from absl import flags, logging

from covjax.commands.config_flag import check_overrides, field_problem, settle_overrides
from covjax.errors import STOPPING, InputError, Interrupted, RunError
from covjax.files import SHORTEN, is_full
from covjax.progress import write_progress_to

T = TypeVar("T")

COLUMNS = 80
PLUGINS = "covjax.plugins"  # entry points of installed packages
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


def new_flags() -> flags.FlagValues:
    """Returns an empty set of flags for a command."""
    return flags.FlagValues()


def run(
    job: Callable[..., int | None],
    own: flags.FlagValues,
    about: str | None,
    *,
    required: Sequence[str] = (),
    operands: int | None = 0,
    computes: bool = True,
) -> None:
    """Parses the command line into the flags `own`, calls `job` and ends the process.

    The exit status is what `job` returns, 0 for None; 1 for bad input, 2 for a bad flag, each with
    one line; that of Interrupted. Everything else is a bug and keeps its traceback.

    Args:
      job: what the command does; it takes the words that are no flags.
      own: the flags of this command.
      about: what --help says before the flags.
      required: flags that must be given.
      operands: how many words may be no flags, None for any number.
      computes: whether programs are compiled, which are kept on disk.
    """
    flags.DEFINE_multi_string(
        "plugin",
        [],
        "Python file that adds poolings, networks or scores; may be given again.",
        flag_values=own,
    )
    flags.DEFINE_bool("debug", False, "Show the full traceback of an error.", flag_values=own)
    if _asks_for_help(sys.argv):
        print(help_text(about or "", own, required))
        sys.exit(0)
    logging.use_absl_handler()
    logging.set_verbosity(logging.WARNING)
    if "--debug" not in sys.argv:
        _silence_writers()
    _load_plugins(sys.argv)
    words = _parse(own, required, operands)
    if computes:
        # imports jax, which --help does without
        from covjax.runtime import count_compile_time, enable_compilation_cache

        enable_compilation_cache()
        count_compile_time()
    sys.exit(_guarded(job, words, own))


def _load_plugins(argv: Sequence[str]) -> None:
    """Loads plug-ins before a configuration is read, which may name what they add."""
    ahead = flags.FlagValues()
    flags.DEFINE_multi_string("plugin", [], "", flag_values=ahead)
    try:
        ahead(argv, known_only=True)
        paths = ahead["plugin"].value or []
        if not (paths or entry_points(group=PLUGINS)):
            return  # what follows imports jax, which not every command needs
        from covjax.plugins import load_installed, load_plugin

        for path in paths:
            load_plugin(path)
        load_installed()
    except InputError as error:
        sys.exit(fail(str(error), 1))
    except flags.Error as error:
        sys.exit(fail(str(error), 2))


def fail(message: str, status: int) -> int:
    """Prints an error in one line, below its traceback with --debug; returns the exit status."""
    if "--debug" in sys.argv and sys.exc_info()[0]:
        traceback.print_exc()
    print(f"error: {' '.join(message.splitlines())}", file=sys.stderr)
    return status


def given(flag: flags.FlagHolder[T | None]) -> T:
    """Returns the value of a flag that `run` requires or `check_one_of` found."""
    value = flag.value
    assert value is not None, flag.name
    return value


def check_one_of(own: flags.FlagValues, *names: str) -> None:
    """Raises flags.Error unless exactly one of the flags is given."""
    given = [f"--{name}" for name in names if own[name].value is not None]
    if len(given) > 1:
        raise flags.Error(f"{', '.join(given)} do not go together, see --help")
    if not given:
        raise flags.Error(f"{' or '.join(f'--{name}' for name in names)} is required, see --help")


def check_goes_with(own: flags.FlagValues, name: str, other: str) -> None:
    """Raises flags.Error if a flag is given without another one."""
    if own[name].value is not None and own[other].value is None:
        raise flags.Error(f"--{name} goes with --{other}, see --help")


def help_text(about: str, own: flags.FlagValues, required: Sequence[str] = ()) -> str:
    """Returns what a command does and its flags, in 80 columns."""
    lines = [about.strip(), "", "Flags:"]
    for flag in _in_order(own):
        lines.append(f"  {_usage(flag)}{' (required)' if flag.name in required else ''}")
        meaning = re.sub("^<.*?>: ", "", flag.help or "")  # of choices, which stand above
        meaning = re.sub(r";\s+repeat this option .*", "", meaning)
        if flag.value not in (None, False, "", []):
            meaning += f" Default: {flag.value}."
        indent = " " * 6
        lines += textwrap.wrap(meaning, COLUMNS, initial_indent=indent, subsequent_indent=indent)
    return "\n".join(lines)


def _in_order(own: flags.FlagValues) -> Iterator[flags.Flag[Any]]:
    for defined in own.flags_by_module_dict().values():
        yield from defined


def _usage(flag: flags.Flag[Any]) -> str:
    if flag.boolean:
        return f"--{flag.name}"
    choices = getattr(flag.parser, "enum_values", None)
    return f"--{flag.name}={'|'.join(choices) if choices else flag.name.upper()}"


def open_door(about: str | None, commands: Mapping[str, tuple[str, str]], default: str) -> None:
    """Runs the command that a flag of train.py or eval.py asks for.

    Args:
      about: what --help says where no flag asks for a command.
      commands: by flag, the command, and what stands in place of the flag there ("" for nothing).
      default: the command where none of these flags is given.
    """
    program, *argv = sys.argv
    given = [name for name in commands if any(_is_flag(word, name) for word in argv)]
    if not given and _asks_for_help(argv):
        print((about or "").strip())
        sys.exit(0)
    command = default
    if given:
        command, replacement = commands[given[0]]
        argv = [new for word in argv for new in _renamed(word, given[0], replacement)]
    run_command(command, [program, *argv])


def run_command(name: str, argv: Sequence[str]) -> None:
    """Runs a command by its name; argv[0] is what it was called as."""
    # The flag --config reads its fields from there.
    sys.argv = list(argv)
    importlib.import_module(f"covjax.commands.{name}").main()


def _is_flag(word: str, name: str) -> bool:
    return re.match(rf"--?{name}(=|$)", word) is not None


def _renamed(word: str, name: str, replacement: str) -> list[str]:
    if not _is_flag(word, name):
        return [word]
    _, equals, value = word.partition("=")
    if replacement:
        return [f"{replacement}{equals}{value}"]
    return [value] if equals else []


def _asks_for_help(argv: Sequence[str]) -> bool:
    return any(word in ("--help", "-help", "-h") for word in argv)


def _guarded(job: Callable[..., int | None], words: Sequence[str], own: flags.FlagValues) -> int:
    for number in STOPPING:
        signal.signal(number, _terminated)
    if "max_minutes" in own and own["max_minutes"].value:
        signal.setitimer(signal.ITIMER_REAL, 60 * own["max_minutes"].value)
    if "progress" in own and own["progress"].value == "json":
        write_progress_to(sys.stdout)
        sys.stdout = sys.stderr  # what is for people
    try:
        return job(*words) or 0
    except Interrupted as stop:
        print(stop, file=sys.stderr)
        return stop.status
    except KeyboardInterrupt:
        print("stopped; run the same command to go on", file=sys.stderr)
        return 128 + signal.SIGINT
    except (InputError, RunError) as error:
        return fail(str(error), 1)
    except flags.Error as error:
        return fail(str(error), 2)
    except Exception as error:
        problem = _disk_problem(error, own)
        if problem is None:
            raise
        fail(problem, 1)
        # The writers' threads would still complain, at length, of what ends with the process.
        sys.stdout.flush()
        os._exit(1)


def _terminated(number: int, _) -> None:
    raise Interrupted(number, "stopped; run the same command to go on")


def _parse(own: flags.FlagValues, required: Sequence[str], operands: int | None) -> list[str]:
    """Returns the words that are no flags; ends the process for a bad command line."""
    try:
        if "config" in own:
            # The flag --config reads its fields from there.
            sys.argv = settle_overrides(sys.argv)
            check_overrides(sys.argv)
        words = own(sys.argv)[1:]
    except InputError as error:
        sys.exit(fail(str(error), 1))
    except flags.Error as error:
        message = " ".join(str(error).split())
        problem = field_problem(message)
        sys.exit(fail(problem or message, 1 if "--config." in message else 2))
    except (KeyError, AttributeError, TypeError, ValueError) as error:
        # What assigning a value of the wrong type to a field of the configuration raises.
        sys.exit(fail(f"--config: {' '.join(str(error).split())}", 1))
    missing = [f"--{name}" for name in required if own[name].value is None]
    if missing:
        sys.exit(fail(f"{', '.join(missing)} is required, see --help", 2))
    if operands is not None and len(words) > operands:
        sys.exit(fail(f"'{words[operands]}' is not a flag, write --name=value (see --help)", 2))
    return words


def _silence_writers() -> None:
    """Silences the threads that write checkpoints: what fails there is raised here as well."""
    logging.get_absl_handler().addFilter(
        lambda record: f"{os.sep}orbax{os.sep}" not in record.pathname
    )
    show = sys.unraisablehook

    def in_main_thread(unraisable: Any) -> None:
        if threading.current_thread() is threading.main_thread():
            show(unraisable)

    sys.unraisablehook = in_main_thread


def _disk_problem(error: Exception, own: flags.FlagValues) -> str | None:
    """Returns one line if an error means that the disk refused, else None."""
    text = " ".join(str(error).split())
    reason = next((os.strerror(n) for n in _REFUSALS if os.strerror(n) in text), None)
    filename = getattr(error, "filename", None)
    if reason is None and filename is None:
        return None
    # A failed write does not know its file; all files of a run but the prepared slices lie in these
    # folders.
    folders = [own[name].value for name in ("workdir", "output") if name in own]
    where = filename or " or ".join(str(folder) for folder in folders if folder)
    reason = reason or getattr(error, "strerror", None)
    remedy = "make room" if is_full(error) else "check that it is there and can be written"
    if getattr(error, "errno", None) == errno.ENAMETOOLONG:
        remedy = SHORTEN
    return f"{where}: {reason}, {remedy}"
