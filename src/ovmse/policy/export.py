"""The directory of an export: weights, contract, the code that acts, and recorded steps to check it by."""

import hashlib
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save

from ovmse.policy.contract import Contract
from ovmse.system.files import atomic_path, check_free, write_json

CODE = {"act.py": "policy.py", "explore.py": "explore.py", "check.py": "check.py"}
"""The files of this room that leave with a policy, word for word, and what they are called there."""


def write(
    out: Path,
    contract: Contract,
    weights: dict[str, np.ndarray],
    recorded: dict[str, Any],
    onnx: bytes | None = None,
) -> Contract:
    """Write a policy into a directory that is not there yet or empty, whole or not at all.

    Args:
        out: the directory.
        contract: the contract; the checksum of the weights is put into it.
        weights: the arrays by name.
        recorded: the steps to check by (`ovmse.policy.check`).
        onnx: the same policy as an ONNX model, where it is asked for.

    Returns:
        The contract as written.

    Raises:
        UserError: where the directory is in use, or can't be written.
    """
    with atomic_path(out, check_free) as folder:
        folder.mkdir()
        data = save(weights)
        (folder / contract.weights.file).write_bytes(data)
        digest = hashlib.sha256(data).hexdigest()
        contract = replace(contract, weights=replace(contract.weights, sha256=digest))
        write_json(folder / "policy.json", contract.described())
        for ours, theirs in CODE.items():
            shutil.copyfile(Path(__file__).with_name(ours), folder / theirs)
        np.savez_compressed(folder / "check.npz", **recorded)
        if onnx is not None:
            (folder / "policy.onnx").write_bytes(onnx)
    return contract
