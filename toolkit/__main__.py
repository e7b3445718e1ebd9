"""``python -m toolkit``: see ``cli.py``."""

import signal
import sys

if __name__ == "__main__":  # importing this module must not exit the process
    # Ctrl-C while libraries load ends the process at once: interrupting torch's import would crash,
    # and there is nothing to lose yet.
    interrupted = signal.getsignal(signal.SIGINT)
    if interrupted is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    import toolkit.training  # noqa: F401
    from toolkit.cli import main

    signal.signal(signal.SIGINT, interrupted)
    sys.exit(main())
