"""Training: a run spec -> a run directory. Every backend is a module with the same ``train`` that writes the same
files."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module

BACKENDS = {"torch": "asymgrpo.training.local", "verl": "asymgrpo.training.verl.launch"}
"""Name in a scale's file -> module with ``train``; imported when used, so that neither needs the other's packages."""


def backend(name: str) -> Callable[..., None]:
    """The ``train`` of a backend.

    Raises:
        ValueError: there is no such backend.
    """
    if name not in BACKENDS:
        raise ValueError(f"backend: expected one of {', '.join(BACKENDS)}, found {name!r}")
    train: Callable[..., None] = import_module(BACKENDS[name]).train
    return train
