"""Files from a stranger who means harm: nothing runs, nothing is written elsewhere, nothing is allocated beyond reason.

Each case makes its files in a folder and names the command that opens them; the command must end by itself, with exit
code 2 (0 where the file is merely odd), without a traceback.
"""

import io
import json
import pickle
import resource
import shutil
import struct
import tempfile
import zipfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from support.archives import make_tar, make_zip, tar_info

from faults import runs

Case = Callable[[Path, Path], list[str]]
"""(folder to make files in, a sound finished run to begin from) → the words of the command."""
GIB = 2**30
EVIL = Path(tempfile.gettempdir()) / "evil"
MARKUP = "<script>alert(1)</script><img src=x onerror=alert(2)>"


class Trap:
    """Whoever unpickles this writes a file."""

    def __init__(self, canary: Path):
        self.canary = canary

    def __reduce__(self) -> Any:
        return open, (str(self.canary), "w")


def trap(folder: Path) -> Trap:
    return Trap(folder.parent / "canary")


def importing(path: Path) -> list[str]:
    return ["import", str(path), "--out", str(path.parent / "imported")]


def written(path: Path, content: bytes) -> list[str]:
    path.write_bytes(content)
    return importing(path)


def npz(path: Path, **arrays: Any) -> list[str]:
    np.savez(path, **arrays)
    return importing(path)


def npy_header(text: str) -> bytes:
    padded = text.encode() + b" " * (-(10 + len(text) + 1) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(padded)) + padded


def zipped(path: Path, members: dict[str, bytes]) -> list[str]:
    path.write_bytes(make_zip(members))
    return importing(path)


def copied(folder: Path, run: Path) -> Path:
    shutil.copytree(run, folder / "run")
    return folder / "run"


def edited(folder: Path, run: Path, **changes: Any) -> list[str]:
    """A run whose configuration says something else."""
    there = copied(folder, run)
    found = json.loads((there / "config.json").read_text())
    (there / "config.json").write_text(json.dumps(found | changes))
    return ["evaluate", str(there), "--episodes", "8"]


def tensors(folder: Path, run: Path, content: bytes) -> list[str]:
    """A run whose networks are these bytes."""
    there = copied(folder, run)
    (there / "teams.safetensors").write_bytes(content)
    return ["evaluate", str(there), "--episodes", "8"]


def header(size: int, text: str = "") -> bytes:
    return struct.pack("<Q", size) + text.encode()


def of_tensor(**entry: Any) -> bytes:
    text = json.dumps({"agent.encoder.weight": {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]} | entry})
    return header(len(text), text) + bytes(16)


def dataset(folder: Path, run: Path, change: Callable[[dict[str, Any], Path], None]) -> list[str]:
    """The log with the metadata of one of its parts changed."""
    there = folder / "data"
    shutil.copytree(run.parent / "data", there)
    path = there / "reward" / "zarr.json"
    found = json.loads(path.read_text())
    change(found, there)
    path.write_text(json.dumps(found))
    return ["inspect", str(there)]


def set_shape(*shape: int) -> Callable[[dict[str, Any], Path], None]:
    return lambda found, there: found.update(shape=list(shape))


def with_codec(name: str) -> Callable[[dict[str, Any], Path], None]:
    return lambda found, there: found["codecs"].insert(0, {"name": name, "configuration": {}})


def attributes(folder: Path, run: Path, **changes: Any) -> list[str]:
    """The log with other attributes."""
    there = folder / "data"
    shutil.copytree(run.parent / "data", there)
    found = json.loads((there / "zarr.json").read_text())
    found["attributes"] |= changes
    (there / "zarr.json").write_text(json.dumps(found))
    return ["inspect", str(there), "--out", str(folder / "page")]


def link(folder: Path, run: Path) -> list[str]:
    there = folder / "data"
    shutil.copytree(run.parent / "data", there)
    shutil.rmtree(there / "reward")
    (there / "reward").symlink_to("/etc")
    return ["inspect", str(there)]


def unpacked(folder: Path, body: bytes) -> list[str]:
    """An archive, unpacked as `ovmse datasets get` does."""
    (folder / "archive").write_bytes(body)
    return ["unpack", str(folder / "archive"), str(folder / "into")]


def marked_report(folder: Path, run: Path) -> list[str]:
    edited(folder, run, method=MARKUP, env=MARKUP, data=MARKUP)
    versions = folder / "run" / "versions.json"
    versions.write_text(json.dumps({"command": MARKUP, MARKUP: MARKUP}))
    return ["report", str(folder / "run")]


def pickled(protocol: int) -> Case:
    return lambda folder, run: written(folder / "log.pkl", pickle.dumps(trap(folder), protocol))


def bomb() -> bytes:
    body = io.BytesIO()
    with zipfile.ZipFile(body, "w", zipfile.ZIP_DEFLATED) as file:
        for n in range(8):
            file.writestr(f"zeros-{n}", bytes(2**28))
    return body.getvalue()


DEEP = "[" * 100_000 + "]" * 100_000
CASES: dict[str, Case] = {
    "pickle": pickled(4),
    "pickle of the first protocol": pickled(0),
    "pickle named npz": lambda f, r: written(f / "log.npz", pickle.dumps(trap(f))),
    "pickle named h5": lambda f, r: written(f / "log.h5", pickle.dumps(trap(f))),
    "pickle named parquet": lambda f, r: written(f / "log.parquet", pickle.dumps(trap(f))),
    "object array in npz": lambda f, r: npz(f / "log.npz", obs=np.array([trap(f)], object), reward=np.zeros(3)),
    "npz with a pickled member": lambda f, r: zipped(f / "log.npz", {"obs.npy": pickle.dumps(trap(f))}),
    "PyTorch's archive": lambda f, r: zipped(f / "log.pt", {"archive/data.pkl": pickle.dumps(trap(f))}),
    "npz with an absurd shape": lambda f, r: zipped(
        f / "log.npz",
        {"obs.npy": npy_header("{'descr': '<f4', 'fortran_order': False, 'shape': (1000000, 1000000, 9), }")},
    ),
    "npz with a negative shape": lambda f, r: zipped(
        f / "log.npz", {"obs.npy": npy_header("{'descr': '<f4', 'fortran_order': False, 'shape': (-5, 2), }")}
    ),
    "npz with code in its header": lambda f, r: zipped(
        f / "log.npz", {"obs.npy": npy_header(f"open('{f.parent / 'canary'}', 'w')")}
    ),
    "npz with a path in a member's name": lambda f, r: zipped(f / "log.npz", {"../../evil.npy": b"evil"}),
    "npz bomb": lambda f, r: written(f / "log.npz", bomb()),
    "zip slip": lambda f, r: unpacked(f, make_zip({"../evil": b"evil"})),
    "zip with an absolute path": lambda f, r: unpacked(f, make_zip({str(EVIL): b"evil"})),
    "tar slip": lambda f, r: unpacked(f, make_tar([(tar_info("a/../../evil"), b"evil")])),
    "tar with a link": lambda f, r: unpacked(
        f, make_tar([(tar_info("in", type=b"2", linkname=".."), b""), (tar_info("in/evil"), b"evil")])
    ),
    "zip bomb": lambda f, r: unpacked(f, bomb()),
    "networks with a header of 2^63": lambda f, r: tensors(f, r, header(2**63)),
    "networks with a header of 4 GiB": lambda f, r: tensors(f, r, header(2**32, "{}")),
    "networks with a deep header": lambda f, r: tensors(f, r, header(len(DEEP), DEEP)),
    "networks that claim 4 TiB": lambda f, r: tensors(f, r, of_tensor(shape=[2**20, 2**20], data_offsets=[0, 2**42])),
    "networks beyond the file": lambda f, r: tensors(f, r, of_tensor(data_offsets=[10**9, 10**9 + 16])),
    "networks with a negative place": lambda f, r: tensors(f, r, of_tensor(data_offsets=[-16, 0])),
    "networks of another type": lambda f, r: tensors(f, r, of_tensor(dtype="PICKLE")),
    "pickled networks": lambda f, r: tensors(f, r, pickle.dumps(trap(f))),
    "a run with somebody's environment": lambda f, r: edited(f, r, env="os:system", env_settings=["command=touch x"]),
    "a run with somebody's PettingZoo module": lambda f, r: edited(f, r, env="pettingzoo:antigravity"),
    "a run with somebody's method": lambda f, r: edited(f, r, method="antigravity:fly"),
    "a run with code as a setting": lambda f, r: edited(f, r, change=[f"explore=open('{f.parent / 'canary'}', 'w')"]),
    "a run with a deep configuration": lambda f, r: deep(f, r),
    "a run of endless episodes": lambda f, r: edited(f, r, evaluate_episodes=2**40),
    "a log with an absurd shape": lambda f, r: dataset(f, r, set_shape(10**13)),
    "a log with a negative shape": lambda f, r: dataset(f, r, set_shape(-4)),
    "a log with a codec that unpickles": lambda f, r: dataset(f, r, with_codec("numcodecs.pickle")),
    "a log with a link out of it": link,
    "a log with a number of agents that is absurd": lambda f, r: attributes(f, r, env={"n_agents": 10**12}),
    "a log with markup in its names": lambda f, r: attributes(f, r, behaviour=MARKUP, source=MARKUP),
    "a report on a run with markup in its names": marked_report,
}


def deep(folder: Path, run: Path) -> list[str]:
    there = copied(folder, run)
    (there / "config.json").write_text(DEEP)
    return ["evaluate", str(there)]


def unpack_instead(words: list[str]) -> int:
    """Unpack as a download is unpacked, in the shape of a command."""
    from ovmse.collection.unpack import unpack
    from ovmse.core.errors import UserError

    archive, into = map(Path, words)
    into.mkdir()
    try:
        unpack(archive, into)
    except UserError as error:
        print(f"error: {error}")
        return 2
    return 0


def prepare(peak: Path) -> None:
    """In the process of a case: take `unpack` as a command, and note at the end how much memory it all took."""
    from ovmse.cli import main

    real, before = main.main, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    def watched(words: list[str]) -> int:
        code = unpack_instead(words[1:]) if words[0] == "unpack" else real(words)
        peak.write_text(str(1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)))
        return code

    main.main = watched


def trial(folder: Path, run: Path, name: str) -> Counter[str]:
    """Open one malicious file."""
    place = folder / name.replace(" ", "-").replace("'", "").replace("^", "")
    where = place / "files"
    where.mkdir(parents=True)
    words = CASES[name](where, run)
    before = {path for path in place.rglob("*") if "files" not in path.relative_to(place).parts[:1]}
    log, peak = place / "log", place / "peak"
    code = runs.end(runs.start(words, log, prepare, peak), seconds=120)
    said = log.read_text()
    assert code in (0, 2), f"{name}: {code}: {said[-2000:]}"
    assert "Traceback" not in said, f"{name}: {said[-2000:]}"
    assert code == 2 or "markup" in name or "odd" in name, f"{name} was accepted: {said[-2000:]}"
    after = {path for path in place.rglob("*") if "files" not in path.relative_to(place).parts[:1]}
    assert after - before <= {log, peak}, f"{name} wrote {after - before}"
    assert not EVIL.exists() and not Path("x").exists()
    assert int(peak.read_text()) < GIB, f"{name} took {peak.read_text()} bytes"
    for page in where.rglob("*.html"):
        text = page.read_text()
        assert "<script>alert" not in text and "<img src=x" not in text, f"{name}: markup in {page}"
    assert "markup" not in name or any(where.rglob("*.html")), f"{name}: there is no page"
    return Counter({"malicious files: refused" if code else "malicious files: names escaped": 1})
