"""From the files in config/ to a :class:`Study`, or to one clear error."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from asymgrpo.config import checks
from asymgrpo.config.errors import ConfigError, mistake, unknown
from asymgrpo.config.files import Schemas, parse, read
from asymgrpo.config.settings import Key, Setting, Settings, below, flatten, under, values
from asymgrpo.config.study import Artefact, Backbone, Benchmark, Method, Study

CONFIG = Path("config")
COMMAND_LINE = "--config"
OVERRIDES = ("scale", "seeds", "artefacts")


def load(root: str | Path = ".", overrides: Mapping[str, Any] | None = None) -> Study:
    """The study that the files in `root`/config describe.

    `overrides` is what `snakemake --config` gives: any of scale, seeds, artefacts, also as text ("[1, 2]", "1").
    Raises ConfigError, naming file, key and expectation, for anything that is missing, misspelt or contradictory.
    """
    root, schemas = Path(root), Schemas(Path(root))
    chosen, blame = _selection(root, schemas, overrides or {})
    scale_file = _scale_file(root, chosen["scale"], blame["scale"])
    scale = _read(root, schemas, scale_file, "scale")
    methods = _read(root, schemas, CONFIG / "methods.yaml", "methods")
    benchmarks = _read(root, schemas, CONFIG / "benchmarks.yaml", "benchmarks")
    artefacts = _read(root, schemas, CONFIG / "artefacts.yaml", "artefacts")
    claims = _read(root, schemas, CONFIG / "claims.yaml", "claims")
    for name in chosen["artefacts"]:
        if name not in artefacts["artefacts"]:
            raise unknown(blame["artefacts"], "artefacts", "artefact", name, artefacts["artefacts"])

    checks.check_scale(scale_file.as_posix(), scale, benchmarks, list(methods["methods"]))
    checks.check_methods(methods)
    checks.check_benchmarks(benchmarks)
    checks.check_artefacts(artefacts, list(methods["methods"]), scale, scale_file.as_posix())
    checks.check_claims(claims, list(methods["methods"]), list(artefacts["artefacts"]))

    settings = flatten({key: scale[key] for key in scale if key not in ("backbones", "grid", "cost")})
    if chosen["seeds"] is not None:
        stated = settings["seeds",]
        settings["seeds",] = Setting(chosen["seeds"], stated.provenance, stated.note)
    grid = flatten(scale.get("grid") or methods["grid"])
    every_method = _methods(methods)
    kept = settings["methods",].value if ("methods",) in settings else list(every_method)
    named = {name: method for name, method in every_method.items() if name in kept}
    backbones = {name: _backbone(name, entry) for name, entry in scale["backbones"].items()}
    primary = next(iter(backbones.values()))
    loss = below(settings, "training", "loss") | below(primary.settings, "training", "loss")
    cells, grid_methods = _grid(grid, every_method, methods["defaults"], loss)
    shown = {name: _artefact(name, entry, named) for name, entry in artefacts["artefacts"].items()}
    shown |= {name: _judging(artefact, shown) for name, artefact in shown.items() if artefact.judges}
    checks.check_shown(scale_file.as_posix(), [shown[name] for name in chosen["artefacts"]], artefacts)
    return Study(
        root=root,
        scale=chosen["scale"],
        seeds=tuple(settings["seeds",].value),
        backbones=MappingProxyType(backbones),
        methods=MappingProxyType(named | grid_methods),
        every_method=MappingProxyType(every_method | grid_methods),
        benchmarks=MappingProxyType(_benchmarks(benchmarks, settings)),
        datasets=MappingProxyType(
            {name: _fetched(name, entry, benchmarks["defaults"]) for name, entry in benchmarks["datasets"].items()}
        ),
        artefacts=tuple(chosen["artefacts"]),
        every_artefact=MappingProxyType(shown),
        claims=MappingProxyType(claims),
        cells=MappingProxyType({cell: name for cell, name in cells.items() if name in named or name in grid_methods}),
        scale_settings=MappingProxyType(settings),
        grid_settings=MappingProxyType(grid),
        cost=MappingProxyType(flatten(scale["cost"])),
    )


def _read(root: Path, schemas: Schemas, file: Path, schema: str) -> dict[str, Any]:
    data = read(root, file)
    schemas.check(data, schema, file.as_posix())
    return data


def _selection(root: Path, schemas: Schemas, overrides: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """Scale, seeds and artefacts, and for each the place that is to blame if it turns out to be wrong."""
    file = CONFIG / "config.yaml"
    written = _read(root, schemas, file, "config")
    given = _overrides(overrides)
    schemas.check(written | given, "config", COMMAND_LINE)
    chosen = {"seeds": None} | written | given
    blame = {
        key: COMMAND_LINE if key in given and given[key] != written.get(key) else file.as_posix() for key in OVERRIDES
    }
    return chosen, blame


def _overrides(overrides: Mapping[str, Any]) -> dict[str, Any]:
    for key in overrides:
        if key not in OVERRIDES:
            expected = f"one of {', '.join(OVERRIDES)}; everything else is set in a file in config/scales/"
            raise mistake(COMMAND_LINE, str(key), "cannot be set on the command line", expected)
    given = {key: value for key, value in overrides.items() if value is not None}
    return {key: value if key == "scale" else _as_list(key, value) for key, value in given.items()}


def _as_list(key: str, value: Any) -> Any:
    """`[1, 2]`, `"[1, 2]"`, `"1,2"`, `"1"` and `1` are all lists on a command line."""
    if isinstance(value, str):
        text = value.strip()
        try:
            value = parse(text if text.startswith("[") else f"[{text}]", COMMAND_LINE)
        except ConfigError:
            return value  # the schema says what is wrong with it
    values = list(value) if isinstance(value, list | tuple) else [value]
    # of a list on its command line Snakemake makes texts
    return [int(v) if key == "seeds" and isinstance(v, str) and v.strip().isdecimal() else v for v in values]


def _scale_file(root: Path, scale: str, blame: str) -> Path:
    known = sorted(path.stem for path in (root / CONFIG / "scales").glob("*.yaml"))
    if scale not in known:
        raise unknown(blame, "scale", "scale", scale, known)
    return CONFIG / "scales" / f"{scale}.yaml"


def _backbone(name: str, entry: Mapping[str, Any]) -> Backbone:
    return Backbone(
        name=name,
        label=entry["label"],
        stands_for=entry["stands_for"],
        settings=MappingProxyType(flatten({key: entry[key] for key in entry if key != "cost"})),
        cost=MappingProxyType(flatten(entry.get("cost", {}))),
    )


def _methods(document: Mapping[str, Any]) -> dict[str, Method]:
    return {
        name: Method(
            name=name,
            label=entry["label"],
            math=entry.get("math") or entry["label"],
            colour_group=entry["colour_group"],
            paper_row=entry.get("paper_row"),
            own=entry.get("own", False),
            entropy_bonus=entry.get("entropy_bonus", False),
            grid_cell=False,
            settings=MappingProxyType(_method_settings(document["defaults"], flatten(entry))),
        )
        for name, entry in document["methods"].items()
    }


def _method_settings(defaults: Mapping[str, Any], own: Settings) -> dict[Key, Setting]:
    """A method's settings over the defaults; an estimator outside the family has only its name."""
    merged = {**flatten(defaults), **own}
    for path in merged:
        if path[0] == "estimator" and path[-1] in ("beta_pos", "beta_neg"):
            merged[path] = replace(merged[path], value=float(merged[path].value))
    if merged["estimator", "name"].value == "family":
        return merged
    return {path: setting for path, setting in merged.items() if path[0] != "estimator" or path[1] == "name"}


def _grid(
    grid: Settings, named: Mapping[str, Method], defaults: Mapping[str, Any], loss: Settings
) -> tuple[dict[tuple[float, float], str], dict[str, Method]]:
    """The grid's cells, and the methods made for those that are none of the named ones."""
    cells, made = {}, {}
    for beta_pos in grid["beta_pos",].value:
        for beta_neg in grid["beta_neg",].value:
            own: dict[Key, Setting] = {
                ("estimator", key): Setting(beta, grid[key,].provenance, grid[key,].note)
                for key, beta in (("beta_pos", beta_pos), ("beta_neg", beta_neg))
            }
            settings = _method_settings(defaults, own)
            match = next((m.name for m in named.values() if _same(m, settings, loss)), None)
            if match is None:
                match = f"grid-{beta_pos:g}-{beta_neg:g}"
                made[match] = _cell(match, beta_pos, beta_neg, settings)
            cells[float(beta_pos), float(beta_neg)] = match
    return cells, made


def _same(method: Method, settings: Settings, loss: Settings) -> bool:
    """Whether a named method trains exactly as the settings of a cell do."""
    whole = under("loss", loss)
    return not method.entropy_bonus and values({**whole, **method.settings}) == values({**whole, **settings})


def _cell(name: str, beta_pos: float, beta_neg: float, settings: Settings) -> Method:
    return Method(
        name=name,
        label=f"AsymGRPO ({beta_pos:g}, {beta_neg:g})",
        math=rf"$\beta_+={beta_pos:g},\ \beta_-={beta_neg:g}$",
        colour_group="grid",
        paper_row=None,
        own=False,
        entropy_bonus=False,
        grid_cell=True,
        settings=MappingProxyType(dict(settings)),
    )


def _benchmarks(document: Mapping[str, Any], scale: Settings) -> dict[str, Benchmark]:
    return {
        name: _benchmark(name, document["benchmarks"][name], document["defaults"], scale)
        for name in scale["evaluation", "benchmarks"].value
    }


def _benchmark(name: str, entry: Mapping[str, Any], defaults: Mapping[str, Any], scale: Settings) -> Benchmark:
    limit = scale.get(("evaluation", "max_problems"))
    if "source" in entry:
        return _fetched(name, entry, defaults, limit)
    sources = {**below(flatten(defaults), "generator"), **below(flatten(entry), "generator")}
    if limit is not None and limit.value < sources["problems",].value:
        sources["problems",] = limit
    return Benchmark(name, entry["label"], entry.get("stands_for"), MappingProxyType(sources))


def _fetched(
    name: str, entry: Mapping[str, Any], defaults: Mapping[str, Any], limit: Setting | None = None
) -> Benchmark:
    """Problems from a repository. How many it must have stays asserted when a scale uses fewer of them."""
    sources = {**below(flatten(entry), "source"), ("prompt",): flatten({**defaults, **entry})["prompt",]}
    if limit is not None and limit.value < sources["problems",].value:
        sources["max_problems",] = limit
    return Benchmark(name, entry["label"], entry.get("stands_for"), MappingProxyType(sources))


def _artefact(name: str, entry: Mapping[str, Any], methods: Collection[str]) -> Artefact:
    """An artefact with those of its methods that the scale runs."""
    lists = entry.get("methods")
    return Artefact(
        name=name,
        title=entry["title"],
        methods=MappingProxyType(
            {
                role: tuple(methods if names == "all" else (name for name in names if name in methods))
                for role, names in lists["value"].items()
            }
            if lists
            else {}
        ),
        methods_source=Setting(lists["value"], lists["provenance"], lists.get("note", "")) if lists else None,
        grid=entry.get("grid", False),
        decodings=tuple(entry.get("decodings", ())),
        judges=tuple(entry.get("judges", ())),
        sources=MappingProxyType(flatten(entry.get("settings", {}))),
    )


def _judging(artefact: Artefact, shown: Mapping[str, Artefact]) -> Artefact:
    """An artefact with the methods of those that it judges, without the grid."""
    methods = {
        role: tuple(dict.fromkeys(name for other in artefact.judges for name in shown[other].methods.get(role, ())))
        for role in ("primary", "second", "others")
    }
    return replace(artefact, methods=MappingProxyType(methods))
