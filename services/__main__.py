"""``python -m services`` and ``lungforge``: the entry point, which hears Ctrl-C from the first moment."""

import signal
import sys
from types import FrameType
from typing import NoReturn

EXIT_INTERRUPTED = 130


def main() -> int:
    """Import the command line and run it; Ctrl-C during the import is no traceback either."""
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        from services.cli.main import main as run

        return run()
    except KeyboardInterrupt:
        sys.stderr.write("lungforge: interrupted\n")
        return EXIT_INTERRUPTED


def _interrupt(signal_number: int, frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
