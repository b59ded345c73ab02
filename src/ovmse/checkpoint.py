"""Save and restore arrays by name in the safetensors format: reading it runs no code."""

from pathlib import Path
from typing import Any, TypeVar

import jax
import numpy as np
from jaxtyping import PyTree
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from ovmse.errors import UserError
from ovmse.rundir import replacing

Tree = TypeVar("Tree", bound=PyTree)


def names(tree: PyTree) -> dict[str, Any]:
    """Every array of a tree under the path that leads to it, such as ``agent.encoder.weight``."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {jax.tree_util.keystr(path).lstrip(".").replace("[", ".").replace("]", ""): leaf for path, leaf in leaves}


def save(path: Path, tree: PyTree) -> None:
    """Write all arrays of a tree, whole or not at all. Random keys are written as their data."""
    arrays = {name: np.asarray(_data(leaf), order="C") for name, leaf in names(tree).items()}
    with replacing(path) as temporary:
        save_file(arrays, temporary)


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


def _data(leaf: Any) -> np.ndarray:
    return np.asarray(jax.random.key_data(leaf) if _is_key(leaf) else leaf)


def _undata(path: Path, name: str, array: np.ndarray, like: Any) -> Any:
    if _is_key(like):
        return jax.random.wrap_key_data(jax.numpy.asarray(array))
    if array.shape != like.shape or array.dtype != like.dtype:
        raise UserError(
            f"{path} does not fit: {name} is {array.dtype}{list(array.shape)}, expected {like.dtype}{list(like.shape)}."
        )
    return jax.numpy.asarray(array)
