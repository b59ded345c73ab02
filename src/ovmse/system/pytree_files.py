"""Save and restore arrays by name in the safetensors format: reading it runs no code."""

import errno
import hashlib
import os
import re
from pathlib import Path
from typing import Any, TypeVar

import jax
import numpy as np
from jaxtyping import PyTree
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from ovmse.core.errors import UserError
from ovmse.system.files import replacing

Tree = TypeVar("Tree", bound=PyTree)


def names(tree: PyTree) -> dict[str, Any]:
    """Every array of a tree under the path that leads to it, such as ``agent.encoder.weight``."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {jax.tree_util.keystr(path).lstrip(".").replace("[", ".").replace("]", ""): leaf for path, leaf in leaves}


def to_host(tree: PyTree) -> PyTree:
    """The tree's arrays as NumPy's, without a copy where that can be; random keys as their data."""
    return jax.tree.map(lambda leaf: np.asarray(jax.random.key_data(leaf) if _is_key(leaf) else leaf, order="C"), tree)


def save(path: Path, tree: PyTree) -> None:
    """Write all arrays of a tree, whole or not at all. Random keys are written as their data."""
    with replacing(path) as temporary:
        try:
            save_file(names(to_host(tree)), temporary)
        except SafetensorError as error:  # what the system said is in the words alone
            number = re.search(r"os error (\d+)", str(error))
            code = int(number[1]) if number else errno.EIO
            raise OSError(code, os.strerror(code), str(path)) from error


def digest(tree: PyTree) -> str:
    """SHA-256 of all arrays of a tree, with their names, types and shapes."""
    whole = hashlib.sha256()
    for name, leaf in sorted(names(to_host(tree)).items()):
        whole.update(f"{name} {leaf.dtype} {leaf.shape}\n".encode())
        whole.update(leaf.data if leaf.size else b"")
    return whole.hexdigest()


def restore(path: Path, like: Tree) -> Tree:
    """A tree like `like` (arrays or their shapes) with the arrays of a file.

    Raises `UserError` if the file is missing or damaged, or holds other arrays than `like`.
    """
    if not path.is_file():
        raise UserError(f"{path} is missing: there is nothing to restore.")
    try:
        arrays = load_file(path)
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path} is damaged ({error}).") from error
    expected = names(like)
    if set(arrays) != set(expected):
        strange, missing = sorted(set(arrays) - set(expected)), sorted(set(expected) - set(arrays))
        raise UserError(f"{path} does not fit: unexpected arrays {strange[:3]}, missing {missing[:3]}.")
    leaves = [_undata(path, name, arrays[name], leaf) for name, leaf in expected.items()]
    return jax.tree_util.tree_unflatten(jax.tree_util.tree_structure(like), leaves)


def _is_key(leaf: Any) -> bool:
    return jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _undata(path: Path, name: str, array: np.ndarray, like: Any) -> Any:
    if _is_key(like):
        return jax.random.wrap_key_data(jax.numpy.asarray(array))
    if array.shape != like.shape or array.dtype != like.dtype:
        raise UserError(
            f"{path} does not fit: {name} is {array.dtype}{list(array.shape)}, expected {like.dtype}{list(like.shape)}."
        )
    return jax.numpy.asarray(array)
