"""``python -m tensorstats``; the command line itself is in ``tensorstats.cli``."""

from __future__ import annotations

import sys

from tensorstats.cli import main

if __name__ == "__main__":
    sys.exit(main())
