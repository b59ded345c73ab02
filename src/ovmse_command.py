"""The installed command, beside the package: importing that takes seconds, and Ctrl-C may come then."""

import sys


def run() -> None:
    """Import the command line and run it; 130 where Ctrl-C came before it was there."""
    try:
        from ovmse.cli import main
    except KeyboardInterrupt:
        sys.exit(130)
    sys.exit(main())
