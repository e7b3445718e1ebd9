"""``python -m toolkit``: see ``cli.py``."""

import signal
import sys

if __name__ == "__main__":  # importing it must end nobody's process
    # Ctrl-C while libraries load ends the process at once: torch's own start cannot be interrupted
    # without a crash, and there is nothing to lose yet.
    interrupted = signal.getsignal(signal.SIGINT)
    if interrupted is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    import toolkit.training  # noqa: F401
    from toolkit.cli import main

    signal.signal(signal.SIGINT, interrupted)
    sys.exit(main())
