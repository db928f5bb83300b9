"""Checksums, and which files of a model may lie on this machine."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import Any

INDEX = "model.safetensors.index.json"
_WANTED = (".safetensors", ".json", ".txt", ".jinja")
_NEVER = (".bin", ".ckpt", ".h5", ".joblib", ".msgpack", ".npy", ".npz", ".pickle", ".pkl", ".pt", ".pth", ".py", ".so")


def sha256(path: Path) -> str:
    """The checksum of a file, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def of_model(names: Iterable[str]) -> list[str]:
    """The files of a repository that a policy is loaded from, and its licence; none in a subdirectory.

    Weights as safetensors, JSON and text: no pickle, which runs code when it is read, and no Python.
    """
    return sorted(n for n in names if "/" not in n and (n.endswith(_WANTED) or PurePosixPath(n).stem == "LICENSE"))


def in_place(directory: Path) -> list[str]:
    """The files below a directory, as paths in a repository, without what the hub's client keeps beside them."""
    if not directory.is_dir():
        return []
    names = (path.relative_to(directory).as_posix() for path in directory.rglob("*") if path.is_file())
    return sorted(name for name in names if not any(part.startswith(".") for part in PurePosixPath(name).parts))


def lacking(directory: Path) -> list[str]:
    """What a model in `directory` lacks before it can be loaded; empty if nothing is known to be missing."""
    names = in_place(directory)
    missing = [name for name in ("config.json", "tokenizer_config.json") if name not in names]
    if INDEX in names:
        missing += sorted(set(_read_json(directory / INDEX)["weight_map"].values()) - set(names))
    elif not any(name.endswith(".safetensors") for name in names):
        missing.append("model.safetensors")
    return missing


def unsafe(directory: Path) -> list[str]:
    """What in a model's directory could run code of foreign origin: pickles, Python, or a config that asks for some."""
    found = [name for name in in_place(directory) if name.endswith(_NEVER)]
    for name in ("config.json", "tokenizer_config.json"):
        path = directory / name
        if path.is_file() and "auto_map" in _read_json(path):
            found.append(f"{name} (auto_map)")
    return found


def cut_off(directory: Path) -> list[str]:
    """The weights that are not as long as their own header says, e.g. because a copy was interrupted."""
    return [n for n in in_place(directory) if n.endswith(".safetensors") and not _is_whole(directory / n)]


def _is_whole(path: Path) -> bool:
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or length > size - 8:
            return False
        try:
            header = json.loads(file.read(length))
            ends = [tensor["data_offsets"][1] for name, tensor in header.items() if name != "__metadata__"]
        except (ValueError, AttributeError, KeyError, TypeError, IndexError):
            return False
    return size == 8 + length + max(ends, default=0)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path}: not JSON ({error}); remove it, and fetch again") from None
    if not isinstance(content, dict):
        raise ValueError(f"{path}: expected an object; remove it, and fetch again")
    return content
