"""What a schema cannot say: settings that must fit each other, names that must exist."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from asymgrpo.config.errors import mistake, unknown
from asymgrpo.config.settings import Key, below, flatten

METHODS = "config/methods.yaml"
BENCHMARKS = "config/benchmarks.yaml"
ARTEFACTS = "config/artefacts.yaml"

Values = Mapping[Key, Any]


def check_scale(file: str, scale: Mapping[str, Any], benchmarks: Sequence[str]) -> None:
    """Batches divide, heads divide, shares add up, benchmarks exist and are selected on."""
    settings = {path: setting.value for path, setting in flatten(scale).items()}
    _check_batches(file, settings, below(settings, "training"), {})
    for name in scale["backbones"]:
        _check_batches(
            file, settings, below(settings, "training"), below(settings, "backbones", name, "training"), name
        )
        heads, shared = (settings["backbones", name, "policy", key] for key in ("heads", "kv_heads"))
        if heads % shared:
            key = f"backbones.{name}.policy.kv_heads"
            raise mistake(file, key, f"found {shared}", f"a divisor of heads, which is {heads}")
    numbers, share = (settings["data", "train", key] for key in ("numbers", "share_of_3"))
    if len(numbers) == 1 and share != float(numbers == [3]):
        raise mistake(
            file, "data.train.share_of_3", f"found {share}", f"{float(numbers == [3])} if numbers is {numbers}"
        )
    shares = below(settings, "warm_start", "shares").values()
    if abs(sum(shares) - 1) > 1e-9:
        raise mistake(
            file, "warm_start.shares.value", f"the shares add up to {sum(shares):g}", "shares that add up to 1"
        )
    used = settings["evaluation", "benchmarks"]
    for name in used:
        if name not in benchmarks:
            raise unknown(file, "evaluation.benchmarks", "benchmark", name, benchmarks)
    chosen = settings["evaluation", "select_on"]
    if chosen not in used:
        raise unknown(file, "evaluation.select_on", "benchmark", chosen, used)


def _check_batches(file: str, settings: Values, scale: Values, own: Values, backbone: str = "") -> None:
    """The batches of the scale, or those of a backbone with settings of its own; blames a key that is there."""
    step, part = (("rollout", key) for key in ("prompts_per_step", "prompts_per_minibatch"))
    merged = {**scale, **own}

    def key(*candidates: Key) -> str:
        path = next((path for path in candidates if path in own), None)
        return ".".join(("training", *candidates[0]) if path is None else ("backbones", backbone, "training", *path))

    if merged[step] % merged[part]:
        expected = f"a divisor of prompts_per_step, which is {merged[step]}"
        found = f"prompts_per_minibatch is {merged[part]}"
        raise mistake(file, key(part, step), found, expected)
    problems = settings["data", "train", "problems"]
    if problems < merged[step]:
        raise mistake(file, key(step), f"found {merged[step]}", f"at most data.train.problems, which is {problems}")


def check_methods(document: Mapping[str, Any]) -> None:
    """A method of the family has both exponents, any other none of the family's settings."""
    default = document["defaults"]["estimator"]["name"]["value"]
    for name, entry in document["methods"].items():
        own = entry.get("estimator", {})
        estimator = own.get("name", {}).get("value", default)
        extra = [key for key in own if key != "name"]
        if estimator != "family" and extra:
            key = f"methods.{name}.estimator.{extra[0]}"
            raise mistake(METHODS, key, f"is given, but the estimator is {estimator}", "it only with `family`")
        for key in ("beta_pos", "beta_neg"):
            if estimator == "family" and key not in own:
                raise mistake(METHODS, f"methods.{name}.estimator.{key}", "is missing", "an exponent of at least 0")


def check_benchmarks(document: Mapping[str, Any]) -> None:
    """Every generator knows how many numbers to use; a range is not empty."""
    for name, entry in document["benchmarks"].items():
        generator = document["defaults"]["generator"]["value"] | entry["generator"]["value"]
        key = f"benchmarks.{name}.generator.value"
        if "numbers" not in generator:
            raise mistake(BENCHMARKS, f"{key}.numbers", "is missing", "how many numbers a problem has, 3 or 4")
        span = generator.get("one_number_from")
        if span and span[0] > span[1]:
            raise mistake(BENCHMARKS, f"{key}.one_number_from", f"found {span}", "[smallest, largest]")


def check_artefacts(document: Mapping[str, Any], methods: Sequence[str], scale: Mapping[str, Any], file: str) -> None:
    """Every method and every decoding that an artefact shows exists."""
    for name, entry in document["artefacts"].items():
        for role, shown in entry.get("methods", {}).get("value", {}).items():
            for method in [] if shown == "all" else shown:
                if method not in methods:
                    raise unknown(ARTEFACTS, f"artefacts.{name}.methods.value.{role}", "method", method, methods)
        for decoding in entry.get("decodings", ()):
            if decoding not in scale["evaluation"]["final"]:
                key = f"evaluation.final.{decoding}"
                raise mistake(file, key, "is missing", f"the decoding that {name} shows (decodings in {ARTEFACTS})")
