"""What is to be run and shown, resolved and checked: plain data, with the names of every run and file in one place."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from asymgrpo.config.errors import mistake, unknown
from asymgrpo.config.settings import Key, Setting, Settings, below, under, values

ARTEFACTS = ("fig1", "fig2", "fig3", "fig4", "prop1", "prop2", "table1", "table2")
BASE = "base"  # the untrained policy, where a method's name stands in a path


class Run(NamedTuple):
    """One training run of a scale."""

    backbone: str
    method: str
    seed: int


@dataclass(frozen=True, eq=False)
class Backbone:
    """A start policy; `stands_for` is the paper's model whose place it takes."""

    name: str
    label: str
    stands_for: str
    settings: Settings  # paths below backbones.<name>; those below `training` go before the scale's

    @property
    def policy(self) -> dict[str, Any]:
        """Sizes of the policy: hidden_size, layers, heads, kv_heads, head_dim, intermediate_size, rope_theta."""
        return values(below(self.settings, "policy"))


@dataclass(frozen=True, eq=False)
class Method:
    """An advantage estimator and its changes to the loss."""

    name: str
    label: str  # plain text
    math: str  # mathtext, or the label again
    colour_group: str
    paper_row: str | None  # in config/reported/table2.csv
    own: bool  # an ablation of this project, not in the paper
    entropy_bonus: bool
    grid_cell: bool  # made from the grid of Fig. 4(d), not named in methods.yaml
    settings: Settings  # ("estimator", ...) and ("loss", ...)

    @property
    def estimator(self) -> dict[str, Any]:
        """As in a run's spec: name, and for the family beta_pos, beta_neg, flip, all_solved_zero, none_solved_zero."""
        return values(below(self.settings, "estimator"))

    @property
    def beta_pos(self) -> float | None:
        """Exponent of the positive channel; None outside the family."""
        return self.estimator.get("beta_pos")

    @property
    def beta_neg(self) -> float | None:
        """Exponent of the negative channel; None outside the family."""
        return self.estimator.get("beta_neg")


@dataclass(frozen=True, eq=False)
class Benchmark:
    """A set of problems; `stands_for` is the paper's benchmark whose role it has, if any."""

    name: str
    label: str
    stands_for: str | None
    sources: Settings  # with provenance

    @property
    def settings(self) -> dict[str, Any]:
        """What the problems are made with: task, numbers, problems, seed, and the filters."""
        return values(self.sources)


@dataclass(frozen=True, eq=False)
class Artefact:
    """A figure or table and what it shows."""

    name: str
    title: str
    methods: Mapping[str, tuple[str, ...]]  # by the role of the backbone: primary, second, others
    methods_source: Setting | None
    grid: bool  # shows the grid of Fig. 4(d) as well
    decodings: tuple[str, ...]  # of the final evaluation, that it reads
    sources: Settings  # its own settings, with provenance

    @property
    def settings(self) -> dict[str, Any]:
        """Values of what is drawn, such as ema_factor, alpha_steps, betas."""
        return values(self.sources)


@dataclass(frozen=True, eq=False)
class Study:
    """The whole configuration, resolved for one scale. Made by :func:`asymgrpo.config.load`; never changed.

    Every path begins with `root` as it was given, so with the default root it is relative to the repository.
    """

    root: Path
    scale: str
    seeds: tuple[int, ...]
    backbones: Mapping[str, Backbone]  # the first is the primary one
    methods: Mapping[str, Method]  # those of methods.yaml, then the grid's
    benchmarks: Mapping[str, Benchmark]  # those that the scale uses, in its order
    artefacts: tuple[str, ...]  # those that config.yaml selects
    every_artefact: Mapping[str, Artefact]
    cells: Mapping[tuple[float, float], str]  # the grid: (beta_pos, beta_neg) -> method
    scale_settings: Settings  # everything the scale's file sets, with provenance
    grid_settings: Settings  # beta_pos and beta_neg of the grid, with provenance

    # What is run

    @property
    def settings(self) -> dict[str, Any]:
        """The scale's settings, nested as in its file, values only."""
        return values(self.scale_settings)

    @property
    def backend(self) -> str:
        """What trains: "torch"."""
        return self.scale_settings["backend",].value

    @property
    def primary(self) -> str:
        """The backbone that has every method."""
        return next(iter(self.backbones))

    def runs(self, *artefacts: str) -> list[Run]:
        """The runs that these artefacts need (default: those selected), each once: by backbone, method, then seed."""
        shown = [self.artefact(name) for name in artefacts or self.artefacts]
        return [
            Run(backbone, method, seed)
            for backbone in self.backbones
            for method in self._needed(shown, backbone)
            for seed in self.seeds
        ]

    def _needed(self, shown: Iterable[Artefact], backbone: str) -> dict[str, None]:
        names = [method for artefact in shown for method in self.methods_of(artefact.name, backbone)]
        if backbone == self.primary and any(artefact.grid for artefact in shown):
            names += self.cells.values()
        return dict.fromkeys(names)

    def methods_of(self, artefact: str, backbone: str) -> list[str]:
        """The methods that an artefact shows of a backbone, in its order (for Fig. 4 without the grid's)."""
        position = list(self.backbones).index(self._known_backbone(backbone))
        role = ("primary", "second")[position] if position < 2 else "others"
        return list(self.artefact(artefact).methods.get(role, ()))

    def grid(self) -> dict[tuple[float, float], str]:
        """Fig. 4(d) on the primary backbone: (beta_pos, beta_neg) -> method, row by row of beta_pos."""
        return dict(self.cells)

    def artefact(self, name: str) -> Artefact:
        """An artefact by its name, whether it is selected or not; ConfigError if there is none."""
        if name not in self.every_artefact:
            raise unknown("config/artefacts.yaml", "artefacts", "artefact", name, self.every_artefact)
        return self.every_artefact[name]

    # What a run is given

    def spec(self, run: Run) -> dict[str, Any]:
        """Everything in the configuration that determines a run's result, nothing else, as nested plain values."""
        identity = {"scale": self.scale, "backbone": run.backbone, "method": run.method}
        return identity | values(self._run_settings(run))

    def provenance(self, run: Run) -> dict[str, dict[str, Any]]:
        """Dotted key -> value, provenance and note of every setting in `spec(run)`; scale and names are no settings."""
        return {
            ".".join(path): {"value": setting.value, "provenance": setting.provenance, "note": setting.note}
            for path, setting in self._run_settings(run).items()
        }

    def _run_settings(self, run: Run) -> dict[Key, Setting]:
        """The settings of a run at their places in its spec."""
        self._known_backbone(run.backbone)
        if run.seed < 1:
            raise mistake(
                "", f"seed {run.seed} of {run.backbone}/{run.method}", "is no seed", "an integer of at least 1"
            )
        scale, method = self.scale_settings, self._known_method(run.method)
        start = scale["warm_start_seeds",]
        found: dict[Key, Setting] = {
            ("seed",): self._with_value("seeds", run.seed),
            ("warm_start_seed",): Setting(self.warm_start_seed(run.seed), start.provenance, start.note),
        }
        found |= {key: scale[key] for key in (("backend",), ("device",), ("threads",))}
        training = self._training(run.backbone)
        found |= under("estimator", below(method.settings, "estimator"))
        found |= under("loss", _loss(training, method))
        found |= {path: s for path, s in training.items() if path[0] not in ("loss", "entropy_coefficient")}
        found |= {("evaluation", key): scale["evaluation", key] for key in ("every", "benchmarks", "select_on")}
        return found

    def _training(self, backbone: str) -> dict[Key, Setting]:
        """The scale's `training`, with what the backbone says instead."""
        return below(self.scale_settings, "training") | below(self.backbones[backbone].settings, "training")

    def _with_value(self, key: str, value: Any) -> Setting:
        source = self.scale_settings[key,]
        return Setting(value, source.provenance, source.note)

    def warm_start_seed(self, run_seed: int) -> int:
        """Which warm start a run begins from: run seeds take them in turn."""
        return (run_seed - 1) % self.scale_settings["warm_start_seeds",].value + 1

    def warm_starts(self) -> list[tuple[str, int]]:
        """(backbone, warm start seed) of every warm start that some run of this study may begin from."""
        seeds = sorted({self.warm_start_seed(seed) for seed in self.seeds})
        return [(backbone, seed) for backbone in self.backbones for seed in seeds]

    def warm_start(self, backbone: str, seed: int) -> dict[str, Any]:
        """Everything in the configuration that determines a warm start, as nested plain values."""
        settings = below(self.scale_settings, "warm_start") | {
            key: self.scale_settings[key] for key in (("device",), ("threads",))
        }
        policy = self.backbones[self._known_backbone(backbone)].policy
        return {"scale": self.scale, "backbone": backbone, "seed": seed, "policy": policy} | values(settings)

    def assumed(self, artefact: str) -> list[str]:
        """For a caption: every setting that the artefact depends on and that nobody has stated, with its value."""
        from asymgrpo.config.captions import assumed

        return assumed(self, self.artefact(artefact))

    # Where everything is

    def runs_dir(self, run: Run) -> Path:
        """The directory of a run."""
        return self._results("runs", run.backbone, run.method, f"seed-{run.seed}")

    def policy_dir(self, run: Run, which: str) -> Path:
        """The trained policy: `which` is "last" or "best"."""
        return self.runs_dir(run) / "policy" / which

    def work_dir(self, run: Run) -> Path:
        """Where a run keeps what it needs to resume; outside every declared output."""
        return self._results("work", run.backbone, run.method, f"seed-{run.seed}")

    def warm_start_dir(self, backbone: str, seed: int) -> Path:
        """A backbone before reinforcement learning."""
        return self._results("warm-start", backbone, f"seed-{seed}")

    def evaluation_dir(self, run: Run) -> Path:
        """The final evaluation of a run."""
        return self._results("evaluation", run.backbone, run.method, f"seed-{run.seed}")

    def base_evaluation_dir(self, backbone: str, seed: int) -> Path:
        """The final evaluation of the untrained policy of a warm start seed."""
        return self._results("evaluation", backbone, BASE, f"seed-{seed}")

    def benchmark_file(self, name: str) -> Path:
        """The problems of a benchmark."""
        return self._results("data", "benchmarks", f"{name}.parquet")

    def train_file(self) -> Path:
        """The problems that policies are trained on."""
        return self._results("data", "train.parquet")

    def figure_stem(self, name: str) -> Path:
        """A figure's path without its ending (.pdf, .png, .csv, .md)."""
        return self.root / "figures" / self.scale / name

    def table_stem(self, name: str) -> Path:
        """A table's path without its ending (.csv, .md, .tex)."""
        return self._results("tables", name)

    def _results(self, *parts: str) -> Path:
        return self.root.joinpath("results", self.scale, *parts)

    def _known_backbone(self, name: str) -> str:
        if name not in self.backbones:
            raise unknown(f"config/scales/{self.scale}.yaml", "backbones", "backbone", name, self.backbones)
        return name

    def _known_method(self, name: str) -> Method:
        if name not in self.methods:
            raise unknown("config/methods.yaml", "methods", "method", name, self.methods)
        return self.methods[name]


def _loss(training: Settings, method: Method) -> dict[Key, Setting]:
    """A method's own settings of the loss go before the backbone's and the scale's."""
    loss = below(training, "loss") | below(method.settings, "loss")
    if method.entropy_bonus:
        loss["entropy_coefficient",] = training["entropy_coefficient",]
    return loss
