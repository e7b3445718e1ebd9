"""``python -m toolkit``: see ``cli.py``."""

import sys

from toolkit.cli import main

if __name__ == "__main__":  # importing it must end nobody's process
    sys.exit(main())
