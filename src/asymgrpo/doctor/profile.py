"""Profiles of Snakemake, read as plain data: what jobs ask for, and what Snakemake is told beside."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import yaml

from asymgrpo.slurm import Request, Resources, asked_for


@dataclass(frozen=True)
class Profile:
    """One profile, or several of which a later one is laid over those before, key by key.

    What a rule of the Snakefile says itself is not in it.
    """

    names: tuple[str, ...]
    files: tuple[Path, ...]
    content: Mapping[str, Any]

    @classmethod
    def find(cls, *names: str) -> Profile:
        """As `snakemake --profile ... --profile ...` finds them.

        Raises:
            ValueError: there is none, or it is not YAML.
        """
        from snakemake.cli import get_profile_dir

        files: list[Path] = []
        merged: dict[str, Any] = {}
        for name in names:
            found = get_profile_dir(name)
            if not found:
                raise ValueError(f"--profile: {name}: is not there; expected a directory with config.v9+.yaml")
            files.append(Path(found[1]))
            content = _read(files[-1])
            if not isinstance(content, dict):
                raise ValueError(f"{files[-1]}: expected a mapping of Snakemake's options")
            merged |= content
        return cls(names, tuple(files), merged)

    @property
    def file(self) -> str:
        """All of its files, for messages."""
        return ", ".join(map(str, self.files))

    @property
    def executor(self) -> str:
        """`slurm`, or `local` if the profile does not say."""
        return str(self.content.get("executor", "local"))

    @property
    def jobs(self) -> int:
        """How many jobs may be in the queue at the same time."""
        value = self.content.get("jobs", 1)
        return value if isinstance(value, int) and value > 0 else 1

    @property
    def config(self) -> dict[str, Any]:
        """What it sets of config/config.yaml: `configfile`, beside the profile or in the repository, then `config`."""
        found: dict[str, Any] = {}
        files = self.content.get("configfile") or self.content.get("configfiles") or []
        for name in [files] if isinstance(files, str) else files:
            beside = [file.parent / name for file in reversed(self.files)]
            found |= _read(next((path for path in beside if path.exists()), Path(name))) or {}
        return found | _pairs(self.content.get("config"))

    def executor_settings(self) -> Any:
        """What the executor plugin is told for all jobs: keys like `slurm-qos`.

        Raises:
            ValueError: it does not take them.
        """
        from snakemake_executor_plugin_slurm import ExecutorSettings
        from snakemake_interface_common.exceptions import WorkflowError

        keys = {field.name: f"slurm-{field.name.replace('_', '-')}" for field in fields(ExecutorSettings)}
        given = {name: self.content[key] for name, key in keys.items() if self.content.get(key) is not None}
        try:
            return ExecutorSettings(**given)
        except WorkflowError as error:
            raise ValueError(f"{self.file}: {error}") from None

    def request(self, rule: str, gpus: int, threads: int, nodes: int = 1) -> Request:
        """What a job of a rule asks for, if the rule itself says GPUs and threads (workflow/rules/common.smk).

        Raises:
            ValueError: its run time is none.
        """
        site = _pairs(self.content.get("default-resources"))
        own = _of_rule(self.content.get("set-resources"), rule)
        asked = dict(site)
        for name in ("gpu_partition", "gpu_type"):
            asked.pop(name, None)
        if gpus:
            asked |= asked_for(gpus, nodes, site.get)
        asked |= own
        if "runtime" in asked:
            from snakemake_executor_plugin_slurm.utils import parse_time_to_minutes
            from snakemake_interface_common.exceptions import WorkflowError

            try:
                asked["runtime"] = parse_time_to_minutes(asked["runtime"])
            except WorkflowError:
                expected = "expected minutes, or a time such as 24h"
                raise ValueError(f"{self.file}: runtime of {rule}: {expected}, found {asked['runtime']!r}") from None
        threads = _pairs(self.content.get("set-threads")).get(rule, threads)
        return Request(rule, int(threads), Resources(asked))


def _read(file: Path) -> Any:
    try:
        return yaml.safe_load(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(f"{file}: cannot be read: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{file}: is not valid YAML: {' '.join(str(error).split())}") from None


def _pairs(given: Any) -> dict[str, Any]:
    """A mapping, or as on a command line a list of `name=value`."""
    if isinstance(given, Mapping):
        return dict(given)
    texts = [given] if isinstance(given, str) else given or []
    return {name: _literal(value) for name, _, value in (str(text).partition("=") for text in texts)}


def _of_rule(given: Any, rule: str) -> dict[str, Any]:
    """`{rule: {name: value}}`, or a list of `rule:name=value`."""
    if isinstance(given, Mapping):
        return _pairs(given.get(rule))
    prefix = f"{rule}:"
    return _pairs([text.removeprefix(prefix) for text in map(str, given or []) if text.startswith(prefix)])


def _literal(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (SyntaxError, ValueError):
        return text
