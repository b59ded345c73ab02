"""What no load path may use, looked for in the source; what a run's directory may not bring along."""

import ast
from pathlib import Path

import pytest

import ovmse
from ovmse.config import Config
from ovmse.core.errors import UserError
from ovmse.runs import trusted_code
from ovmse.system.plugins import import_own

FORBIDDEN_MODULES = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal", "copyreg"}
FORBIDDEN_CALLS = {"eval", "exec", "compile", "__import__"}
FORBIDDEN_LOADS = {"torch.load", "yaml.load", "pd.read_pickle", "pandas.read_pickle"}
FORBIDDEN_SETTINGS = {"allow_pickle", "pickled"}
SOURCES = sorted(Path(ovmse.__file__).parent.rglob("*.py"))


def breaches(source: str) -> list[str]:
    """Everything in a source that could run code from data."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)]
        else:
            names = []
        found += [name for name in names if {*name.split(".")} & FORBIDDEN_MODULES]
        if isinstance(node, ast.Call):
            if isinstance(node.func, ast.Name) and node.func.id in FORBIDDEN_CALLS:
                found.append(node.func.id)
            if ast.unparse(node.func) in FORBIDDEN_LOADS:
                found.append(ast.unparse(node.func))
            for keyword in node.keywords:
                if keyword.arg in FORBIDDEN_SETTINGS and not (
                    isinstance(keyword.value, ast.Constant) and keyword.value.value is False
                ):
                    found.append(keyword.arg)
    return found


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.stem)
def test_no_source_can_run_code_from_data(path):
    assert breaches(path.read_text()) == []


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from pickle import loads",
        "import numpy._core.multiarray, joblib",
        "from six.moves import cPickle",
        "np.load(f, allow_pickle=True)",
        "np.load(f, allow_pickle=trusted)",
        "eval(text)",
        "exec(text)",
        "torch.load(path)",
        "yaml.load(text)",
    ],
)
def test_the_search_finds_what_it_is_for(source):
    assert breaches(source)


def test_the_search_lets_the_rest_pass():
    assert breaches("np.load(f, allow_pickle=False); json.loads(text); ast.literal_eval(text); re.compile(x)") == []


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({}, None),
        ({"env": "matrix:climbing", "method": "ovmse+omiga"}, None),
        ({"env": "pettingzoo:mpe2.simple_spread_v3"}, None),
        ({"env": "pettingzoo:os"}, "environment 'pettingzoo:os'"),
        ({"env": "smac:5m_vs_6m"}, None),
        ({"env": "pymarl:os:system"}, "environment 'pymarl:os:system'"),
        ({"env": "own:os:system"}, "environment 'own:os:system'"),
        ({"env": "os:system"}, "environment 'os:system'"),
        ({"env": "gymnasium:rware:rware-tiny-2ag-v2"}, None),
        ({"env": "sumo:cologne3"}, None),
        ({"env": "sumo:towns/mine.sumocfg"}, "environment 'sumo:towns/mine.sumocfg'"),
        ({"env": "matrix:climbing", "env_python": Path("bin/python")}, "interpreter 'bin/python'"),
        ({"env": "matrix:climbing", "ray_address": "far:6379"}, "Ray at 'far:6379'"),
        ({"method": "mine:METHOD"}, "method 'mine:METHOD'"),
        ({"method": "jsrl+mine:METHOD"}, "method 'mine:METHOD'"),
    ],
)
def test_code_that_a_directory_names_takes_trust(settings, named):
    config = Config(**settings)
    trusted_code.check(Path("run"), config, trusted=True)
    if named is None:
        trusted_code.check(Path("run"), config, trusted=False)
        return
    with pytest.raises(UserError, match="--trust-code") as raised:
        trusted_code.check(Path("run"), config, trusted=False)
    assert named in str(raised.value)


def test_what_ones_own_modules_import_beside_them_counts(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "own_parts").mkdir()
    for name, text in {
        "own_env.py": "import json\nfrom own_parts import rules\nimport own_constants\n",
        "own_constants.py": "X = 1\n",
        "own_parts/__init__.py": "",
        "own_parts/rules.py": "from . import scores\nfrom .scores import best\n",
        "own_parts/scores.py": "best = 2\n",
        "own_other.py": "",
    }.items():
        (tmp_path / name).write_text(text)
    import_own("environment", "own_env:Env", "own_env")
    before = trusted_code.checksums(Config(env="own_env:Env"))
    assert list(before) == ["own_constants", "own_env", "own_parts", "own_parts.rules", "own_parts.scores"]
    (tmp_path / "own_parts" / "scores.py").write_text("best = 3\n")
    after = trusted_code.checksums(Config(env="own_env:Env"))
    assert [name for name in before if before[name] != after[name]] == ["own_parts.scores"]
    for name in ("pettingzoo:own_env", "own:own_env:Env", "pymarl:own_env:Env"):
        assert trusted_code.checksums(Config(env=name)) == after
