"""The ``lungforge`` command: dispatch, output and exit code."""

import difflib
import signal
import sys
import traceback
from collections.abc import Sequence
from types import FrameType, TracebackType
from typing import NoReturn

from lungforge import __version__
from lungforge.errors import AccessRefusedError, InputError
from lungforge.public_uri import require_public_environment
from services.cli.commands import COMMANDS, execute, overview
from services.cli.results import print_result
from services.common.errors import user_error
from services.common.progress import say
from services.common.ray_environment import keep_ray_private

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
    sys.excepthook = _say_traceback
    name, rest = given[0], given[1:]
    if name not in COMMANDS:
        close = difflib.get_close_matches(name, COMMANDS, n=1)
        meant = f"; did you mean {close[0]}?" if close else ""
        say(f"lungforge: there is no command {name!r}{meant} ('lungforge --help' lists them)")
        return EXIT_USAGE
    as_json = "--json" in rest
    rest = [argument for argument in rest if argument != "--json"]
    # A cluster's scheduler ends a job by SIGTERM; like Ctrl-C, it closes what is open.
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        require_public_environment()
        if name != "submit":  # which joins a running cluster, with the user's token
            keep_ray_private()
        result = execute(name, rest)
    except SystemExit as exit_request:
        return exit_request.code if isinstance(exit_request.code, int) else EXIT_USAGE
    except KeyboardInterrupt:
        say(f"lungforge {name}: interrupted; run the same command again to resume")
        return EXIT_INTERRUPTED
    except Exception as error:
        known = user_error(error)
        if known is not None:
            say(f"lungforge {name}: {known}")
            return EXIT_USAGE if isinstance(known, (InputError, AccessRefusedError)) else EXIT_FAILURE
        if isinstance(error, OSError):
            say(f"lungforge {name}: {type(error).__name__}: {error}")
            return EXIT_FAILURE
        raise
    print_result(result, as_json=as_json)
    for step in getattr(result, "next_steps", ()):
        say(f"next: {step}")
    exit_code: int = getattr(result, "exit_code", 0)
    return exit_code


def _say_traceback(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Print a traceback as Python does, without secrets: messages may quote a signed URI."""
    say("".join(traceback.format_exception(kind, error, trace)).rstrip())


def _interrupt(signal_number: int, frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt
