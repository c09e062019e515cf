"""``python -m services ...`` is the ``lungforge`` command: what ``ray job submit`` runs."""

import sys

from services.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
