"""The tests run every notebook (nbmake), with less training than a reader sees."""

import os

os.environ.setdefault("TOOLKIT_FAST", "1")
