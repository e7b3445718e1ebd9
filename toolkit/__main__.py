"""``python -m toolkit``: see ``cli.py``."""

import sys

if __name__ == "__main__":  # importing it must end nobody's process
    try:
        from toolkit.cli import main

        status = main()
    except KeyboardInterrupt:  # while libraries are still being imported
        status = 130
    sys.exit(status)
