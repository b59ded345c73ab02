"""Mixes of datasets: exact counts, every episode as it was and never twice, the same for the same seed."""

import json
from fractions import Fraction

import numpy as np
import pytest
import zarr
from hypothesis import given, settings, strategies as st
from support.episodes import SPEC, random_episode, write_dataset

from ovmse.collection.mix import apportion, draw, eligible, gather, largest, mix, order, parse_range, parse_shares
from ovmse.core.errors import UserError
from ovmse.data.dataset import Dataset
from ovmse.data.schema import KINDS

FIELDS = ("obs", "state", "avail", "action", "reward", "terminal")


def make(path, count, seed=0, spec=SPEC):
    """A dataset of random episodes; the first feature of every row is the dataset's seed and the episode's number."""
    rng = np.random.default_rng(seed)
    episodes = [random_episode(rng, int(rng.integers(1, spec.episode_limit + 1)), spec) for _ in range(count)]
    for i, episode in enumerate(episodes):
        episode.obs[..., 0] = 1000 * seed + i
    return write_dataset(path, spec, episodes, won=rng.random(count) < 0.5)


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    where = tmp_path_factory.mktemp("parts")
    return [make(where / name, count, seed) for name, count, seed in (("first", 12, 1), ("second", 7, 2))]


def taken(dataset):
    """The mark of every episode."""
    return dataset.obs[dataset.row_start, 0, 0].astype(int).tolist()


def message(call, *args, **kwargs):
    """What the `UserError` of a call says."""
    with pytest.raises(UserError) as caught:
        call(*args, **kwargs)
    return str(caught.value)


def assert_episodes_are_the_sources(mixed, sources):
    """Every episode is bit for bit the one that its mark names."""
    for i, mark in enumerate(taken(mixed)):
        source, number = sources[mark // 1000], mark % 1000
        one, other = mixed.episode(i), source.episode(number)
        for field in FIELDS:
            np.testing.assert_array_equal(getattr(one, field), getattr(other, field))
        assert mixed.won[i] == source.won[number]


# --- counts


shares_of = st.lists(st.fractions(Fraction(1, 1000), 1), min_size=1, max_size=4).map(
    lambda raw: [share / sum(raw) for share in raw]
)


@given(shares_of, st.integers(0, 5000))
def test_rounding_keeps_the_sum_and_stays_within_one_of_each_quota(shares, total):
    numbers = apportion(shares, total)
    assert sum(numbers) == total
    assert all(abs(n - share * total) < 1 for n, share in zip(numbers, shares, strict=True))


def test_the_largest_remainder_is_rounded_up():
    assert apportion([Fraction(1, 2), Fraction(3, 10), Fraction(1, 5)], 9) == [4, 3, 2]  # 4.5, 2.7, 1.8
    assert apportion([Fraction(1, 2), Fraction(1, 2)], 3) == [2, 1]


@settings(max_examples=60)
@given(shares_of, st.data())
def test_the_largest_total_fits_and_nothing_larger_does(shares, data):
    available = [data.draw(st.integers(0, 60)) for _ in shares]
    most = largest(shares, available)

    def fits(total):
        return all(n <= have for n, have in zip(apportion(shares, total), available, strict=True))

    assert fits(most)
    assert not any(fits(total) for total in range(most + 1, sum(available) + 1))


# --- episodes


@settings(max_examples=40, deadline=None)
@given(
    numerator=st.integers(1, 19),
    total=st.integers(1, 19),
    low=st.sampled_from([-np.inf, -1.0, 0.0]),
    seed=st.integers(0, 9),
)
def test_a_mix_is_exact_without_duplicates_and_unchanged(parts, numerator, total, low, seed):
    """What `mix` writes, before it is written."""
    may = [eligible(part, (low, np.inf)) for part in parts]
    wanted = apportion([Fraction(numerator, 20), 1 - Fraction(numerator, 20)], total)
    if any(n > len(e) for n, e in zip(wanted, may, strict=True)):
        return
    chosen = draw(may, wanted, seed)
    assert [len(numbers) for numbers in chosen] == wanted
    place = order(total, 2, seed)
    flat = gather([part.flat for part in parts], chosen, place)
    mixed = Dataset(parts[0].path, parts[0].metadata, **flat)
    marks = taken(mixed)
    assert len(set(marks)) == len(marks) == total
    assert [sum(mark // 1000 == i for mark in marks) for i in (1, 2)] == wanted
    assert mixed.returns().min() >= low
    assert_episodes_are_the_sources(mixed, {1: parts[0], 2: parts[1]})
    again = gather([part.flat for part in parts], draw(may, wanted, seed), order(total, 2, seed))
    assert all(flat[field].tobytes() == again[field].tobytes() for field in KINDS)


def test_a_mix_on_disk(parts, tmp_path):
    first, second = (part.path for part in parts)
    mixed = mix([f"{first}:0.75", f"{second}:0.25"], tmp_path / "mix", episodes=8, seed=3)
    marks = taken(Dataset.open(tmp_path / "mix"))
    assert sorted(mark // 1000 for mark in marks) == [1] * 6 + [2] * 2
    assert_episodes_are_the_sources(mixed, {1: parts[0], 2: parts[1]})
    found = mixed.metadata
    assert found.quality == "mixed" and found.seed == 3
    assert found.behaviour == "6 episodes of first (test); 2 episodes of second (test)"
    assert found.recipe["made_by"] == "mix" and found.recipe["episodes"] == 8 and found.recipe["return_range"] is None
    assert found.recipe["parts"] == [
        {"name": "first", "checksum": parts[0].metadata.checksum, "share": "3/4"},
        {"name": "second", "checksum": parts[1].metadata.checksum, "share": "1/4"},
    ]
    assert str(tmp_path) not in str(found.recipe)


def test_the_seed_alone_decides(parts, tmp_path):
    names = [f"{part.path}:0.5" for part in parts]
    sums = [mix(names, tmp_path / str(i), episodes=6, seed=seed).metadata.checksum for i, seed in enumerate((0, 0, 1))]
    assert sums[0] == sums[1] != sums[2]


def test_the_seed_decides_which_episodes_and_in_what_order():
    may = [np.arange(3, 100), np.arange(50)]
    first, second = (draw(may, [20, 20], seed) for seed in (0, 1))
    for one, other in zip(first, second, strict=True):
        assert set(one) != set(other) and len(set(one)) == 20
    assert order(40, 2, 0).tolist() != order(40, 2, 1).tolist() and sorted(order(40, 2, 0)) == list(range(40))


def test_without_a_number_the_mix_is_the_largest(parts, tmp_path):
    mixed = mix([f"{part.path}:0.5" for part in parts], tmp_path / "mix")
    assert mixed.metadata.episodes == 15  # 7 of the second, and by rounding 8 of the first


def test_one_dataset_alone_is_a_shuffled_sub_sample(parts, tmp_path):
    mixed = mix([str(parts[0].path)], tmp_path / "all")
    marks = taken(mixed)
    assert sorted(marks) == sorted(taken(parts[0])) and marks != sorted(marks)
    assert mixed.metadata.quality == parts[0].metadata.quality
    assert mix([str(parts[0].path)], tmp_path / "five", episodes=5).metadata.episodes == 5


def test_only_episodes_in_the_range_are_taken(parts, tmp_path):
    returns = parts[0].returns()
    low, high = sorted(returns)[3], sorted(returns)[8]
    mixed = mix([str(parts[0].path)], tmp_path / "mix", return_range=(low, high))
    assert sorted(mixed.returns()) == pytest.approx(sorted(returns)[3:9])
    assert mixed.metadata.quality == "mixed" and "of those with a return in" in mixed.metadata.behaviour


def test_half_precision_stays_half(parts, tmp_path):
    for name, part in zip("ab", parts, strict=True):
        Dataset.write(tmp_path / name, spec=SPEC, **part.flat, behaviour="", float_dtype="float16")
    half = mix([str(tmp_path / "a"), str(tmp_path / "b")], tmp_path / "half")
    whole = mix([str(tmp_path / "a"), str(parts[1].path)], tmp_path / "whole")
    assert zarr.open_array(half.path / "obs", mode="r").dtype == np.float16
    assert zarr.open_array(whole.path / "obs", mode="r").dtype == np.float32
    reopened = Dataset.open(half.path)
    np.testing.assert_array_equal(reopened.obs, half.obs)
    assert whole.metadata.episodes == half.metadata.episodes


# --- what is refused


def test_too_few_episodes(parts, tmp_path):
    names = [f"{parts[0].path}:0.25", f"{parts[1].path}:0.75"]
    says = message(mix, names, tmp_path / "mix", episodes=12)
    assert "12 episodes need 3 of" in says and "9 of" in says and "7 of" in says and "at most 10 can be had" in says
    assert mix(names, tmp_path / "mix", episodes=10).metadata.episodes == 10
    assert "no mix of these shares" in message(mix, names, tmp_path / "none", return_range=(1e6, 2e6))
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"name": "test:other"}, "expected the environment 'test:random'"),
        ({"version": "2"}, "expected the version it was collected with, '1', got '2'"),
        ({"settings": {"x": 1}}, "expected the settings it was collected with"),
        ({"obs_size": 3}, "obs_size: expected 2, got 3"),
    ],
)
def test_environments_must_agree(parts, tmp_path, change, says):
    other = make(tmp_path / "other", 3, seed=5, spec=SPEC._replace(**change))
    text = message(mix, [str(parts[0].path), str(other.path)], tmp_path / "mix")
    assert says in text and f"{other.path} can't be mixed with {parts[0].path}" in text
    if "version" in change:
        mix([str(parts[0].path), str(other.path)], tmp_path / "mix", allow_version_mismatch=True)


def test_the_same_data_twice(parts, tmp_path):
    path = parts[0].path
    assert "are the same data" in message(mix, [f"{path}:0.5", f"{path}/:0.5"], tmp_path / "mix")
    copy = Dataset.write(tmp_path / "copy", spec=SPEC, **parts[0].flat, behaviour="elsewhere")
    assert "are the same data" in message(mix, [str(path), str(copy.path)], tmp_path / "mix")
    group = json.loads((copy.path / "zarr.json").read_text())
    group["attributes"]["checksum"] = ""  # as older datasets are
    (copy.path / "zarr.json").write_text(json.dumps(group))
    assert "are the same data" in message(mix, [str(copy.path), f"{copy.path}/"], tmp_path / "mix")


def test_shares():
    third = Fraction(1, 3)
    assert parse_shares(["a:1/3", "b:0.6667"])[0][1] == pytest.approx(third, abs=1e-4)
    assert parse_shares(["a:0.333", "b:0.333", "c:0.333"]) == [("a", third), ("b", third), ("c", third)]
    assert parse_shares(["a", "b"]) == [("a", Fraction(1, 2)), ("b", Fraction(1, 2))]
    assert parse_shares(["data:old"]) == [("data:old", Fraction(1))]
    for wrong, says in (
        (["a:0.5", "b:0.6"], "add up to 1; got 1/2 + 3/5 = 1.1"),
        (["a:1.5", "b:-0.5"], "greater than 0"),
        (["a:0.5", "b"], "give every dataset a share"),
        ([], "name at least one dataset"),
    ):
        assert says in message(parse_shares, wrong)


def test_ranges():
    assert parse_range("1:2.5") == (1.0, 2.5)
    assert parse_range("-3:") == (-3.0, np.inf) and parse_range(":4") == (-np.inf, 4.0)
    for wrong in ("3", "2:1", "a:b", "1:2:3", "nan:1"):
        assert "reads LOW:HIGH" in message(parse_range, wrong)


def test_numbers_and_names(parts, tmp_path):
    path = str(parts[0].path)
    assert "episodes must be greater than 0" in message(mix, [path], tmp_path / "mix", episodes=0)
    assert "seed must be 0 or more" in message(mix, [path], tmp_path / "mix", seed=-1)
    assert "smax-3m-medium" in message(mix, ["smax-3m-mediun:1"], tmp_path / "mix")
    assert "output directory in use" in message(mix, [path], parts[1].path)
