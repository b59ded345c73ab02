"""``python -m ovmse``, and the installed command."""

import os
import sys


def run() -> None:
    """Run the command line and exit with its code; 130 where Ctrl-C came before it was there."""
    for number in range(3):  # a closed one would be the next file that is opened
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115, PTH123
        getattr(sys, name).reconfigure(errors="backslashreplace")
    try:
        from ovmse.cli.main import main  # here, since Ctrl-C may come while it is imported

        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    run()
