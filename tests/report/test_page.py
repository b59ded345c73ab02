"""Run directories in, page, figures and tables out."""

import csv
import io
import json
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from support.synthetic_runs import line, small_run, write_run

from ovmse.analysis.labels import labels
from ovmse.analysis.results import summarise_run
from ovmse.core.errors import UserError
from ovmse.render import format as fmt
from ovmse.render.draw import save
from ovmse.report.compare import compare
from ovmse.report.page import write_report
from ovmse.report.plots import q_value_figure
from ovmse.report.words import next_steps, reading
from ovmse.runs.metrics_file import counted, load_run
from ovmse.stats.estimates import Estimate
from ovmse.system.files import write_bytes
from ovmse.training.display import summary

VOID = {"meta", "br", "img", "path", "use", "rect", "link"}


class Structure(HTMLParser):
    """Collects ids, references and text, and checks that elements nest."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.references: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in VOID:
            self.open.append(tag)
        for name, value in attrs:
            if name == "id" and value:
                self.ids.append(value)
            if name in ("src", "href", "xlink:href") and value:
                self.references.append(value)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data.replace("\xa0", " ")


def parse(path: Path) -> Structure:
    structure = Structure()
    structure.feed(path.read_text(encoding="utf-8"))
    assert not structure.open
    return structure


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_report([write_run(tmp_path_factory.mktemp("runs") / "full", seeds=2, evaluations=7)])


def test_a_run_is_judged_by_hand_computed_numbers(tmp_path: Path) -> None:
    run = load_run(small_run(tmp_path / "run", {0: [0.5, 0.3, 0.6], 1: [0.5, 0.4, 0.8]}, before=0.5))
    result = summarise_run(run)
    assert [s.dip for s in result.seeds] == pytest.approx([0.2, 0.1])
    assert [s.recovered for s in result.seeds] == [200.0, 200.0]
    assert [s.auc for s in result.seeds] == pytest.approx([(0.4 + 0.45) / 2, (0.45 + 0.6) / 2])
    assert result.before is not None and result.before.value == 0.5
    assert result.final == pytest.approx(Estimate(0.7, 0.6, 0.8, 2))
    assert [s.regret for s in result.seeds] == pytest.approx([60 + 55, 55 + 40])
    assert result.reference == 1.0 and result.regret == pytest.approx(Estimate(105, 95, 115, 2))
    assert result.dip is not None and result.dip.value == pytest.approx(0.15)
    assert reading(run, result) == (
        "Win rate 50 % before the handover, deepest dip 15 points, 70 % at the end (IQM over 2 seeds, "
        "95 % interval 60–80 %), after 200 online environment steps. All 2 seeds that fell came back to "
        "their score before the handover, after 200 environment steps (median)."
    )


def test_the_handover_record_wins_over_the_last_offline_row(tmp_path: Path) -> None:
    path = small_run(tmp_path / "run", {0: [0.5, 0.3]}, before=0.1)
    record = {"seed": 0, "win_rate_before": 0.5, "win_rate_after": 0.4, "agree": False}
    (path / "handover.json").write_text(json.dumps({"episodes": 8, "seeds": [record]}))
    run = load_run(path)
    result = summarise_run(run)
    assert (result.seeds[0].before, result.seeds[0].after, result.seeds[0].recovered) == (0.5, 0.4, None)
    assert "handover check FAILED for 1 of 1 seeds" in reading(run, result)
    assert next_steps(run, result)[0].startswith("Find out why greedy play changed")


def test_a_seed_that_stopped_early_is_drawn_but_not_averaged(tmp_path: Path) -> None:
    run = load_run(small_run(tmp_path / "run", {0: [0.0, 0.5, 0.6, 0.8], 1: [0.0, 0.5, 0.6], 2: [0.0, 0.1]}))
    assert [t.seed for t in counted(run.online)] == [0, 1]
    assert summarise_run(run).final.value == pytest.approx(0.7)
    assert "Seed 2 did not finish the online phase" in run.notes[0]


def test_rows_written_again_after_a_resume_replace_the_old_ones(tmp_path: Path) -> None:
    path = small_run(tmp_path / "run", {0: [0.1, 0.2, 0.3]})
    with (path / "metrics.jsonl").open("a") as file:
        file.write(json.dumps(line("online", 0, 100, 11, 0.7)) + "\n")
    run = load_run(path)
    np.testing.assert_array_equal(run.online[0].columns["win_rate"], [0.1, 0.7])
    assert run.notes == ("2 evaluations were written again after a resume; the later ones count.",)


@pytest.mark.slow
def test_page_states_the_numbers(report: Path) -> None:
    text = parse(report).text
    result = summarise_run(load_run(report.parent))
    assert result.before is not None and result.dip is not None
    for value in (result.final, result.before):
        assert fmt.score(value.value, "win_rate") in text
    assert f"deepest dip {fmt.difference(result.dip.value, 'win_rate')}" in text
    assert fmt.interval(result.final, "win_rate") in text
    assert "15,230" in text and "1.8 GiB" in text and "jaxmarl 0.2.0" in text and "0123abc" in text
    for seed in result.seeds:
        assert fmt.steps(seed.last) in text


@pytest.mark.slow
def test_page_needs_nothing_from_elsewhere(report: Path) -> None:
    page, source = parse(report), report.read_text()
    for reference in [*page.references, *re.findall(r"url\((#[^)]+)\)", source)]:
        inside = reference.startswith("#") and reference[1:] in page.ids
        assert inside or (report.parent / reference).is_file(), reference
    assert set(re.findall(r'https?://[^"\s<]+', source)) == {"http://www.w3.org/2000/svg"}
    assert "<script" not in source and "@import" not in source and "@font-face" not in source


@pytest.mark.slow
def test_page_is_readable_without_seeing_it(report: Path) -> None:
    source = report.read_text()
    assert source.count("<svg ") == source.count('role="img" aria-label="') == 3
    assert source.count("<table") == source.count("<caption")
    assert '<html lang="en">' in source and 'scope="col"' in source and 'scope="row"' in source


@pytest.mark.slow
def test_numbers_are_named_in_words(report: Path, tmp_path: Path) -> None:
    run = shutil.copytree(report.parent, tmp_path / "run", ignore=shutil.ignore_patterns("figures", "report.html"))
    summary = {"evaluation_s": 12.5, "predicted_program_bytes": 2**21, "state_sha256": "0123" * 16, "own_s": 3.0}
    (run / "summary.json").write_text(json.dumps(summary))
    written = write_report([run])
    text, source = parse(written).text, written.read_text()
    for name, value in (
        ("evaluation, compilation included", "12.5 s"),
        ("predicted memory: programs", "2 MiB"),
        ("own", "3 s"),
        ("return quantiles 0.5", "11"),
        ("size on disk", "30 MiB"),
    ):
        assert re.search(f"{re.escape(name)}\\s*{re.escape(value)}\\s", text), name
    assert "_bytes" not in text and "evaluation s" not in text
    # a checksum stands in a table whose cells break anywhere, so that it does not stretch the page
    *_, before = source.partition("0123" * 16)[0].split("<table ")
    assert before.startswith('class="pairs"') and "table.pairs td { text-align: left; overflow-wrap: anywhere" in source


@pytest.mark.slow
def test_pictures_follow_the_scheme_of_the_page(report: Path) -> None:
    for drawn in report.read_text().split("<svg ")[1:]:
        assert not re.search("#fff|white", drawn.partition("</svg>")[0])  # no block of white in dark mode


@pytest.mark.slow
def test_printed_headings_stay_with_what_they_head(report: Path) -> None:
    printed = report.read_text().partition("@media print")[2].partition("</style>")[0]
    assert re.search(r"h2, h3[^{]*{ break-after: avoid", printed) and "overflow: visible" in printed


def test_a_memory_that_decides_nothing_is_not_shown(tmp_path: Path) -> None:
    path = write_run(tmp_path / "run", seeds=1, evaluations=3, dataset=False)
    assert "the memory decides" in parse(write_report([path])).text
    rows = [json.loads(row) | {"lambda": None} for row in (path / "metrics.jsonl").read_text().splitlines()]
    (path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    page = parse(write_report([path], tmp_path / "without")).text
    assert "the memory decides" not in page and "the memory wins" not in page
    last = {"win_rate": 0.5, "return": 1.0, "q_tot": 2.0, "lambda": 0.1, "epsilon": 0.1, "memory_active_share": 0.28}
    assert summary([last]).endswith("memory wins 0.28") and "memory" not in summary([last | {"lambda": None}])


def test_a_figure_is_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = [small_run(tmp_path / name, {0: [0.5, 0.6]}, method=name) for name in "ab"]
    folder = compare(runs, None, Console(file=io.StringIO()))
    before = {file.name: file.read_bytes() for file in folder.iterdir()}

    def fails(path: Path) -> None:
        raise OSError(28, "no space left on device")

    monkeypatch.setattr("ovmse.system.files.sync", fails)
    with pytest.raises(OSError, match="no space"):
        save(q_value_figure(load_run(write_run(tmp_path / "run"))), folder / "compare", write_bytes)  # type: ignore[arg-type]
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == before


def test_one_seed_that_fell_is_one(tmp_path: Path) -> None:
    run = load_run(small_run(tmp_path / "run", {0: [0.5, 0.3, 0.6], 1: [0.5, 0.6, 0.8]}, before=0.5))
    told = reading(run, summarise_run(run))
    assert "The one seed that fell came back to its score before the handover, after 200" in told
    run = load_run(small_run(tmp_path / "other", {0: [0.5, 0.3, 0.4], 1: [0.5, 0.6, 0.8]}, before=0.5))
    assert "The one seed that fell did not come back to that score." in reading(run, summarise_run(run))


@pytest.mark.slow
def test_values_are_escaped(report: Path) -> None:
    assert "a &lt;b&gt; &amp; c" in report.read_text()


@pytest.mark.slow
def test_figures_lie_beside_the_page(report: Path) -> None:
    found = {f.name for f in (report.parent / "figures").iterdir()}
    assert found == {f"{n}.{kind}" for n in ("learning", "q_values", "dataset") for kind in ("svg", "png")}


@pytest.mark.slow
def test_words_are_text_on_the_page_and_outlines_in_the_files(report: Path) -> None:
    on_page = report.read_text().partition("<svg ")[2].partition("</svg>")[0]
    file = (report.parent / "figures" / "learning.svg").read_text()
    assert ">Offline phase</text>" in on_page and "<!-- Offline phase -->" not in on_page
    assert "<text" not in file and "<!-- Offline phase -->" in file and "fill: #ffffff" in file


@pytest.mark.slow
def test_two_reports_of_a_run_are_equal(report: Path, tmp_path: Path) -> None:
    again = write_report([report.parent], tmp_path / "again.html")
    assert again.read_text() == report.read_text()
    learning = Path("figures") / "learning.svg"
    assert (tmp_path / learning).read_bytes() == (report.parent / learning).read_bytes()


@pytest.mark.parametrize(
    "options",
    [
        {"seeds": 1, "win_rate": False, "evaluations": 2, "dataset": False},
        {"seeds": 2, "offline": False, "dataset": False, "memory": False},
        {"seeds": 3, "evaluations": 8, "drop_last": 5, "cut_off": True, "dataset": False},
    ],
    ids=["one seed without wins", "from scratch", "interrupted"],
)
@pytest.mark.slow
def test_page_of_other_runs(tmp_path: Path, options: dict[str, int | bool]) -> None:
    page = parse(write_report([write_run(tmp_path / "run", **options)]))  # type: ignore[arg-type]
    assert len(page.ids) == len(set(page.ids))
    assert ("Handover, seed by seed" in page.text) == options.get("offline", True)
    assert ("cut off" in page.text) == ("cut_off" in options)
    assert ("Win rate" in page.text) == options.get("win_rate", True)


def test_page_of_an_offline_run_with_unusable_profile(tmp_path: Path) -> None:
    path = small_run(tmp_path / "run", {0: []}, before=0.4)
    (path / "dataset.json").write_text('{"episodes": 12, "return": null, "actions": [1, 2]}')
    text = parse(write_report([path])).text
    assert "Win rate 40 % at the end (one seed: no interval), after 10 offline gradient updates" in text
    assert "There was no online phase" in text and "episodes" in text


@pytest.mark.slow
def test_page_of_several_runs_has_unique_ids_and_a_comparison(tmp_path: Path) -> None:
    first = small_run(tmp_path / "first", {0: [0.5, 0.3, 0.6]}, before=0.5, env="smax:3m")
    other = small_run(tmp_path / "other", {0: [0.5, 0.3, 0.6], 1: [0.5, 0.4, 0.8]}, before=0.5, env="smax:2s3z")
    page = parse(write_report([first, other], tmp_path / "both"))
    assert len(page.ids) == len(set(page.ids))
    assert "Comparison of 2 runs" in page.text and "different environments" in page.text
    assert {"#run-1", "#run-2"} <= set(page.references)
    assert {"comparison.png", "profiles.png"} <= {f.name for f in (tmp_path / "both" / "figures").iterdir()}


def test_compare_prints_and_writes(tmp_path: Path) -> None:
    first = small_run(tmp_path / "a", {0: [0.5, 0.3, 0.6], 1: [0.5, 0.4, 0.8]}, before=0.5, alpha=[1])
    second = small_run(tmp_path / "b", {0: [0.0, 0.1, 0.7], 1: [0.0, 0.1, 0.9]}, alpha=[2])
    shown = Console(file=io.StringIO(), width=160)
    folder = compare([first, second], None, shown)
    text = shown.file.getvalue()  # type: ignore[attr-defined]
    assert folder == tmp_path / "comparison" and "ovmse, alpha [2]" in text and "70 % [60–80 %]" in text
    written = {f"compare.{kind}" for kind in ("csv", "md", "svg", "png")} | {"profiles.svg", "profiles.png"}
    assert {f.name for f in folder.iterdir()} == written | {"marl_eval.json"}
    rows = list(csv.DictReader((folder / "compare.csv").read_text().splitlines()))
    assert float(rows[0]["final"]) == pytest.approx(0.7) and float(rows[0]["recovered_env_steps"]) == 200
    assert rows[1]["before"] == "" and float(rows[1]["p_better_than_first"]) == 0.75
    assert rows[0]["p_better_than_first"] == "" and float(rows[1]["p_better_than_first_high"]) == 1.0
    # seed 0 misses 0.6 and 0.55 on average over 100 steps each, seed 1 0.55 and 0.4
    assert float(rows[0]["regret"]) == pytest.approx((115 + 95) / 2) and float(rows[0]["regret_reference"]) == 1.0
    assert "best_optimistic" in rows[0] and "best" not in rows[0]
    assert "| ovmse, alpha [2] | 2 |" in (folder / "compare.md").read_text()


def test_labels_name_what_differs(tmp_path: Path) -> None:
    def run(name: str, **config: object) -> Path:
        return small_run(tmp_path / name, {0: [0.5]}, **config)

    def named(*paths: Path) -> tuple[str, ...]:
        return labels([load_run(p) for p in paths])

    a = run("a", method={"name": "ovmse"}, env="smax:3m", data="x/medium", seeds=[0])
    b = run("b", method={"name": "ovmse"}, env="smax:3m", data="x/expert", seeds=[0])
    c = run("c", method={"name": "qmix"}, env="smax:3m", data=None, seeds=[0])
    d = run("d", method={"name": "ovmse"}, env="smax:3m", data="x/medium", seeds=[0, 1])
    assert named(a) == ("ovmse",)
    assert named(a, b) == ("ovmse, medium", "ovmse, expert")
    assert named(a, c) == ("ovmse", "qmix")  # by the method alone, never by data that come with it
    assert named(a, d) == ("ovmse (a)", "ovmse (d)")


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "metrics.jsonl is missing"),
        ({"metrics.jsonl": "\n"}, "no evaluation yet"),
        ({"metrics.jsonl": '{"phase": \n{}\n'}, "metrics.jsonl, line 1: not valid JSON"),
        ({"metrics.jsonl": "[1]\n"}, "line 1: expected a JSON object, got list"),
        ({"metrics.jsonl": '{"phase": "warm-up"}\n'}, "line 1: phase must be 'offline', 'online' or"),
        ({"metrics.jsonl": '{"phase": "online", "seed": "0"}\n'}, "line 1: seed must be a whole number"),
        ({"metrics.jsonl": '{"phase": "online", "seed": 0}\n'}, "line 1: env_steps must be a number"),
        ({"config.json": "{"}, "config.json: not valid JSON"),
        ({"summary.json": "[]"}, "summary.json: expected a JSON object, got list"),
        ({"handover.json": '{"seeds": [{}]}'}, "'seeds' must be a list of objects"),
        ({"handover.json": '{"seeds": [{"seed": 0, "return_after": "x"}]}'}, "return_after must be a number"),
        ({"metrics.jsonl": '{"phase": "online", "seed": 0, "env_steps": 0, "updates": 0, "return": NaN}\n'},
         "no finite score"),
    ],
)  # fmt: skip
def test_broken_input_is_named(tmp_path: Path, files: dict[str, str], message: str) -> None:
    path = tmp_path / "run"
    path.mkdir()
    if files and "metrics.jsonl" not in files:
        (path / "metrics.jsonl").write_text(json.dumps(line("online", 0, 0, 0, 0.5)))
    for name, text in files.items():
        (path / name).write_text(text)
    with pytest.raises(UserError, match=re.escape(message)):
        write_report([path])


def test_missing_runs_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nowhere: no such run directory"):
        write_report([tmp_path / "nowhere"])
    with pytest.raises(UserError, match="no run directory given"):
        write_report([])
    with pytest.raises(UserError, match="at least two run directories; got 1"):
        compare([tmp_path], None, Console())
    with pytest.raises(UserError, match="give a folder"):
        compare([tmp_path, tmp_path / "b"], tmp_path / "table.csv", Console())


def test_a_value_that_is_not_finite_is_said_and_left_out(tmp_path: Path) -> None:
    path = small_run(tmp_path / "run", {0: [0.5, 0.6]})
    with (path / "metrics.jsonl").open("a") as file:
        file.write(json.dumps(line("online", 0, 200, 12, 0.7) | {"loss": float("inf")}) + "\n")
    assert load_run(path).notes == ("Line 3 of metrics.jsonl: loss not finite. Training may have diverged.",)


def test_a_report_takes_neither_jax_nor_scipys_statistics(tmp_path: Path) -> None:
    """Each takes half a second to import, a fifth of what a report may take."""
    run = str(small_run(tmp_path / "run", {0: [0.5, 0.6], 1: [0.5, 0.7]}))
    code = "import sys; from ovmse.cli.main import main; main(sys.argv[1:]); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code, "report", run], capture_output=True, text=True, check=True)
    assert (tmp_path / "run" / "report.html").is_file()
    assert not {"jax", "scipy.stats", "zarr", "matplotlib.pyplot"} & set(done.stdout.split())


def test_importing_the_report_does_not_import_matplotlib() -> None:
    code = "import sys, ovmse.report; sys.exit('matplotlib' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0"), (-0.5, "−0.5"), (12.345, "12.3"), (1234.5, "1,234"), (-99.96, "−100"), (1e-7, "1.00e-07")],
)
def test_numbers_are_written_short(value: float, text: str) -> None:
    assert fmt.number(value) == text
