"""``python -m virtproof``."""

from __future__ import annotations

import sys

from virtproof.cli import main

if __name__ == "__main__":
    sys.exit(main())
