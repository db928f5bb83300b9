"""What is generated from the locks in envs/ has the same versions, is up to date, and is what the rules name."""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from asymgrpo.config import load

ROOT = Path(__file__).parents[2]
ENVS = ROOT / "envs"
NAMES = ("local", "verl", "verl-cpu")
SCALES = sorted(path.stem for path in (ROOT / "config" / "scales").glob("*.yaml"))

_spec = importlib.util.spec_from_file_location("generate", ENVS / "generate.py")
generate = sys.modules["generate"] = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(generate)


@pytest.fixture
def envs(tmp_path):
    """A copy, to be spoilt."""
    return Path(shutil.copytree(ENVS, tmp_path / "envs"))


def locked(name, directory=ENVS):
    """Every line of a lock that is no comment."""
    return {line for line in (directory / f"{name}.txt").read_text().splitlines() if line and line[0] != "#"}


def between(text, first, last):
    """The lines after the one that ends with `first`, before the line `last`."""
    lines = text.splitlines()
    begin = next(n for n, line in enumerate(lines) if line.endswith(first)) + 1
    return lines[begin : lines.index(last, begin)]


def test_every_complete_lock_has_its_environments():
    assert {path.stem for path in ENVS.glob("*.txt")} == {*NAMES, "test"}  # test.txt comes on top of local.txt
    assert set(generate.ENVIRONMENTS) == set(NAMES)
    for ending in ("yaml", "def", "post-deploy.sh"):
        assert {path.name for path in ENVS.glob(f"*.{ending}")} == {f"{name}.{ending}" for name in NAMES}


@pytest.mark.parametrize("name", NAMES)
def test_conda_and_apptainer_have_the_versions_of_the_lock(name):
    dependencies = yaml.safe_load((ENVS / f"{name}.yaml").read_text())["dependencies"]
    assert dependencies[:2] == ["python=3.11", "pip"]
    assert len(dependencies) == 3
    image = (ENVS / f"{name}.def").read_text()
    assert set(dependencies[2]["pip"]) == locked(name) == set(between(image, "<< 'LOCK'", "LOCK"))
    [torch] = re.findall(r"\btorch==\S+$", image.partition("\nLOCK\n")[2], re.MULTILINE)
    assert torch in locked(name)


def test_the_files_on_disk_are_what_the_script_makes_of_the_locks():
    assert generate.outdated() == []


def test_a_changed_lock_or_a_changed_file_is_noticed(envs):
    def check(*options):
        command = [sys.executable, envs / "generate.py", *options]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    assert check("--check").returncode == 0
    lock = envs / "verl.txt"
    lock.write_text(lock.read_text().replace("\nverl==0.9.1\n", "\nverl==0.9.2\n"))
    (envs / "local.def").unlink()
    (envs / "verl-cpu.post-deploy.sh").write_text("true\n")
    found = check("--check")
    assert found.returncode == 1
    names = [line.partition(":")[0] for line in found.stdout.splitlines()]
    assert names == ["envs/local.def", "envs/verl.yaml", "envs/verl.def", "envs/verl-cpu.post-deploy.sh"]
    assert check().returncode == 0
    assert "      - verl==0.9.2\n" in (envs / "verl.yaml").read_text()
    assert check("--check").returncode == 0


def test_a_lock_has_exact_versions_only(envs):
    (envs / "local.txt").write_text("torch==2.13.0\nnumpy>=2\n")
    with pytest.raises(ValueError, match=r"envs/local\.txt:2: expected name==version, found 'numpy>=2'"):
        generate.outdated(envs)


@pytest.mark.parametrize("scale", SCALES)
def test_the_environment_of_every_scale_is_there(scale):
    study = load(ROOT, {"scale": scale})
    assert all((ENVS / f"{study.environment}.{ending}").is_file() for ending in ("txt", "yaml", "def"))
    assert (study.environment == "local") == (study.backend == "torch")
    assert (study.environment == "verl") == (study.gpus > 0)


def test_every_rule_with_a_command_of_ours_has_an_environment_that_is_there():
    rules = "\n".join(path.read_text() for path in (ROOT / "workflow" / "rules").glob("*.smk"))
    assert set(re.findall(r"^ +conda:\n +(.*)$", rules, re.MULTILINE)) == {"ENVIRONMENT", "RUN_ENVIRONMENT"}
    common = (ROOT / "workflow" / "rules" / "common.smk").read_text()
    assert re.findall(r'^(?:RUN_)?ENVIRONMENT = f?"\.\./\.\./(.*)"$', common, re.MULTILINE) == [
        "envs/{study.environment}.yaml",
        "envs/local.yaml",
    ]


@pytest.mark.parametrize("name", NAMES)
def test_the_scripts_can_be_read_by_their_shells(name):
    image = (ENVS / f"{name}.def").read_text()
    post = image.partition("\n%post\n")[2].partition("\n%environment\n")[0]
    subprocess.run(["sh", "-n"], input=post, text=True, check=True)
    subprocess.run(["bash", "-n", ENVS / f"{name}.post-deploy.sh"], check=True)
    assert [line for line in image.splitlines() if line.startswith("%")] == [
        "%arguments",
        "%post",
        "%environment",
        "%test",
    ]


def test_the_command_of_an_image_runs_the_project_around_it(tmp_path):
    command = tmp_path / "asymgrpo"
    command.write_text("\n".join(between((ENVS / "local.def").read_text(), "<< 'COMMAND'", "COMMAND")) + "\n")
    command.chmod(0o755)
    package = tmp_path / "clone" / "src" / "asymgrpo"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "__main__.py").write_text("import sys; print('from the clone', sys.argv[1:])\n")
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        [command, "status", "a b"],
        cwd=tmp_path / "clone",
        env=os.environ | {"PATH": path},
        capture_output=True,
        text=True,
    )
    assert done.stdout == "from the clone ['status', 'a b']\n", done.stderr
