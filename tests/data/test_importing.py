"""Import as a whole: what is kept, refused, left out, and left behind; records and wins on the way out again."""

from pathlib import Path

import numpy as np
import pytest

from ovmse import envs
from ovmse.cli.main import main
from ovmse.core.errors import UserError
from ovmse.data import journal
from ovmse.data.dataset import Dataset
from ovmse.data.importing import detect, import_dataset
from ovmse.data.writer import DatasetWriter


def episodes(count=4, broken=()):
    for i in range(count):
        rng = np.random.default_rng(i)
        reward = rng.normal(size=3)
        if i in broken:
            reward[1] = np.nan
        yield {
            "obs": rng.normal(size=(4, 2, 6)).astype(np.float32),
            "action": rng.integers(0, 4, size=(3, 2)),
            "reward": reward.astype(np.float32),
            "terminal": True,
        }


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_a_broken_episode_stops_the_import_and_nothing_is_left(tmp_path):
    with pytest.raises(UserError, match=r"episodes: episode 2: the data(.|\n)*episode 2, step 1"):
        import_dataset(episodes(broken=[2]), tmp_path / "deep" / "er" / "out", n_actions=4)
    assert names(tmp_path) == set()


def test_broken_episodes_can_be_left_out(tmp_path):
    made = import_dataset(episodes(broken=[0, 2]), tmp_path / "out", n_actions=4, broken="skip")
    assert made.metadata.episodes == 2 and len(made.left_out) == 2
    assert "episode 2, step 1: expected a finite number" in made.left_out[1]
    assert any("broken episodes left out: 2, the first: episodes: episode 0" in x for x in made.metadata.assumptions)
    kept = list(episodes())
    np.testing.assert_array_equal(Dataset.open(tmp_path / "out").episode(1).obs, kept[3]["obs"])
    with pytest.raises(UserError, match="of 1 episode none can be used"):
        import_dataset(episodes(1, broken=[0]), tmp_path / "none", n_actions=4, broken="skip")


def test_an_unfinished_recording_is_not_touched(tmp_path):
    writer = DatasetWriter(tmp_path / "out", n_actions=4)
    for one in episodes():
        writer.add_episode(**one)
    writer.stop()
    import_dataset(episodes(2), tmp_path / "out", n_actions=4)
    assert names(tmp_path) == {"out", ".out.unfinished"}
    (tmp_path / "out").rename(tmp_path / "imported")
    with DatasetWriter(tmp_path / "out", n_actions=4, resume=True) as writer:
        assert writer.episodes == 4


def test_what_a_killed_import_left_does_not_count(tmp_path):
    killed = DatasetWriter(tmp_path / "out", n_actions=4, keep_unfinished=False)
    for one in episodes():
        killed.add_episode(**one)
    killed.stop()
    assert import_dataset(episodes(2), tmp_path / "out", n_actions=4).metadata.episodes == 2
    assert names(tmp_path) == {"out"}


@pytest.mark.parametrize("broken", ["refuse", "skip"])
def test_a_full_disk_is_called_one(tmp_path, monkeypatch, broken):
    def full(file, values):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(journal, "_write", full)
    with pytest.raises(UserError, match="No space left on device. Make room, and import again"):
        import_dataset(episodes(), tmp_path / "out", n_actions=4, broken=broken)
    assert names(tmp_path) == set()


def test_play_of_an_environment_must_have_its_sizes(tmp_path):
    spec = envs.make("matrix:climbing").spec
    with pytest.raises(UserError, match="obs: expected floating-point of shape"):
        import_dataset(episodes(), tmp_path / "out", spec=spec)


@pytest.mark.parametrize("n_actions", [0, -3, 10**9])
def test_numbers_of_actions_that_cannot_be(tmp_path, n_actions):
    with pytest.raises(UserError, match="actions"):
        import_dataset(episodes(), tmp_path / "out", n_actions=n_actions)


def test_episodes_from_python_have_no_format(tmp_path):
    with pytest.raises(UserError, match="no format and no options"):
        import_dataset(episodes(), tmp_path / "out", n_actions=4, options={"separator": ";"})


@pytest.mark.parametrize(
    ("name", "found"),
    [("a.csv", "table"), ("a.tsv.gz", "table"), ("a.parquet", "table"), ("a.h5", "pymarl"), ("a.npz", "npz")],
)
def test_formats_go_by_names(tmp_path, name, found):
    (tmp_path / name).write_bytes(b"x")
    assert detect(tmp_path / name) == found
    assert detect(tmp_path) == found


@pytest.mark.parametrize(
    ("name", "text"),
    [("a.zip", "an archive. Unpack it"), ("a.dat", "cannot tell its format"), ("a.pkl", "is a pickle")],
)
def test_what_is_no_log_is_refused_with_advice(tmp_path, name, text):
    (tmp_path / name).write_bytes(b"x")
    with pytest.raises(UserError, match=text):
        detect(tmp_path / name)


def test_a_dataset_is_one_already(tmp_path):
    import_dataset(episodes(), tmp_path / "out", n_actions=4)
    with pytest.raises(UserError, match="is a dataset already. Next: ovmse inspect"):
        import_dataset(tmp_path / "out", tmp_path / "again")


@pytest.mark.parametrize(("out", "place"), [
    ("3m.vlt/Good", "3m.vlt/Good"), ("3m.vlt", "3m.vlt/Very-good"), ("3m.VLT/My run.v2", "3m.VLT/My run.v2")
])  # fmt: skip
def test_a_vault_lies_where_og_marl_looks(tmp_path, out, place, capsys):
    """It lists the folders in SCENARIO.vlt and opens each as Vault("SCENARIO.vlt", vault_uid=...)."""
    pytest.importorskip("tensorstore")
    import_dataset(episodes(), tmp_path / "first", n_actions=4, about={"quality": "very good!"})
    assert main(["datasets", "export", str(tmp_path / "first"), "--out", str(tmp_path / out)]) == 0
    files = sorted(str(file.relative_to(tmp_path)) for file in tmp_path.glob("3m*/**/metadata.json"))
    assert files == [f"{place}/metadata.json"]
    assert main(["import", str(tmp_path / out), "--out", str(tmp_path / "second")]) == 0
    assert main(["datasets", "export", str(tmp_path / "first"), "--out", str(tmp_path / out)]) == 2


def test_a_vault_goes_beside_another(tmp_path):
    pytest.importorskip("tensorstore")
    import_dataset(episodes(), tmp_path / "first", n_actions=4)
    for uid in ("Good", "Poor"):
        assert main(["datasets", "export", str(tmp_path / "first"), "--out", str(tmp_path / "3m.vlt" / uid)]) == 0
    assert [path.name for path in sorted((tmp_path / "3m.vlt").iterdir())] == ["Good", "Poor"]


def test_a_vault_whose_export_was_killed_is_exported_by_the_same_command(tmp_path):
    pytest.importorskip("tensorstore")
    main(["datasets", "mix", "smax-3m-medium", "--episodes", "2", "--out", str(tmp_path / "data")])
    (tmp_path / "x.vlt" / ".Mix.123").mkdir(parents=True)
    words = ["datasets", "export", str(tmp_path / "data"), "--out", str(tmp_path / "x.vlt")]
    assert [main(words), main(words)] == [0, 2]


@pytest.mark.parametrize("ending", [".parquet", ".csv", ".arrow", ".h5", ".vlt"])
def test_out_and_in_again_on_the_command_line(tmp_path, ending, capsys):
    for package in ("pyarrow", "h5py", "tensorstore"):
        pytest.importorskip(package)
    import_dataset(episodes(), tmp_path / "first", n_actions=4)
    out = str(tmp_path / f"with blank{ending}")
    assert main(["datasets", "export", str(tmp_path / "first"), "--out", out]) == 0
    assert f"Next: ovmse import '{out}'" in capsys.readouterr().out
    assert main(["import", out, "--out", str(tmp_path / "second")]) == 0
    first, second = Dataset.open(tmp_path / "first"), Dataset.open(tmp_path / "second")
    assert not second.spec.has_win
    rows = np.arange(len(first.obs)) if ending != ".vlt" else np.delete(np.arange(len(first.obs)), [3, 7, 11, 15])
    for name in ("obs", "state", "avail"):
        np.testing.assert_array_equal(getattr(first, name)[rows], getattr(second, name)[rows])
    for name in ("action", "reward", "terminal", "length"):
        np.testing.assert_array_equal(getattr(first, name), getattr(second, name))
    assert main(["datasets", "export", str(tmp_path / "first"), "--out", out]) == 2
    assert main(["datasets", "export", str(tmp_path / "first"), "--out", str(tmp_path / "x.txt")]) == 2
