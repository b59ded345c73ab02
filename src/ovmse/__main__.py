"""``python -m ovmse``, and the installed command."""

import sys


def run() -> None:
    """Run the command line and exit with its code; 130 where Ctrl-C came before it was there."""
    try:
        from ovmse.cli.main import main  # here, since Ctrl-C may come while it is imported

        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    run()
