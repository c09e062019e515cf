"""The ``lungforge`` command: which command is meant, what it prints, and the code that it leaves with."""

import contextlib
import difflib
import signal
import sys
from collections.abc import Sequence
from types import FrameType
from typing import NoReturn

from lungforge import __version__
from lungforge.errors import AccessError, InputError
from services.cli.commands import COMMANDS, execute, overview, print_result
from services.common.progress import say
from services.common.ray_session import private_ray

EXIT_FAILURE = 1
EXIT_USAGE = 2
EXIT_INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: Without the program's name; those of the process when not given.

    Returns:
        The exit code: 0 done, 1 failure, 2 usage or bad input, 130 interrupted; a result may have its own.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    if not given or given[0] in ("-h", "--help", "help"):
        sys.stdout.write(overview() + "\n")
        return 0 if given else EXIT_USAGE
    if given[0] == "--version":
        sys.stdout.write(f"lungforge {__version__}\n")
        return 0
    name, rest = given[0], given[1:]
    if name not in COMMANDS:
        close = difflib.get_close_matches(name, COMMANDS, n=1)
        meant = f"; did you mean {close[0]}?" if close else ""
        say(f"lungforge: there is no command {name!r}{meant} ('lungforge --help' lists them)")
        return EXIT_USAGE
    as_json = "--json" in rest
    rest = [argument for argument in rest if argument != "--json"]
    # A cluster's scheduler ends a job by SIGTERM; it is to leave as after Ctrl-C, closing what is open.
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        # What is handed in runs on a cluster that is there, and is let in by the user's own token.
        with contextlib.nullcontext() if name == "submit" else private_ray():
            result = execute(name, rest)
    except SystemExit as exit_request:
        return exit_request.code if isinstance(exit_request.code, int) else EXIT_USAGE
    except KeyboardInterrupt:
        say(f"lungforge {name}: interrupted; the same command again goes on from here")
        return EXIT_INTERRUPTED
    except Exception as error:
        fault = _known_error(error)
        if fault is not None:
            say(f"lungforge {name}: {fault}")
            return EXIT_USAGE if isinstance(fault, InputError) else EXIT_FAILURE
        if isinstance(error, OSError):
            say(f"lungforge {name}: {type(error).__name__}: {error}")
            return EXIT_FAILURE
        raise
    print_result(result, as_json=as_json)
    exit_code: int = getattr(result, "exit_code", 0)
    return exit_code


def _interrupt(signal_number: int, frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


def _known_error(error: BaseException) -> InputError | AccessError | None:
    """The error of LungForge behind an error; Ray wraps what its tasks and actors raise."""
    seen: set[int] = set()
    cause: BaseException | None = error
    while cause is not None and id(cause) not in seen:
        seen.add(id(cause))
        # RayTaskError is made an instance of its cause's class too; the plain cause has the plain message.
        inner = getattr(cause, "cause", None)
        if isinstance(inner, BaseException):
            cause = inner
            continue
        if isinstance(cause, (InputError, AccessError)):
            return cause
        cause = cause.__cause__
    return None
