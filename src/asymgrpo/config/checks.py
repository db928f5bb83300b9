"""What a schema cannot say: settings that must fit each other, names that must exist."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from asymgrpo.config.errors import mistake, unknown
from asymgrpo.config.settings import Key, below, flatten
from asymgrpo.schedules import NEEDS

if TYPE_CHECKING:
    from asymgrpo.config.study import Artefact

METHODS = "config/methods.yaml"
BENCHMARKS = "config/benchmarks.yaml"
CONFIG = "config/config.yaml"
ARTEFACTS = "config/artefacts.yaml"
CLAIMS = "config/claims.yaml"

Values = Mapping[Key, Any]


def check_scale(file: str, scale: Mapping[str, Any], benchmarks: Mapping[str, Any], methods: Sequence[str]) -> None:
    """What belongs together is there, batches and heads divide, shares add up, names exist."""
    settings = {path: setting.value for path, setting in flatten(scale).items()}
    problems = _check_data(file, settings, benchmarks["datasets"])
    _check_backbones(file, scale, settings, problems)
    _check_backend(file, scale, settings)
    _check_evaluation(file, settings, list(benchmarks["benchmarks"]))
    _check_cost(file, scale)
    for name in settings.get(("methods",), ()):
        if name not in methods:
            raise unknown(file, "methods", "method", name, methods)


def _check_backbones(file: str, scale: Mapping[str, Any], settings: Values, problems: int) -> None:
    """Each is warm-started or fetched; what warm starts need is there if there are any."""
    _check_batches(file, problems, below(settings, "training"), {})
    for name, entry in scale["backbones"].items():
        _check_batches(
            file, problems, below(settings, "training"), below(settings, "backbones", name, "training"), name
        )
        if ("policy" in entry) == ("model" in entry):
            found = "is given beside policy" if "policy" in entry else "is missing"
            raise mistake(file, f"backbones.{name}.model", found, "either `policy` (sizes) or `model` (to be fetched)")
        if "model" in entry:
            continue
        for key in ("warm_start", "warm_start_seeds"):
            if key not in scale:
                raise mistake(file, key, "is missing", f"it, because the backbone {name} has a `policy`")
        heads, shared = (settings["backbones", name, "policy", key] for key in ("heads", "kv_heads"))
        if heads % shared:
            key = f"backbones.{name}.policy.kv_heads"
            raise mistake(file, key, f"found {shared}", f"a divisor of heads, which is {heads}")
    shares = below(settings, "warm_start", "shares").values()
    if shares and abs(sum(shares) - 1) > 1e-9:
        raise mistake(
            file, "warm_start.shares.value", f"the shares add up to {sum(shares):g}", "shares that add up to 1"
        )


def _check_data(file: str, settings: Values, datasets: Mapping[str, Any]) -> int:
    """Returns how many training problems there are."""
    dataset = settings.get(("data", "train", "dataset"))
    if dataset is not None:
        if dataset not in datasets:
            raise unknown(file, "data.train.dataset", "dataset", dataset, datasets)
        return datasets[dataset]["source"]["problems"]["value"]
    numbers, share = (settings["data", "train", key] for key in ("numbers", "share_of_3"))
    if len(numbers) == 1 and share != float(numbers == [3]):
        raise mistake(
            file, "data.train.share_of_3", f"found {share}", f"{float(numbers == [3])} if numbers is {numbers}"
        )
    return settings["data", "train", "problems"]


def _check_backend(file: str, scale: Mapping[str, Any], settings: Values) -> None:
    """What one of the backends cannot do, and what only verl has."""
    verl = settings["backend",] == "verl"
    if verl and settings["sampler",] != "vllm":
        raise mistake(file, "sampler", f"found {settings['sampler',]}", "vllm, because the backend is verl")
    if verl and "verl" not in scale:
        raise mistake(file, "verl", "is missing", "a block of overrides, because the backend is verl")
    blocks = {"verl": scale.get("verl")} | {
        f"backbones.{name}.verl": entry.get("verl") for name, entry in scale["backbones"].items()
    }
    for place, block in blocks.items():
        if block is None:
            continue
        if not verl:
            raise mistake(file, place, "is given, but the backend is torch", "it only with the backend verl")
        _check_overrides(file, place, block, scale["verl"])
    if not verl:
        for name, entry in scale["backbones"].items():
            if "model" in entry:
                found = "is given, but the backend is torch"
                raise mistake(file, f"backbones.{name}.model", found, "a `policy`, or the backend verl")
        return
    for key in ("trainer.nnodes", "trainer.n_gpus_per_node"):
        if type(settings.get(("verl", key))) is not int:
            raise mistake(file, f"verl.{key}", "is missing or no integer", "how many a run takes")
    on_cpu = settings["device",] == "cpu"
    if on_cpu != (settings.get(("verl", "trainer.device")) == "cpu"):
        expected = "cpu, as `device` says" if on_cpu else "no entry, because `device` is not cpu"
        raise mistake(file, "verl.trainer.device", "does not fit `device`", expected)
    _check_checkpoints(file, settings, scale["backbones"])


def _check_overrides(file: str, place: str, block: Mapping[str, Any], common: Mapping[str, Any]) -> None:
    """No override of what is derived, and none twice: ``a.b`` and ``+a.b`` are the same key."""
    # here, because it needs torch
    from asymgrpo.training.verl.overrides import bare, is_derived

    written = {bare(key): key for key in common}
    for key in block:
        if is_derived(key):
            found = "is derived from the scale's other settings"
            raise mistake(file, f"{place}.{key}", found, "only keys about how verl computes")
        if written.setdefault(bare(key), key) != key:
            raise mistake(file, f"{place}.{key}", f"is given as {written[bare(key)]} too", "the same spelling")


def _check_checkpoints(file: str, settings: Values, backbones: Mapping[str, Any]) -> None:
    """The verl backend takes the best policy from the checkpoint of the step that was evaluated."""
    every = settings["evaluation", "every"]
    for name in backbones:
        own = ("backbones", name, "training", "checkpoint_every")
        key = own if own in settings else ("training", "checkpoint_every")
        if every % settings[key]:
            expected = f"a divisor of evaluation.every, which is {every}: the best policy is taken from a checkpoint"
            raise mistake(file, ".".join(key), f"found {settings[key]}", expected)


def _check_evaluation(file: str, settings: Values, benchmarks: Sequence[str]) -> None:
    used = settings["evaluation", "benchmarks"]
    for name in used:
        if name not in benchmarks:
            raise unknown(file, "evaluation.benchmarks", "benchmark", name, benchmarks)
    chosen = settings["evaluation", "select_on"]
    if chosen not in used:
        raise unknown(file, "evaluation.select_on", "benchmark", chosen, used)
    final = below(settings, "evaluation", "final")
    for decoding in dict.fromkeys(path[0] for path in final):
        samples = {path[0] for path in below(final, decoding, "samples") if path}
        place = f"evaluation.final.{decoding}.samples"
        for name in sorted(samples - set(used)):
            raise unknown(file, place, "benchmark", name, used)
        for name in used:
            if samples and name not in samples:
                raise mistake(file, f"{place}.{name}", "is missing", "a number for each of evaluation.benchmarks")


def _check_cost(file: str, scale: Mapping[str, Any]) -> None:
    if len(scale["cost"]) != 1:
        found = "holds both" if scale["cost"] else "is empty"
        raise mistake(file, "cost", found, "either `measured` or `model`")
    for name, entry in scale["backbones"].items():
        if "model" in scale["cost"] and "cost" not in entry:
            raise mistake(file, f"backbones.{name}.cost", "is missing", "what cost.model needs of each backbone")


def _check_batches(file: str, problems: int, scale: Values, own: Values, backbone: str = "") -> None:
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
    if problems < merged[step]:
        expected = f"at most the number of training problems, which is {problems}"
        raise mistake(file, key(step), f"found {merged[step]}", expected)


def check_shown(file: str, selected: Sequence[Artefact], document: Mapping[str, Any]) -> None:
    """The scale's own choice of methods leaves every selected artefact something to show of the primary backbone."""
    for artefact in selected:
        listed = document["artefacts"][artefact.name].get("methods", {}).get("value", {}).get("primary")
        if listed and not artefact.methods["primary"]:
            expected = f"some of {', '.join(listed)}, or no {artefact.name} in the artefacts of {CONFIG}"
            raise mistake(file, "methods", f"leaves {artefact.name} nothing to show", expected)


def check_methods(document: Mapping[str, Any]) -> None:
    """A method of the family has both exponents or a schedule of them, any other none of the family's settings."""
    default = document["defaults"]["estimator"]["name"]["value"]
    for name, entry in document["methods"].items():
        own = entry.get("estimator", {})
        estimator = own.get("name", {}).get("value", default)
        extra = [key for key in own if key != "name"]
        if estimator != "family" and extra:
            key = f"methods.{name}.estimator.{extra[0]}"
            raise mistake(METHODS, key, f"is given, but the estimator is {estimator}", "it only with `family`")
        for key in ("beta_pos", "beta_neg"):
            if estimator == "family" and (key in own) == ("schedule" in own):
                found = "is given beside a schedule" if key in own else "is missing"
                expected = "an exponent of at least 0, or a `schedule` instead"
                raise mistake(METHODS, f"methods.{name}.estimator.{key}", found, expected)
        if "schedule" in own:
            _check_schedule(f"methods.{name}.estimator.schedule", own["schedule"])


def _check_schedule(key: str, schedule: Mapping[str, Any]) -> None:
    """What its name needs, and nothing else; a range is not empty."""
    name = schedule["name"]["value"]
    for needed in NEEDS[name]:
        if needed not in schedule:
            raise mistake(METHODS, f"{key}.{needed}", "is missing", f"it, because the schedule is {name}")
    for given in schedule:
        if given != "name" and given not in NEEDS[name]:
            expected = f"only name, {', '.join(NEEDS[name])}"
            raise mistake(METHODS, f"{key}.{given}", f"is given, but the schedule is {name}", expected)
    if "range" in schedule and schedule["range"]["value"][0] > schedule["range"]["value"][1]:
        raise mistake(METHODS, f"{key}.range.value", f"found {schedule['range']['value']}", "[smallest, largest]")


def check_benchmarks(document: Mapping[str, Any]) -> None:
    """A generator or a source; a generator knows how many numbers to use; a range is not empty; names are used once."""
    for name, entry in document["datasets"].items():
        if name in document["benchmarks"]:
            raise mistake(BENCHMARKS, f"datasets.{name}", "is a benchmark too", "a name of its own")
        _check_source(f"datasets.{name}", entry)
    for name, entry in document["benchmarks"].items():
        if ("generator" in entry) == ("source" in entry):
            problem = "has a generator and a source" if "source" in entry else "has no problems"
            raise mistake(BENCHMARKS, f"benchmarks.{name}", problem, "either `generator` or `source`")
        if "source" in entry:
            _check_source(f"benchmarks.{name}", entry)
            continue
        if "prompt" in entry:
            raise mistake(BENCHMARKS, f"benchmarks.{name}.prompt", "is given", "it only with `source`")
        generator = document["defaults"]["generator"]["value"] | entry["generator"]["value"]
        key = f"benchmarks.{name}.generator.value"
        if "numbers" not in generator:
            raise mistake(BENCHMARKS, f"{key}.numbers", "is missing", "how many numbers a problem has, 3 or 4")
        span = generator.get("one_number_from")
        if span and span[0] > span[1]:
            raise mistake(BENCHMARKS, f"{key}.one_number_from", f"found {span}", "[smallest, largest]")


def _check_source(key: str, entry: Mapping[str, Any]) -> None:
    """A problem's type of answer has one place: the setting, or with the reader olympiadbench the source's column."""
    content = entry["source"]["content"]["value"]
    if content["reader"] == "olympiadbench" and "answer_type" in content:
        where = f"{key}.source.content.value.answer_type"
        raise mistake(BENCHMARKS, where, "is given", "it only with the readers answer and boxed")
    if content["reader"] != "olympiadbench" and "answer_type" not in content:
        where = f"{key}.source.content.value.answer_type"
        raise mistake(BENCHMARKS, where, "is missing", "the type of every answer")


def check_artefacts(document: Mapping[str, Any], methods: Sequence[str], scale: Mapping[str, Any], file: str) -> None:
    """Every method and every decoding that an artefact shows exists."""
    for name, entry in document["artefacts"].items():
        for role, shown in entry.get("methods", {}).get("value", {}).items():
            for method in [] if shown == "all" else shown:
                if method not in methods:
                    raise unknown(ARTEFACTS, f"artefacts.{name}.methods.value.{role}", "method", method, methods)
        for other in entry.get("judges", ()):
            if other not in document["artefacts"] or "judges" in document["artefacts"][other]:
                known = [n for n, e in document["artefacts"].items() if "judges" not in e]
                raise unknown(ARTEFACTS, f"artefacts.{name}.judges", "artefact", other, known)
        for decoding in entry.get("decodings", ()):
            if decoding not in scale["evaluation"]["final"]:
                key = f"evaluation.final.{decoding}"
                raise mistake(file, key, "is missing", f"the decoding that {name} shows (decodings in {ARTEFACTS})")


def check_claims(document: Mapping[str, Any], methods: Sequence[str], artefacts: Sequence[str]) -> None:
    """Every method, window and figure of a claim exists; a statement has one form, and no other is the same."""
    for name, entry in document["windows"].items():
        for index, (start, end) in enumerate(entry["shares"]):
            if start >= end:
                key = f"windows.{name}.shares[{index}]"
                raise mistake(CLAIMS, key, f"found [{start}, {end}]", "[from, to], from < to")
    for name, claim in document["claims"].items():
        if claim["figure"] not in artefacts:
            raise unknown(CLAIMS, f"claims.{name}.figure", "artefact", claim["figure"], artefacts)
        seen: dict[tuple[str, ...], str] = {}
        for index, statement in enumerate(claim["statements"]):
            key = f"claims.{name}.statements[{index}]"
            _check_statement(key, statement, methods, list(document["windows"]))
            for same in _asked(statement):
                if same in seen:
                    raise mistake(CLAIMS, key, f"asks again what {seen[same]} asks", "each question once")
                seen[same] = key


# Quantities that are measured in one window only.
_OWN_WINDOWS = {"final_average": "final", "alpha": "alpha-steps"}


def _check_statement(key: str, statement: Mapping[str, Any], methods: Sequence[str], windows: Sequence[str]) -> None:
    quantity, window = statement["quantity"], statement["window"]
    for role in ("of", "minus", "chain"):
        for method in statement.get(role, ()):
            if method not in methods:
                raise unknown(CLAIMS, f"{key}.{role}", "method", method, methods)
    if ("chain" in statement) == ("of" in statement):
        found = "is given beside chain" if "of" in statement else "is missing"
        raise mistake(CLAIMS, f"{key}.of", found, "either `of` (and `minus`) or `chain`")
    if "chain" in statement and "minus" in statement:
        raise mistake(CLAIMS, f"{key}.minus", "is given beside chain", "either `of` (and `minus`) or `chain`")
    if quantity in _OWN_WINDOWS:
        if window != _OWN_WINDOWS[quantity]:
            raise mistake(CLAIMS, f"{key}.window", f"found {window!r} for {quantity}", _OWN_WINDOWS[quantity])
    elif window not in windows:
        raise unknown(CLAIMS, f"{key}.window", "window", window, windows)
    if quantity == "final_average" and "minus" not in statement and "chain" not in statement:
        raise mistake(CLAIMS, f"{key}.minus", "is missing", "it, because a final average is only compared")
    if statement["direction"] == "within" and statement.get("threshold", 0) <= 0:
        raise mistake(CLAIMS, f"{key}.threshold", f"found {statement.get('threshold', 0)}", "a margin above 0")


def _asked(statement: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """Quantity, role of the backbone and contrast of everything that a statement asks."""
    chain = statement.get("chain", ())
    contrasts = [(after, before) for before, after in pairwise(chain)]
    contrasts += [(of, minus) for of in statement.get("of", ()) for minus in statement.get("minus", ("",))]
    return [(statement["quantity"], role, *contrast) for role in statement["backbones"] for contrast in contrasts]
