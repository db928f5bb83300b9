"""Fetching with the hub's own client, from a server on this machine that answers as the hub does (hub_server.py)."""

import hashlib
import json
import os
import shutil
import socket
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import yaml
from huggingface_hub import constants
from safetensors.numpy import save
from tests.hub_server import Hub, running

from asymgrpo.config import load
from asymgrpo.hub import FetchError, Pin, Pins, fetch, fetch_dataset, fetch_model

ROOT = Path(__file__).parents[2]
DATA, MODEL = "owner/problems", "owner/policy"
FIRST, SECOND = "1" * 40, "2" * 40
FILES = {"data/test.jsonl": b'{"a": 1}\n', "README.md": b"about"}
INDEX = {"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}
POLICY = {
    "config.json": b'{"model_type": "qwen3"}',
    "tokenizer_config.json": b"{}",
    "tokenizer.json": b"{}",
    "merges.txt": b"a b",
    "model.safetensors.index.json": json.dumps(INDEX).encode(),
    "model-1.safetensors": save({"a": np.arange(6.0).reshape(2, 3)}),
    "model-2.safetensors": save({"b": np.ones(5, np.float16)}, metadata={"format": "pt"}),
    "LICENSE": b"Apache",
    "README.md": b"about",
    "pytorch_model.bin": b"pickle",
    "modeling.py": b"import os",
    "original/model.safetensors": b"another",
}
TOKEN = "hf_aVerySecretToken"


def sha(content):
    return hashlib.sha256(content).hexdigest()


def ask(url, monkeypatch):
    """Have the hub's client ask this server; what HF_ENDPOINT does in a new process."""
    monkeypatch.setattr(constants, "ENDPOINT", url)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", url + "/{repo_id}/resolve/{revision}/{filename}")


@pytest.fixture
def hub(monkeypatch):
    with running(Hub()) as hub:
        hub.add("datasets", DATA, FIRST, FILES)
        hub.add("models", MODEL, FIRST, POLICY)
        ask(hub.url, monkeypatch)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        yield hub


@pytest.fixture
def nowhere(monkeypatch):
    """No hub at all: nobody listens there."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        ask(url, monkeypatch)
        yield url


@pytest.fixture
def data(tmp_path):
    """data(revision=..., files=...) -> the record of a fetch of the data set."""

    def get(revision=FIRST, files=None, repository=DATA):
        files = {"data/test.jsonl": None} if files is None else files
        return fetch_dataset(repository, revision, files, "MIT", tmp_path / "raw/set", Pins(tmp_path))

    return get


@pytest.fixture
def model(tmp_path):
    def get(revision=FIRST, repository=MODEL):
        return fetch_model(repository, revision, "Apache-2.0", tmp_path / "models/policy", Pins(tmp_path))

    return get


def said(get, *arguments, **keywords):
    with pytest.raises(FetchError) as caught:
        get(*arguments, **keywords)
    text = str(caught.value)
    assert "\n" not in text
    assert TOKEN not in text
    return text


def everything(root):
    return {
        path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file() and ".cache" not in path.parts
    }


# -- data -------------------------------------------------------------------------------------------------------------


def test_a_data_set_arrives_with_its_record_and_is_not_asked_for_again(hub, data, tmp_path):
    record = data()
    assert (tmp_path / "raw/set/data/test.jsonl").read_bytes() == FILES["data/test.jsonl"]
    assert record == yaml.safe_load((tmp_path / "raw/set.yaml").read_text())
    assert record == {
        "kind": "dataset",
        "repository": DATA,
        "revision": FIRST,
        "licence": "MIT",
        "files": {"data/test.jsonl": sha(FILES["data/test.jsonl"])},
    }
    assert Pins(tmp_path).get("dataset", DATA) == Pin(FIRST, record["files"])
    assert everything(tmp_path) == {
        "raw/set/data/test.jsonl",
        "raw/set.yaml",
        "config/pins.yaml",
        "results/.pins.lock",
    }
    hub.requests.clear()
    assert data() == record
    assert not hub.requests


def test_only_what_config_does_not_state_is_kept_as_pin(hub, data, tmp_path):
    checksum = sha(FILES["data/test.jsonl"])
    data(files={"data/test.jsonl": checksum})
    assert not (tmp_path / "config/pins.yaml").exists()
    data(revision=None, files={"data/test.jsonl": checksum})
    assert Pins(tmp_path).get("dataset", DATA) == Pin(FIRST, {})


def test_files_that_are_in_place_need_no_hub(nowhere, data, tmp_path, capsys):
    """Without a checksum they are taken at their word, and that is told."""
    (tmp_path / "raw/set/data").mkdir(parents=True)
    (tmp_path / "raw/set/data/test.jsonl").write_bytes(FILES["data/test.jsonl"])
    checksum = sha(FILES["data/test.jsonl"])
    assert data(files={"data/test.jsonl": checksum})["files"] == {"data/test.jsonl": checksum}
    assert capsys.readouterr().out == ""
    assert data()["files"] == {"data/test.jsonl": checksum}
    assert f"nothing states the checksums of data/test.jsonl: taken for revision {FIRST}" in capsys.readouterr().out
    data()
    assert capsys.readouterr().out == ""  # it is known now


def test_without_a_revision_the_newest_of_the_first_fetch_is_kept(hub, data, tmp_path, capsys):
    assert data(revision=None)["revision"] == FIRST
    assert f"{DATA}: the newest revision is {FIRST}, kept in config/pins.yaml" in capsys.readouterr().out
    hub.add("datasets", DATA, SECOND, {"data/test.jsonl": b"changed"})
    (tmp_path / "raw/set/data/test.jsonl").unlink()
    assert data(revision=None)["revision"] == FIRST
    assert (tmp_path / "raw/set/data/test.jsonl").read_bytes() == FILES["data/test.jsonl"]
    text = said(data, revision=SECOND)
    assert f"revision {SECOND} is asked for, but config/pins.yaml has {FIRST}; if the new one is meant, remove" in text


def test_a_file_that_is_not_what_it_was(hub, data, tmp_path):
    data()
    file = tmp_path / "raw/set/data/test.jsonl"
    file.write_text("other")
    text = said(data)
    assert text.startswith(f"{file}: its sha256 is {sha(b'other')}, but config/pins.yaml has ")
    assert f"for dataset {DATA}, revision {FIRST}: remove the file, and fetch again" in text
    file.unlink()
    hub.repositories["datasets", DATA][FIRST] = {"data/test.jsonl": b"other"}  # a revision never changes
    assert "but config/pins.yaml has" in said(data)
    assert "but the configuration has" in said(data, files={"data/test.jsonl": "0" * 64})


def by_hand(text, tmp_path, url, revision):
    assert f"put data/test.jsonl from {url}/datasets/{DATA}/tree/{revision} into {tmp_path}/raw/set/" in text
    return True


def test_a_wrong_revision(hub, data, tmp_path):
    text = said(data, revision=SECOND)
    assert text.startswith(f"dataset {DATA}, revision {SECOND}: the hub has no such revision.")
    assert by_hand(text, tmp_path, hub.url, SECOND)


@pytest.mark.parametrize(("revision", "shown"), [(FIRST, FIRST), (None, "main")])
def test_no_network(nowhere, data, tmp_path, revision, shown):
    text = said(data, revision=revision)
    assert text.startswith(f"dataset {DATA}, revision {shown}: the hub cannot be reached (ConnectError).")
    assert by_hand(text, tmp_path, nowhere, shown)
    assert ("and their revision into the configuration" in text) is (revision is None)
    assert not everything(tmp_path)


def test_other_refusals(hub, data):
    assert "the hub has no such repository, or it is private" in said(data, repository="owner/nothing")
    assert "it has no file data/train.jsonl" in said(data, files={"data/test.jsonl": None, "data/train.jsonl": None})
    hub.gated.add(DATA)
    assert "its owner must grant access first" in said(data)


def test_a_token_is_used_but_never_written(hub, data, model, tmp_path, capfd):
    data()
    model()
    assert {token for _, token in hub.requests} == {f"Bearer {TOKEN}"}
    written = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert TOKEN.encode() not in written
    out, err = capfd.readouterr()
    assert TOKEN not in out + err


# -- models -----------------------------------------------------------------------------------------------------------


def test_a_model_comes_without_pickles_and_code(hub, model, tmp_path):
    record = model()
    expected = {
        *("config.json", "tokenizer_config.json", "tokenizer.json", "merges.txt", "model.safetensors.index.json"),
        *("model-1.safetensors", "model-2.safetensors", "LICENSE"),
    }
    assert set(record["files"]) == expected
    assert everything(tmp_path / "models/policy") == expected
    assert record["licence"] == "Apache-2.0"
    assert not [path for path, _ in hub.requests if "resolve" in path and (".bin" in path or ".py" in path)]
    hub.requests.clear()
    assert model() == record
    assert not hub.requests


def test_a_model_that_is_not_whole_is_completed(hub, model, tmp_path):
    record = model()
    (tmp_path / "models/policy/model-2.safetensors").unlink()
    assert model() == record
    (tmp_path / "models/policy/merges.txt").unlink()
    assert model() == record


def test_a_model_in_place_needs_no_hub_but_must_be_whole(nowhere, model, tmp_path):
    text = said(model)
    assert text.startswith(f"model {MODEL}, revision {FIRST}: the hub cannot be reached (ConnectError).")
    assert f"{nowhere}/{MODEL}/tree/{FIRST} into {tmp_path}/models/policy/" in text
    directory = tmp_path / "models/policy"
    directory.mkdir(parents=True)
    for name, content in POLICY.items():
        if not name.endswith((".bin", ".py")) and "/" not in name:
            (directory / name).write_bytes(content)
    assert "README.md" not in model()["files"]
    (directory / "model-2.safetensors").unlink()
    assert "the hub cannot be reached" in said(model)


@pytest.mark.parametrize("cut", [0, 5, 20, -1])
def test_weights_that_are_cut_off_are_not_trusted(nowhere, model, tmp_path, cut):
    directory = tmp_path / "models/policy"
    directory.mkdir(parents=True)
    for name in ("config.json", "tokenizer_config.json"):
        (directory / name).write_bytes(POLICY[name])
    (directory / "model.safetensors").write_bytes(POLICY["model-1.safetensors"][:cut])
    assert said(model) == f"{directory}/model.safetensors: is cut off; remove it, and fetch or copy it again"
    assert Pins(tmp_path).get("model", MODEL) is None
    (directory / "model.safetensors").write_bytes(POLICY["model-1.safetensors"])
    (directory / "config.json").write_text("{")
    with pytest.raises(ValueError, match=f"{directory}/config.json: not JSON"):
        model()


@pytest.mark.parametrize("name", ["pytorch_model.bin", "original/consolidated.00.pth", "modeling.py"])
def test_a_model_in_place_with_foreign_code_is_refused(hub, model, tmp_path, name):
    model()
    path = tmp_path / "models/policy" / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"...")
    assert f"could run code of foreign origin: {name}; expected safetensors and JSON" in said(model)


def test_a_model_that_asks_for_code_is_refused(hub, model):
    for name in ("config.json", "tokenizer_config.json"):
        files = POLICY | {name: b'{"auto_map": {"AutoModel": "modeling.Model"}}'}
        hub.add("models", f"owner/{name}", FIRST, files)
    assert "foreign origin: config.json (auto_map)" in said(model, repository="owner/config.json")


def test_a_model_without_safetensors_is_refused(hub, model, tmp_path):
    hub.add("models", MODEL, FIRST, {name: content for name, content in POLICY.items() if "safetensors" not in name})
    text = said(model)
    assert text == f"model {MODEL}, revision {FIRST}: has no safetensors; expected some, no pickles"
    assert not everything(tmp_path)


def test_a_file_that_the_first_fetch_did_not_have_is_refused(hub, model, tmp_path):
    model()
    (tmp_path / "models/policy/generation_config.json").write_text("{}")
    assert f"generation_config.json: is no part of {MODEL} in config/pins.yaml: remove it" in said(model)


# -- pins -------------------------------------------------------------------------------------------------------------


def _pin(arguments):
    root, number = arguments
    Pins(root).add("dataset", f"owner/{number % 4}", FIRST, {f"file-{number}": f"{number:064}"})


def test_pins_of_fetches_side_by_side_are_all_kept(tmp_path):
    with ProcessPoolExecutor(4) as pool:
        list(pool.map(_pin, [(tmp_path, number) for number in range(24)]))
    for repository in range(4):
        assert len(Pins(tmp_path).get("dataset", f"owner/{repository}").files) == 6
    assert Pins(tmp_path).get("model", "owner/0") is None
    text = (tmp_path / "config/pins.yaml").read_text()
    assert text.startswith("# What was fetched first")
    Pins(tmp_path).add("dataset", "owner/1", FIRST, {"file-1": f"{1:064}"})
    assert (tmp_path / "config/pins.yaml").read_text() == text


@pytest.mark.parametrize(
    "text", ["[1]", "dataset: 3", "dataset: {a/b: {revision: x}}", "dataset: {a/b: {", "x: {y: 1}"]
)
def test_broken_pins_are_one_line(tmp_path, text):
    (tmp_path / "config").mkdir()
    (tmp_path / "config/pins.yaml").write_text(text)
    with pytest.raises(
        ValueError, match=rf"{tmp_path}/config/pins.yaml: expected \{{dataset or model: .*`asymgrpo fetch`"
    ):
        Pins(tmp_path).get("dataset", "a/b")


# -- as a command -----------------------------------------------------------------------------------------------------


def test_the_hub_is_imported_only_when_it_is_needed():
    code = "import sys, asymgrpo.hub, asymgrpo.cli; print('huggingface_hub' in sys.modules, 'httpx' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]


def test_offline_is_one_line(tmp_path):
    code = (
        "import sys; from pathlib import Path; from asymgrpo.hub import *\n"
        f"try: fetch_dataset({DATA!r}, {FIRST!r}, {{'test.jsonl': None}}, 'MIT', Path('raw/set'), Pins(Path()))\n"
        "except FetchError as error: print(error)"
    )
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "HF_TOKEN": TOKEN}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment, cwd=tmp_path
    )
    assert (
        f"revision {FIRST}: is not in place, and HF_HUB_OFFLINE forbids to ask the hub. Without the hub: put"
        in done.stdout
    )
    assert Path("raw/set").as_posix() in done.stdout
    assert TOKEN not in done.stdout + done.stderr


# -- a whole scale ----------------------------------------------------------------------------------------------------


def test_the_models_of_the_paper_are_fetched_at_its_revisions(hub, tmp_path):
    for part in ("config", "workflow/schemas"):
        shutil.copytree(ROOT / part, tmp_path / part)
    (tmp_path / "config/pins.yaml").unlink(missing_ok=True)
    study = load(tmp_path, {"scale": "paper"})
    models = {name: backbone.model for name, backbone in study.backbones.items()}
    assert {model["repository"] for model in models.values()} == {
        "Qwen/Qwen3-4B",
        "Qwen/Qwen2.5-Math-1.5B",
        "Qwen/Qwen2.5-7B",
    }
    for model in models.values():
        hub.add("models", model["repository"], model["revision"], POLICY)
        hub.add("models", model["repository"], SECOND, {})  # the newest is another
    lines = list(fetch(study, list(models)))
    assert len(lines) == 3
    for name, model in models.items():
        record = yaml.safe_load((tmp_path / f"results/paper/models/{name}.yaml").read_text())
        assert {key: record[key] for key in ("kind", "repository", "revision", "licence")} == {
            "kind": "model",
            "repository": model["repository"],
            "revision": model["revision"],
            "licence": "Apache-2.0",
        }
        assert (study.start_policy(name, 1) / "model-1.safetensors").is_file()
    hub.requests.clear()
    assert list(fetch(study, list(models))) == lines
    assert not hub.requests
    with pytest.raises(ValueError, match="qwen4: is not fetched at scale paper; expected one of math-train, math-500"):
        list(fetch(study, ["qwen4"]))
    assert list(fetch(load(tmp_path, {"scale": "tiny"}))) == []
