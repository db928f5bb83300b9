"""What is to be run and shown, resolved and checked: plain data, with the names of every run and file in one place."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from asymgrpo.config.errors import mistake, unknown
from asymgrpo.config.settings import Key, Setting, Settings, below, under, values

ARTEFACTS = (
    "fig1",
    "fig2",
    "fig3",
    "fig4",
    "prop1",
    "prop2",
    "pressure",
    "endpoints",
    "coverage",
    "schedules",
    "table1",
    "table2",
    "evaluation",
    "reported",
    "selection",
    "audit",
    "claims",
)
BASE = "base"  # the untrained policy, where a method's name stands in a path
REFERENCES = ("grpo", "reinforce")  # what the page of any other method compares it with


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
    settings: Settings  # paths below backbones.<name>; those below `training` and `verl` go before the scale's
    cost: Settings  # what the plan's model of costs needs to know

    @property
    def fetched(self) -> bool:
        """Whether it is a model from the hub; otherwise it is warm-started."""
        return ("model", "repository") in self.settings

    @property
    def policy(self) -> dict[str, Any]:
        """Sizes of the policy: hidden_size, layers, heads, kv_heads, head_dim, intermediate_size, rope_theta.

        Empty for a fetched model.
        """
        return values(below(self.settings, "policy"))

    @property
    def model(self) -> dict[str, Any]:
        """A fetched model: repository, revision (None: not pinned), licence, template (arguments of its chat template).

        Empty for a warm-started policy.
        """
        return {"template": {}} | values(below(self.settings, "model")) if self.fetched else {}

    @property
    def start(self) -> dict[str, Any]:
        """As in a run's spec: of :attr:`model`, what decides what is trained."""
        return {key: value for key, value in self.model.items() if key != "licence"}


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
        """As in a run's spec: name, and for the family flip, all_solved_zero, none_solved_zero and either beta_pos and
        beta_neg or their schedule."""
        return values(below(self.settings, "estimator"))

    @property
    def beta_pos(self) -> float | None:
        """Exponent of the positive channel; None outside the family and for a schedule."""
        return self.estimator.get("beta_pos")

    @property
    def beta_neg(self) -> float | None:
        """Exponent of the negative channel; None outside the family and for a schedule."""
        return self.estimator.get("beta_neg")


@dataclass(frozen=True, eq=False)
class Benchmark:
    """A set of problems, to be evaluated or trained on; `stands_for` is the paper's whose role it has, if any."""

    name: str
    label: str
    stands_for: str | None
    sources: Settings  # with provenance

    @property
    def settings(self) -> dict[str, Any]:
        """Where the problems are from.

        Generated: task, numbers, problems, seed, and the filters. Fetched: repository, revision, content, problems (how
        many it has), licence, prompt, and if need be corrections and max_problems (how many of them are used).
        """
        return values(self.sources)

    @property
    def fetched(self) -> bool:
        """Whether its problems come from a repository of the hub."""
        return ("repository",) in self.sources


@dataclass(frozen=True, eq=False)
class Artefact:
    """A figure or table and what it shows."""

    name: str
    title: str
    methods: Mapping[str, tuple[str, ...]]  # by the role of the backbone: primary, second, others
    methods_source: Setting | None
    grid: bool  # shows the grid of Fig. 4(d) as well
    decodings: tuple[str, ...]  # of the final evaluation, that it reads
    judges: tuple[str, ...]  # other artefacts, whose runs and evaluations it reads
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
    methods: Mapping[str, Method]  # those of methods.yaml that the scale runs, then the grid's
    every_method: Mapping[str, Method]  # all of methods.yaml, then the grid's: what can be run by its name
    benchmarks: Mapping[str, Benchmark]  # those that the scale uses, in its order
    datasets: Mapping[str, Benchmark]  # what can be trained on beside generated problems
    artefacts: tuple[str, ...]  # those that config.yaml selects
    every_artefact: Mapping[str, Artefact]
    claims: Mapping[str, Any]  # config/claims.yaml as it is, checked
    cells: Mapping[tuple[float, float], str]  # the grid: (beta_pos, beta_neg) -> method
    scale_settings: Settings  # everything the scale's file sets, with provenance
    grid_settings: Settings  # beta_pos and beta_neg of the grid, with provenance
    cost: Settings  # constants of `asymgrpo plan`, below `measured` or below `model`

    # What is run

    @property
    def settings(self) -> dict[str, Any]:
        """The scale's settings, nested as in its file, values only."""
        return values(self.scale_settings)

    @property
    def backend(self) -> str:
        """What trains: "torch" or "verl"."""
        return self.scale_settings["backend",].value

    @property
    def gpus(self) -> int:
        """GPUs that a run asks for: verl's, on all nodes; 0 on a CPU, and for the torch backend."""
        if self.backend != "verl" or self.scale_settings["device",].value == "cpu":
            return 0
        return self._verl_value("trainer.nnodes") * self._verl_value("trainer.n_gpus_per_node")

    @property
    def environment(self) -> str:
        """The environment of envs/ that trains and samples policies: one of those with verl and vLLM, or local."""
        if self.backend != "verl" and self.scale_settings["sampler",].value != "vllm":
            return "local"
        return "verl-cpu" if self.scale_settings["device",].value == "cpu" else "verl"

    @property
    def nodes(self) -> int:
        """Of a cluster, that the GPUs of a run are on, as many on each."""
        return self._verl_value("trainer.nnodes") if self.gpus else 1

    @property
    def sampling_gpus(self) -> int:
        """GPUs of a job of the final evaluation: one, unless vLLM's engine is told to use several; 0 without any."""
        if self.scale_settings["sampler",].value != "vllm" or self.scale_settings["device",].value == "cpu":
            return 0
        engine = self.settings.get("sampler_settings", {})
        return engine.get("tensor_parallel_size", 1) * engine.get("pipeline_parallel_size", 1)

    @property
    def sampling_threads(self) -> int:
        """Its cores. Beside a GPU few are busy: one with vLLM's engine, some with reading weights when it starts."""
        threads = self.scale_settings["threads",].value
        return min(threads, 8) if self.sampling_gpus else threads

    def _verl_value(self, key: str) -> int:
        return self.scale_settings["verl", key].value

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

    def ablation(self, method: str) -> list[Run]:
        """The runs of one method's page: its own, then those of the methods it is compared with; primary backbone only.

        Any method can be asked for, also one that the scale does not run otherwise.
        """
        names = dict.fromkeys([self._known_method(method).name, *REFERENCES])
        return [Run(self.primary, name, seed) for name in names for seed in self.seeds]

    def artefact(self, name: str) -> Artefact:
        """An artefact by its name, whether it is selected or not; ConfigError if there is none."""
        if name not in self.every_artefact:
            raise unknown("config/artefacts.yaml", "artefacts", "artefact", name, self.every_artefact)
        return self.every_artefact[name]

    @property
    def train_dataset(self) -> Benchmark | None:
        """What is trained on, if it comes from a repository; None: `data.train` says how problems are generated."""
        name = self.scale_settings.get(("data", "train", "dataset"))
        return None if name is None else self.datasets[name.value]

    @property
    def train_problems(self) -> dict[str, Any]:
        """The settings of the problems that are trained on: how they are generated, or what is fetched."""
        return self.train_dataset.settings if self.train_dataset else self.settings["data"]["train"]

    def fetched_problems(self) -> dict[str, Benchmark]:
        """Every set of problems of the scale that comes from a repository, by name: what is trained on comes first."""
        used = [self.train_dataset, *self.benchmarks.values()]
        return {problems.name: problems for problems in used if problems is not None and problems.fetched}

    # What a run is given

    def spec(self, run: Run) -> dict[str, Any]:
        """Everything in the configuration that determines a run's result, nothing else, as nested plain values."""
        settings = values(self._run_settings(run))
        identity = {"scale": self.scale, "backbone": run.backbone, "method": run.method}
        return identity | {"verl": {}} | settings | {"start": self.backbones[run.backbone].start}

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
        backbone = self.backbones[run.backbone]
        seeds = Setting(None, "derived", "a fetched model is one") if backbone.fetched else scale["warm_start_seeds",]
        found: dict[Key, Setting] = {
            ("seed",): self._with_value("seeds", run.seed),
            ("warm_start_seed",): replace(seeds, value=self.start_seed(run.backbone, run.seed)),
        }
        found |= {key: scale[key] for key in (("backend",), ("device",), ("threads",))}
        found |= {("start", *p): s for p, s in below(backbone.settings, "model").items() if p != ("licence",)}
        found |= under("verl", below(scale, "verl") | below(backbone.settings, "verl"))
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

    def start_seed(self, backbone: str, run_seed: int) -> int:
        """Which start policy a run begins from: run seeds take the warm starts in turn; a fetched model is only one."""
        if self.backbones[self._known_backbone(backbone)].fetched:
            return 1
        return (run_seed - 1) % self.scale_settings["warm_start_seeds",].value + 1

    def starts(self) -> list[tuple[str, int]]:
        """(backbone, start seed) of every start policy that some run of this study may begin from."""
        return [
            (backbone, start)
            for backbone in self.backbones
            for start in sorted({self.start_seed(backbone, seed) for seed in self.seeds})
        ]

    def warm_starts(self) -> list[tuple[str, int]]:
        """Those of :meth:`starts` that are trained, not fetched."""
        return [start for start in self.starts() if not self.backbones[start[0]].fetched]

    def warm_start(self, backbone: str, seed: int) -> dict[str, Any]:
        """Everything in the configuration that determines a warm start, as nested plain values.

        Raises:
            ConfigError: there is no such backbone, or it is fetched.
        """
        if self.backbones[self._known_backbone(backbone)].fetched:
            raise mistake("", f"the warm start of {backbone}", "does not exist", "a backbone that has a `policy`")
        general: Settings = {key: self.scale_settings[key] for key in (("device",), ("threads",))}
        settings = {**general, **below(self.scale_settings, "warm_start")}
        policy = self.backbones[backbone].policy
        return {"scale": self.scale, "backbone": backbone, "seed": seed, "policy": policy} | values(settings)

    @property
    def agreement(self) -> dict[str, Any] | None:
        """How the backends are compared: method, steps, torch_seeds, verl_seeds, level; None if the scale does not."""
        return values(below(self.scale_settings, "agreement")) or None

    def agreement_runs(self) -> list[tuple[str, int]]:
        """(backend, seed) of every run of the comparison."""
        settings = self.agreement or {}
        return [(backend, seed) for backend in ("torch", "verl") for seed in settings[f"{backend}_seeds"]]

    def agreement_spec(self, backend: str, seed: int) -> dict[str, Any]:
        """A run's spec on the primary backbone with that backend: the same but for what concerns only the other."""
        settings = self.agreement or {}
        spec = self.spec(Run(self.primary, settings["method"], seed))
        steps = settings["steps"]
        # evaluated at the start and the end only, on one benchmark: the comparison is about training
        spec |= {"backend": backend, "steps": steps, "checkpoint_every": steps}
        spec["evaluation"] |= {"every": steps, "benchmarks": [spec["evaluation"]["select_on"]]}
        return spec | ({"verl": {}, "threads": 1} if backend == "torch" else {})

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

    def warm_start_work_dir(self, backbone: str, seed: int) -> Path:
        """The same of a warm start."""
        return self._results("work", "warm-start", backbone, f"seed-{seed}")

    def evaluation_work_dir(self, run: Run) -> Path:
        """The same of a final evaluation."""
        return self._results("work", "evaluation", run.backbone, run.method, f"seed-{run.seed}")

    def log_file(self, run: Run) -> Path:
        """What the job that trains a run has printed."""
        return self._results("logs", "train", run.backbone, run.method, f"seed-{run.seed}.log")

    def warm_start_dir(self, backbone: str, seed: int) -> Path:
        """A warm start: its policy, and its record."""
        return self._results("warm-start", backbone, f"seed-{seed}")

    def model_dir(self, backbone: str) -> Path:
        """A fetched model."""
        return self._results("models", backbone)

    def start_policy(self, backbone: str, seed: int) -> Path:
        """A backbone before reinforcement learning; `seed` is that of the start (:meth:`start_seed`)."""
        if self.backbones[self._known_backbone(backbone)].fetched:
            return self.model_dir(backbone)
        return self.warm_start_dir(backbone, seed) / "policy"

    def evaluation_dir(self, run: Run) -> Path:
        """The final evaluation of a run."""
        return self._results("evaluation", run.backbone, run.method, f"seed-{run.seed}")

    def base_evaluation_dir(self, backbone: str, seed: int) -> Path:
        """The final evaluation of the untrained policy of a start seed."""
        return self._results("evaluation", backbone, BASE, f"seed-{seed}")

    def benchmark_file(self, name: str) -> Path:
        """The problems of a benchmark."""
        return self._results("data", "benchmarks", f"{name}.parquet")

    def raw_dir(self, name: str) -> Path:
        """The files of a fetched set of problems, as in its repository; beside it the record of their fetch, .yaml."""
        return self._results("data", "raw", name)

    def overlap_file(self) -> Path:
        """How many problems of each benchmark are trained on."""
        return self._results("data", "overlap.csv")

    def train_file(self) -> Path:
        """The problems that policies are trained on."""
        return self._results("data", "train.parquet")

    def agreement_dir(self, backend: str, seed: int) -> Path:
        """The directory of a run that compares backends."""
        return self._results("agreement", backend, f"seed-{seed}")

    def figure_stem(self, name: str) -> Path:
        """A figure's path without its ending (.pdf, .svg, .png, .csv, .md)."""
        return self.root / "figures" / self.scale / name

    def table_stem(self, name: str) -> Path:
        """A table's path without its ending (.csv, .md, .tex)."""
        return self._results("tables", name)

    def report_file(self) -> Path:
        """Everything that the scale has to say, in one page."""
        return self._results("report.html")

    def ablation_stem(self, method: str) -> Path:
        """The page of one method without its ending (.md, .pdf, .svg, .png, .csv, .table.csv)."""
        return self._results("ablations", method)

    def _results(self, *parts: str) -> Path:
        return self.root.joinpath("results", self.scale, *parts)

    def _known_backbone(self, name: str) -> str:
        if name not in self.backbones:
            raise unknown(f"config/scales/{self.scale}.yaml", "backbones", "backbone", name, self.backbones)
        return name

    def _known_method(self, name: str) -> Method:
        if name not in self.every_method:
            raise unknown("config/methods.yaml", "methods", "method", name, self.every_method)
        return self.every_method[name]


def _loss(training: Settings, method: Method) -> dict[Key, Setting]:
    """A method's own settings of the loss go before the backbone's and the scale's."""
    loss = below(training, "loss") | below(method.settings, "loss")
    if method.entropy_bonus:
        loss["entropy_coefficient",] = training["entropy_coefficient",]
    return loss
