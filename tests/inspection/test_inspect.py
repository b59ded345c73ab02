"""The profile of a dataset: numbers known by hand, tables that fit the terminal, a figure that draws."""

import io
import json

import numpy as np
import pytest
from rich.console import Console

from ovmse.core.errors import UserError
from ovmse.core.types import EnvSpec
from ovmse.data.dataset import Dataset
from ovmse.data.profile import profile
from ovmse.data.schema import Names
from ovmse.inspection.inspect import diagnose, plot_profile, print_profile


def make(path, has_win=True, n_actions=3, episodes=2, **fields):
    """Two agents; episode lengths 1, 2, 1, 2 ...; rewards all 1; action 2 is never legal."""
    spec = EnvSpec("toy:[bold]duel", "toy 1", {}, 2, n_actions, 1, 1, 5, has_win)
    length = np.arange(episodes) % 2 + 1
    steps, rows = int(length.sum()), int((length + 1).sum())
    avail = np.ones((rows, 2, n_actions), bool)
    avail[..., 2] = False
    avail[0, 0, 1] = False  # episode 0, step 0: agent 0 can only take 0
    avail[1] = False  # the row after the last step of episode 0: nobody acts there
    action = np.ones((steps, 2), int)
    action[0, 0] = 0
    terminal = np.zeros(steps, bool)
    terminal[0] = True
    return Dataset.write(
        path,
        spec=spec,
        obs=np.zeros((rows, 2, 1), np.float32),
        state=np.zeros((rows, 1), np.float32),
        avail=avail,
        action=action,
        reward=np.ones(steps, np.float32),
        terminal=terminal,
        length=length,
        won=(np.arange(episodes) % 2 == 0) & has_win,
        behaviour="a rule [of mine]",
        **fields,
    )


def test_numbers_known_by_hand(tmp_path):
    dataset = make(tmp_path / "play")
    data = json.loads(json.dumps(profile(dataset)))
    assert (data["episodes"], data["steps"], data["win_rate"]) == (2, 3, 0.5)
    assert data["ended_by_task"] == 0.5
    returns = data["return"]
    assert (returns["mean"], returns["std"], returns["min"], returns["max"]) == (1.5, 0.5, 1, 2)
    assert returns["quantiles"] == pytest.approx({"0.05": 1.05, "0.25": 1.25, "0.5": 1.5, "0.75": 1.75, "0.95": 1.95})
    assert (sum(returns["counts"]), sum(returns["won"]), returns["won"][0]) == (2, 1, 1)
    assert data["length"]["edges"] == [0.5, 1.5, 2.5]
    assert (data["length"]["counts"], data["length"]["won"]) == ([1, 1], [1, 0])
    use = data["actions"]
    assert use["share"] == pytest.approx([1 / 6, 5 / 6, 0])
    assert use["by_agent"][0] == pytest.approx([1 / 3, 2 / 3, 0])
    assert use["by_agent"][1] == [0, 1, 0]
    assert use["legal"] == pytest.approx([1, 5 / 6, 0])
    assert use["share_when_legal"] == [pytest.approx(1 / 6), 1, None]
    assert data["blocks"] == {"first": [0, 1], "return_mean": [1, 2], "win_rate": [1, 0]}
    files = sum(f.stat().st_size for f in (tmp_path / "play").rglob("*") if f.is_file())
    assert data["bytes_on_disk"] == files
    rows, steps = 5, 3
    expected = rows * 2 * 4 + rows * 4 + rows * 2 * 3 + steps * 2 + steps * 4 + steps + 2 * 4 + 2
    assert data["bytes_in_memory"] == expected


def test_what_cannot_be_won_has_no_win_rate(tmp_path):
    data = profile(make(tmp_path / "play", has_win=False))
    assert data["win_rate"] is None and data["blocks"]["win_rate"] is None


def test_every_episode_is_in_a_bin_and_a_block(tmp_path):
    data = profile(make(tmp_path / "play", episodes=51))
    assert sum(data["return"]["counts"]) == sum(data["length"]["counts"]) == 51
    assert len(data["blocks"]["first"]) == 20
    assert data["blocks"]["first"][:2] == [0, 3]
    assert np.mean(data["blocks"]["win_rate"]) == pytest.approx(26 / 51, abs=0.05)


def text_of(dataset, width, names=None):
    stream = io.StringIO()
    print_profile(dataset, Console(file=stream, width=width), names)
    return stream.getvalue()


def test_the_tables_fit_80_columns(tmp_path):
    text = text_of(make(tmp_path / "play", quality="medium"), 80, ["[red]stay", "go", "an action with a long name"])
    assert max(map(len, text.splitlines())) <= 80
    for part in (
        "toy:[bold]duel",
        "a rule [of mine] (medium)",
        "[red]stay",
        "16.7%",
        "83.3%",
        "50.0%",
        "agent 1",
    ):
        assert part in text
    assert "95% quantile" in text and "1.95" in text


def test_names_of_the_log_are_shown(tmp_path):
    names = Names(("[b]truck", "crane"), ("stay", "go", "lift"), ("load",), ("load",))
    text = text_of(make(tmp_path / "play", names=names), 80)
    for name in (*names.agents, *names.actions):
        assert name in text
    assert "agent 0" not in text
    (note,) = [f for f in diagnose(tmp_path / "play").findings if f.kind == "constant observation features"]
    assert note.first.endswith(": load")


def test_the_tables_fit_80_columns_with_many_agents_and_no_names(tmp_path):
    text = text_of(make(tmp_path / "play", has_win=False, n_actions=40), 80)
    assert max(map(len, text.splitlines())) <= 80
    assert "cannot be won" in text and "39" in text


@pytest.mark.parametrize("has_win", [True, False])
@pytest.mark.parametrize("n_actions", [3, 40])
@pytest.mark.parametrize("episodes", [1, 60])
@pytest.mark.slow
def test_the_figure_draws(tmp_path, has_win, n_actions, episodes):
    """Titles and axis labels are there, and no tick labels of an axis overlap."""
    data = profile(make(tmp_path / "play", has_win, n_actions, episodes))
    names = [f"action {i}" for i in range(n_actions)]
    figure = plot_profile(data, names)
    figure.savefig(tmp_path / "profile.png")
    assert len(figure.axes) == 4
    for axes in figure.axes:
        assert axes.get_title("left") and axes.get_xlabel() and axes.get_ylabel()
        assert axes.get_legend().get_window_extent().x1 <= figure.bbox.x1
        ends = [label.get_window_extent() for label in axes.get_xticklabels() if label.get_text()]
        right = [box.x1 for box in ends]
        assert all(later > earlier for earlier, later in zip(right, right[1:], strict=False))
        if not any(label.get_rotation() for label in axes.get_xticklabels()):
            assert all(a.x1 < b.x0 for a, b in zip(ends, ends[1:], strict=False))


def test_wrong_names_are_refused(tmp_path):
    dataset = make(tmp_path / "play")
    with pytest.raises(UserError, match="expected 3 names, one per action, got 2"):
        plot_profile(profile(dataset), ["a", "b"])
    with pytest.raises(UserError, match="expected 3 names"):
        text_of(dataset, 80, ["a", "b"])
