"""Code of somebody else's, contained: it prints nothing, and has the global random generators to itself."""

import contextlib
import io
import os
import random
from collections.abc import Iterator

import numpy as np

OUTPUTS = (1, 2)  # the file descriptors of a process's output and errors


class Generators:
    """Python's and NumPy's global random generators as one environment sees them.

    Copies that play side by side in one process would draw from the same ones, and nobody could seed them one by one.
    """

    def __init__(self, seed: int = 0) -> None:
        self.seed(seed)

    def seed(self, seed: int) -> None:
        """Start both anew."""
        self._state = random.Random(seed).getstate(), np.random.RandomState(seed).get_state()

    @contextlib.contextmanager
    def lent(self) -> Iterator[None]:
        """What draws from the global generators meanwhile, draws from these; others find theirs as they were."""
        before = random.getstate(), np.random.get_state()
        _set(self._state)
        try:
            yield
        finally:
            self._state = random.getstate(), np.random.get_state()
            _set(before)


def _set(state: tuple) -> None:
    random.setstate(state[0])
    np.random.set_state(state[1])


@contextlib.contextmanager
def quiet(into: int | None = None) -> Iterator[None]:
    """Print nothing meanwhile, not even what is written below Python, or by programs that are started here.

    into: the descriptor of a file that gets what is written below Python.
    """
    with contextlib.ExitStack() as stack:
        stack.enter_context(contextlib.redirect_stdout(io.StringIO()))
        stack.enter_context(contextlib.redirect_stderr(io.StringIO()))
        nowhere = os.open(os.devnull, os.O_WRONLY) if into is None else os.dup(into)
        stack.callback(os.close, nowhere)
        for output in OUTPUTS:
            with contextlib.suppress(OSError):  # one that is closed stays so
                kept = os.dup(output)
                stack.callback(os.close, kept)
                stack.callback(os.dup2, kept, output)
                os.dup2(nowhere, output)
        yield
