"""``python -m ovmse``."""

import sys

from ovmse.cli import main

sys.exit(main())
