"""Backend agreement: reward, entropy and alpha of a verl run over those of torch runs from the same start policy."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from asymgrpo import records
from asymgrpo.analysis import agreement
from asymgrpo.figures import Artefact, style

if TYPE_CHECKING:
    from asymgrpo.config import Study

NAME = "agreement"
TITLES = {
    "reward": "Reward",
    "entropy": "Entropy (nats)",
    "alpha": r"Alignment $\alpha$ (nats)",
}


@style.styled
def draw(study: Study) -> Artefact:
    """Curves per step, and the tolerance of every comparison; ValueError if a run is missing or has another length."""
    settings = study.agreement
    if settings is None:
        raise ValueError(f"config/scales/{study.scale}.yaml: agreement: is missing; no two backends are compared")
    torch_runs, verl_runs = (
        pd.concat([_steps(study, backend, seed) for seed in seeds], ignore_index=True)
        for backend, seeds in (("torch", settings["torch_seeds"]), ("verl", settings["verl_seeds"]))
    )
    steps, level = int(settings["steps"]), float(settings["level"])
    verdict = agreement.compare(torch_runs, verl_runs, steps, level)

    figure = style.canvas(height=1.75)
    lines = []
    for axes, letter, (quantity, title) in zip(figure.subplots(1, 3), "abc", TITLES.items(), strict=True):
        lines = _panel(axes, quantity, torch_runs, verl_runs)
        axes.set(xlim=(1, steps), xlabel="Training step")
        inside = verdict.loc[verdict["quantity"] == quantity, "within"].all()
        style.panel(axes, letter, f"{title}: {'within' if inside else 'OUTSIDE'}")
    style.finish(
        figure,
        lines,
        ["verl", f"torch, mean of {len(settings['torch_seeds'])} seeds", "torch, each seed"],
        columns=3,
        footnote=(f"Within: inside the {level:.0%} prediction interval of the torch runs, all comparisons together.",),
    )
    passed = int(verdict["within"].sum())
    text = (
        f"**Backend agreement.** {settings['method']} for {steps} steps from the same start policy, with verl (seeds "
        f"{_listed(settings['verl_seeds'])}) and with the torch backend (seeds {_listed(settings['torch_seeds'])}). "
        f"{passed} of {len(verdict)} comparisons are within the tolerance, which was set beforehand: means over all "
        f"steps and over the last quarter of reward, entropy and alpha must lie in the torch runs' {level:.0%} "
        f"prediction interval, all comparisons together.\n\n{_table(verdict)}"
    )
    curves = pd.concat([torch_runs.assign(backend="torch"), verl_runs.assign(backend="verl")], ignore_index=True)
    data = pd.concat([curves.assign(row="step"), verdict.assign(row="comparison")], ignore_index=True)
    return Artefact(figure, data, text)


def _panel(axes, quantity: str, torch_runs: pd.DataFrame, verl_runs: pd.DataFrame) -> list:
    each = mean = verl = None
    for _, run in torch_runs.groupby("seed"):
        (each,) = axes.plot(run["step"], run[quantity], color="0.8", linewidth=0.5)
    average = torch_runs.groupby("step")[quantity].mean()
    (mean,) = axes.plot(average.index, average, color="0.35", linewidth=1.2)
    for _, run in verl_runs.groupby("seed"):
        (verl,) = axes.plot(run["step"], run[quantity], color="C3", linewidth=1.2)
    return [verl, mean, each]


def _steps(study: Study, backend: str, seed: int) -> pd.DataFrame:
    path = Path(study.agreement_dir(backend, seed)) / "steps.parquet"
    frame = records.read(path, records.STEPS).to_pandas()
    return frame[["step", *agreement.QUANTITIES]].assign(seed=seed)


def _listed(seeds: list[int]) -> str:
    return ", ".join(map(str, seeds))


def _table(verdict: pd.DataFrame) -> str:
    head = "| quantity | window | verl | torch, mean | tolerance | deviations | within |\n|---|---|---|---|---|---|---|"
    lines = [
        f"| {row.quantity} | {row.window} | {row.value:.4f} | {row.mean:.4f} | {row.low:.4f} to {row.high:.4f} | "
        f"{row.z:+.1f} | {'yes' if row.within else 'NO'} |"
        for row in verdict.itertuples()
    ]
    return "\n".join([head, *lines])
