"""``python -m quipu`` is the ``quipu`` command."""

import sys

from quipu.cli import main

if __name__ == "__main__":
    sys.exit(main())
