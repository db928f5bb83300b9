"""The configuration: :func:`load` turns config/ into a :class:`Study`, or raises :class:`ConfigError`."""

from asymgrpo.config.errors import ConfigError
from asymgrpo.config.loading import load
from asymgrpo.config.settings import Setting
from asymgrpo.config.study import ARTEFACTS, BASE, Artefact, Backbone, Benchmark, Method, Run, Study

__all__ = [
    "ARTEFACTS",
    "BASE",
    "Artefact",
    "Backbone",
    "Benchmark",
    "ConfigError",
    "Method",
    "Run",
    "Setting",
    "Study",
    "load",
]
