"""Choose among teams by a log alone: candidates, what they would do, what that would earn, the order, the files."""

from collections.abc import Iterable
from dataclasses import replace

import numpy as np
from jaxtyping import UInt

from ovmse.analysis.agreement import agreement, discounted_returns, matching_return
from ovmse.core.errors import UserError, number_of
from ovmse.core.types import EnvSpec
from ovmse.data.dataset import Dataset
from ovmse.learning.fqe import FitSettings, Fitted
from ovmse.learning.replay import Replay, from_flat
from ovmse.ope.candidates import candidates, judged
from ovmse.ope.results import Row, Selected, compare, ranked, settled
from ovmse.ope.settings import UPDATES, Selecting
from ovmse.ope.write import write
from ovmse.runs import directory
from ovmse.stats import ranking
from ovmse.system import jax_setup
from ovmse.training.display import Display
from ovmse.training.fitting import fitter


def select(selecting: Selecting, display: Display | None = None) -> Selected:
    """Rank the teams of several runs by a log, without any play, and write what was found.

    Raises `UserError` on bad input, before anything is computed or written.
    """
    jax_setup.use()
    display = display or Display()
    assert selecting.data is not None
    dataset = Dataset.open(selecting.data)
    those = [one for run in selecting.runs for one in candidates(selecting, run, dataset)]
    gamma = settled_gamma(selecting.gamma, (one.config.learner.gamma for one in those))
    selecting = replace(selecting, gamma=gamma)
    out = directory.create(selecting.out or directory.next_free("selection"))
    judges = number_of(len(dataset.length), "episode")
    display.say(f"{number_of(len(those), 'team')}, judged by {judges} of {dataset.path.name}")
    data = from_flat(dataset.flat, dataset.spec)
    policies, own = judged(those, data, dataset.spec)
    agreed = [agreement(dataset.flat, policy) for policy in policies]
    covered = np.array([one.coverage is None or one.coverage >= selecting.least_coverage for one in agreed])
    returns = discounted_returns(dataset.flat, gamma)
    logged = float(returns.mean())
    choices = UPDATES if selecting.updates is None else (selecting.updates,)
    for updates in choices:
        fitted = fit_values(selecting.fit(updates), dataset.spec, data, policies, display)
        if not np.isfinite(fitted.start).all():
            broken = those[int(np.argwhere(~np.isfinite(fitted.start))[0, 0])]
            raise UserError(f"the fit of {broken.name} is no longer a number; try a tenth of --learning-rate.")
        fqe, moved = (x.mean(axis=(1, 2)) for x in (fitted.start, fitted.start - fitted.halfway))
        if (well := settled(fqe, moved, logged)[covered]).all():
            break
        if updates < choices[-1]:
            display.say(f"{updates:,} updates: {number_of(int((~well).sum()), 'estimate')} had not settled; once more")
    low, high = ranking.interval(ranking.bootstrap_means(fitted.start, seed=selecting.seed))
    rows = []
    for i, one in enumerate(those):
        by = agreed[i].followed, selecting.match, selecting.least_matches, selecting.seed
        rows.append(
            Row(
                candidate=one,
                rank=0,
                fqe=float(fqe[i]),
                fqe_low=float(low[i]),
                fqe_high=float(high[i]),
                moved=float(moved[i]),
                own_value=own[i],
                agreement=agreed[i],
                matching=matching_return(returns, *by),
                covered=bool(covered[i]),
            )
        )
    rows = ranked(rows, selecting.score)
    selected = Selected(out, rows, compare(rows) if selecting.truth else [], logged, updates)
    write(selecting, selected)
    return selected


def fit_values(
    settings: FitSettings, spec: EnvSpec, data: Replay, policies: UInt[np.ndarray, "P R N"], display: Display
) -> Fitted:
    """The values of all policies on a log, fitted with progress shown."""
    fit = fitter(settings, spec, data, len(policies))
    with display:
        display.phase("fitting", 0, len(policies) * settings.fits * settings.updates, "updates")
        return fit(policies, display.advance)


def settled_gamma(told: float | None, learned: Iterable[float]) -> float:
    """The discount factor that teams are judged by: as told, else the one that they learned with.

    Raises `UserError` where it is not told, and they learned with different ones.
    """
    found = sorted(set(learned))
    if told is None and len(found) > 1:
        those = " and ".join(f"{gamma:g}" for gamma in found)
        raise UserError(
            f"the teams learned with γ of {those}: say which to judge them all by, such as --gamma {found[-1]:g}."
        )
    return found[0] if told is None else told
