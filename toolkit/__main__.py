"""``python -m toolkit``: see ``cli.py``."""

import sys

from toolkit.cli import main

sys.exit(main())
