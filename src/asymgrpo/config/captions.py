"""What a caption must admit: the settings behind an artefact that the paper does not state."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from asymgrpo.config.settings import Key, Setting

if TYPE_CHECKING:
    from asymgrpo.config.study import Artefact, Backbone, Method, Study

# Where the last key of a path, underscores as spaces, would not be understood.
_TITLES = {
    "beta_pos": "beta+",
    "beta_neg": "beta-",
    "beta1": "AdamW beta1",
    "beta2": "AdamW beta2",
    "weight_decay": "AdamW weight decay",
    "max_gradient_norm": "gradient clipping norm",
    "clip_low": "lower clip",
    "clip_high": "upper clip",
    "dual_clip": "dual clip",
    "epochs": "PPO epochs",
    "temperature": "sampling temperature",
    "ema_factor": "EMA factor",
    "betas": "beta shown",
    "sampler": "sampling engine",
    "alpha_steps": "steps in alpha's mean",
}


def assumed(study: Study, artefact: Artefact) -> list[str]:
    """Fragments such as "EMA factor = 0.9 (assumed)": the artefact's own first, then its methods', then the scale's."""
    methods = _methods(study, artefact)
    found = [f"{_title(path)} = {_show(setting.value)}" for path, setting in artefact.sources.items() if _is(setting)]
    if artefact.methods_source is not None and _is(artefact.methods_source):
        found.append(f"choice of methods: {', '.join(method.label for method in methods)}")
    if artefact.grid and any(map(_is, study.grid_settings.values())):
        axes = (f"{_title(path)} in {{{_show(s.value)}}}" for path, s in study.grid_settings.items())
        found.append(f"grid of {' and '.join(axes)}")
    found += _of_methods(methods)
    if methods:
        found += _of_scale(study, artefact, methods)
        found += _of_named(study, artefact, methods)
    return [f"{fragment} (assumed)" for fragment in dict.fromkeys(found)]


def _is(setting: Setting) -> bool:
    return setting.provenance == "assumed"


def _methods(study: Study, artefact: Artefact) -> list[Method]:
    """The named methods that the artefact needs; the grid's own cells are told as a grid."""
    names = dict.fromkeys(run.method for run in study.runs(artefact.name))
    return [study.methods[name] for name in names if not study.methods[name].grid_cell]


def _of_methods(methods: list[Method]) -> Iterator[str]:
    """Methods' own assumed settings, those with the same setting told together."""
    labels: dict[tuple[str, str], list[str]] = {}
    for method in methods:
        titles: dict[str, list[str]] = {}
        for path, setting in method.settings.items():
            if _is(setting):
                titles.setdefault(_show(setting.value), []).append(_title(path))
        for value, keys in titles.items():
            labels.setdefault((" and ".join(keys), value), []).append(method.label)
    for (title, value), names in labels.items():
        yield f"{title} of {_listed(names)} = {value}"


def _of_scale(study: Study, artefact: Artefact, methods: list[Method]) -> Iterator[str]:
    """The scale's assumed settings, without those that only other methods, decodings or backbones use."""
    shown = _backbones(study, artefact)
    for path, setting in study.scale_settings.items():
        unread = path[:2] == ("evaluation", "final") and path[2] not in artefact.decodings
        replaced = all(path in backbone.settings for backbone in shown)
        if _is(setting) and not unread and not replaced and not _unused(path, methods):
            yield f"{_title(path)} = {_show(setting.value)}"


def _of_named(study: Study, artefact: Artefact, methods: list[Method]) -> Iterator[str]:
    """Assumed settings of the backbones that the artefact shows, and of the benchmarks."""
    named = [(b.label, b.settings) for b in _backbones(study, artefact)]
    named += [(b.label, b.sources) for b in study.benchmarks.values()]
    labels: dict[tuple[str, str], list[str]] = {}
    for label, settings in named:
        for path, setting in settings.items():
            if _is(setting) and not _unused(path, methods):
                labels.setdefault((_title(path), _show(setting.value)), []).append(label)
    for (title, value), same in labels.items():
        yield f"{title} of {_listed(same)} = {value}"


def _backbones(study: Study, artefact: Artefact) -> list[Backbone]:
    """Those that the artefact shows."""
    return [b for b in study.backbones.values() if study.methods_of(artefact.name, b.name)]


def _unused(path: Key, methods: list[Method]) -> bool:
    return path == ("training", "entropy_coefficient") and not any(method.entropy_bonus for method in methods)


def _title(path: Key) -> str:
    title = _TITLES.get(path[-1], path[-1].replace("_", " "))
    if path[:2] == ("warm_start", "shares"):
        title = f"share of {path[2]} numbers"
    if path[0] == "warm_start":
        return f"warm start's {title}"
    return f"{title} of {path[2]}" if path[:2] == ("evaluation", "final") else title


def _show(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(_show, value))
    if value is None:
        return "not fixed"
    return f"{value:g}" if isinstance(value, float) else str(value).replace("\n", "\\n")


def _listed(names: list[str]) -> str:
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))
