"""From each pip lock in this directory: a conda environment for `--sdm conda`, and an Apptainer definition.

    python envs/generate.py            # write them
    python envs/generate.py --check    # exit status 1 if one on disk is not what its lock gives

Of NAME.txt it makes NAME.yaml (conda gives Python, pip the locked packages), NAME.post-deploy.sh (what Snakemake runs
in that environment when it is new) and NAME.def. Needs Python only.
"""

from __future__ import annotations

import argparse
import re
import sys
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
PYTHON = "3.11"
"""The version that the locks were made with."""
FLASH_ATTENTION = "flash-attn==2.8.3"
"""For verl's packed sequences; in no lock, because the package index has it as source only."""
_PACKAGES = """python -c 'import sysconfig; print(sysconfig.get_path("purelib"))'"""
CUDA_HOME = f'export CUDA_HOME="${{CUDA_HOME:-$({_PACKAGES})/nvidia/cu13}}"'
"""Where the package nvidia-cuda-nvcc has its compiler, unless the site names its own."""


@dataclass(frozen=True)
class Environment:
    """What a lock does not say about its environment."""

    about: str
    """What it is used for: the end of "for ..."."""
    image: str
    """What the container is made from: Debian with Python, with a compiler (no `-slim`) where Triton needs one."""
    unwanted: tuple[str, ...] = ()
    """Packages that a locked one asks for but that must not be there (README.md); without `--no-deps` pip gets them."""
    flash_attention: bool = False
    starts: str = "torch"
    """Modules that must be importable in a new container, with or without a GPU."""


ENVIRONMENTS = {
    "local": Environment("the local and tiny scales", f"python:{PYTHON}-slim-bookworm", starts="torch, snakemake"),
    "verl": Environment("the paper scale, on GPUs", f"python:{PYTHON}-bookworm", flash_attention=True),
    "verl-cpu": Environment(
        "the smoke scale, on CPUs",
        f"python:{PYTHON}-bookworm",
        unwanted=("torchvision", "torchaudio", "torchcodec"),
        starts="torch, verl, vllm",
    ),
}

HEADER = "# Made from {name}.txt by envs/generate.py; not to be edited. For {about}."


def pins(lock: Path) -> list[str]:
    """The lines `name==version` of a lock, in its order.

    Raises:
        ValueError: a line is neither that nor a comment.
    """
    found = []
    for number, line in enumerate(lock.read_text(encoding="utf-8").splitlines(), 1):
        if not line or line.startswith("#"):
            continue
        if not re.fullmatch(r"[A-Za-z0-9._-]+==[0-9][A-Za-z0-9.]*", line):
            raise ValueError(f"envs/{lock.name}:{number}: expected name==version, found {line!r}")
        found.append(line)
    return found


def conda(name: str, environment: Environment, locked: list[str]) -> str:
    """`NAME.yaml`: pip installs the lock, so that the versions are the same; conda-forge has not all of them."""
    packages = "\n".join(f"      - {pin}" for pin in locked)
    return f"""{HEADER.format(name=name, about=environment.about)}
# Used by `snakemake --sdm conda`, which afterwards runs {name}.post-deploy.sh.
channels:
  - conda-forge
  - nodefaults
dependencies:
  - python={PYTHON}
  - pip
  - pip:
{packages}
"""


def post_deploy(name: str, environment: Environment) -> str:
    """`NAME.post-deploy.sh`: run by Snakemake in the new environment, in the directory that it works in."""
    steps = []
    if environment.unwanted:
        steps += ["# vLLM's build for CPUs does not start beside these.", _uninstall(environment)]
    if environment.flash_attention:
        steps += [
            "# Built against the locked torch with the locked nvcc; or the wheel whose path or address FLASH_ATTN is.",
            CUDA_HOME,
            f'python -m pip install --no-deps --no-build-isolation "${{FLASH_ATTN:-{FLASH_ATTENTION}}}"',
        ]
    steps += ["# This project, from here.", "python -m pip install --no-deps --no-build-isolation --editable ."]
    head = f"#!/usr/bin/env bash\n{HEADER.format(name=name, about=environment.about)}\nset -eu\n"
    return head + "\n".join(steps) + "\n"


def apptainer(name: str, environment: Environment, locked: list[str]) -> str:
    """`NAME.def`: the same packages in an image; of the project only the command, which takes the code from outside."""
    lock = f"/usr/local/share/asymgrpo/{name}.txt"
    steps = [
        f"    mkdir -p {Path(lock).parent}",
        f"    cat > {lock} << 'LOCK'",
        *locked,
        "LOCK",
        "    # torch first: only it comes from its own index, if one is given",
        f"    pip install --no-cache-dir --no-deps --extra-index-url '{{{{ TORCH_INDEX }}}}' {locked[0]}",
        f"    pip install --no-cache-dir --no-deps --requirement {lock}",
    ]
    arguments = ["    TORCH_INDEX=https://pypi.org/simple"]
    if environment.flash_attention:
        arguments.append(f"    FLASH_ATTN={FLASH_ATTENTION}")
        steps += [
            f"    {CUDA_HOME}",
            "    pip install --no-cache-dir --no-deps --no-build-isolation '{{ FLASH_ATTN }}'",
        ]
    steps += [
        "    cat > /usr/local/bin/asymgrpo << 'COMMAND'",
        "#!/bin/sh",
        "# The project is not in the image: it is that of the directory in which Snakemake works.",
        'PYTHONPATH="$PWD/src${PYTHONPATH:+:$PYTHONPATH}" exec python -m asymgrpo "$@"',
        "COMMAND",
        "    chmod 755 /usr/local/bin/asymgrpo",
    ]
    return "\n".join(
        [
            HEADER.format(name=name, about=environment.about),
            f"# apptainer build envs/{name}.sif envs/{name}.def; used by `snakemake --sdm apptainer`, see README.md.",
            "# --build-arg TORCH_INDEX=ADDRESS: torch from PyTorch's index of builds instead of pip's own.",
            "Bootstrap: docker",
            f"From: {environment.image}",
            "",
            "%arguments",
            *arguments,
            "",
            "%post",
            "    set -eu",
            *steps,
            "",
            "%environment",
            "    # nothing from ~/.local",
            "    export PYTHONNOUSERSITE=1",
            "",
            "%test",
            f"    python -c 'import {environment.starts}'",
            "",
        ]
    )


def _uninstall(environment: Environment) -> str:
    return f"python -m pip uninstall --yes {' '.join(environment.unwanted)}"


def generated(directory: Path = HERE) -> dict[str, str]:
    """File name -> text of everything that the locks of a directory give."""
    texts = {}
    for name, environment in ENVIRONMENTS.items():
        locked = pins(directory / f"{name}.txt")
        texts[f"{name}.yaml"] = conda(name, environment, locked)
        texts[f"{name}.post-deploy.sh"] = post_deploy(name, environment)
        texts[f"{name}.def"] = apptainer(name, environment, locked)
    return texts


def outdated(directory: Path = HERE) -> list[str]:
    """The files that are not there, or not what their lock gives."""
    return [
        name
        for name, text in generated(directory).items()
        if not (directory / name).is_file() or (directory / name).read_text(encoding="utf-8") != text
    ]


def main() -> int:
    """Write, or only compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; exit status 1 if something would change")
    check = parser.parse_args().check
    try:
        different = outdated()
    except (OSError, ValueError) as error:
        print(error, file=sys.stderr)
        return 1
    for name in different:
        print(f"envs/{name}: {'not what its lock gives: python envs/generate.py' if check else 'written'}")
        if not check:
            (HERE / name).write_text(generated()[name], encoding="utf-8")
    return 1 if check and different else 0


if __name__ == "__main__":
    sys.exit(main())
