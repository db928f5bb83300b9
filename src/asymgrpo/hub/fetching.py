"""Fetch a data set or a model, or check the one that is in place: the same files, byte for byte, on every machine.

The files lie in a directory as they do in their repository, and beside it, in ``<directory>.yaml``, a record of where
they are from: kind, repository, revision, licence, and the checksum of each. Whoever has no network puts the files
there by hand; once they are there, nothing is asked of the hub again. A token is the affair of the hub's own client: it
is neither read nor written here.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from asymgrpo.hub.files import cut_off, in_place, lacking, of_model, sha256, unsafe
from asymgrpo.hub.pins import FILE, Pin, Pins


class FetchError(ValueError):
    """Something could not be fetched, or is not what it was."""


@dataclass(frozen=True)
class Wanted:
    """What is to be in a directory."""

    kind: str
    """dataset or model."""
    repository: str
    revision: str | None
    """None: the newest at the first fetch."""
    directory: Path
    licence: str

    @property
    def record(self) -> Path:
        """The record of the fetch."""
        return self.directory.with_name(f"{self.directory.name}.yaml")

    def failed(self, reason: str, files: Sequence[str] = ()) -> FetchError:
        """One line: what, which revision, why not, and how to do without the hub."""
        from huggingface_hub.constants import ENDPOINT

        revision = self.revision or "main"
        url = f"{ENDPOINT}/{'datasets/' if self.kind == 'dataset' else ''}{self.repository}/tree/{revision}"
        what = ", ".join(files) if files else "its safetensors, JSON and text files"
        by_hand = f"Without the hub: put {what} from {url} into {self.directory}/, under the same names"
        if self.revision is None:
            by_hand += ", and their revision into the configuration"
        return FetchError(f"{self.kind} {self.repository}, revision {revision}: {reason}. {by_hand}.")


def fetch_dataset(
    repository: str, revision: str | None, files: Mapping[str, str | None], licence: str, directory: Path, pins: Pins
) -> dict[str, Any]:
    """Put the files of a data set into `directory`, or check those that are there; returns the record.

    Args:
        repository: owner/name on the hub.
        revision: the commit; None for the one in `pins`, or the newest, which is then kept there.
        files: path in the repository -> sha256; None for the one in `pins`, or what is found, which is then kept there.
        licence: of the data; recorded.
        directory: where they lie.
        pins: what earlier fetches have found.

    Raises:
        FetchError: one line that says what is wrong, and how to place the files by hand.
    """
    pin = pins.get("dataset", repository)
    wanted = _held(Wanted("dataset", repository, revision, directory, licence), pin)
    asked = wanted.revision is None or any(not (directory / file).is_file() for file in files)
    if asked:
        wanted, listed = _ask(wanted, list(files))
        absent = [file for file in files if file not in listed]
        if absent:
            raise wanted.failed(f"it has no file {absent[0]}", list(files))
        _download(wanted, list(files))
        if missing := [file for file in files if not (directory / file).is_file()]:
            raise wanted.failed(f"{missing[0]} did not arrive", list(files))
    return _settle(wanted, list(files), files, revision is None, asked, pins)


def fetch_model(repository: str, revision: str | None, licence: str, directory: Path, pins: Pins) -> dict[str, Any]:
    """Put a model into `directory`, or check the one that is there; returns the record. Arguments as for a data set.

    Weights come as safetensors only, with their JSON and text: no pickle, no Python, and no model that asks for some.
    """
    pin = pins.get("model", repository)
    wanted = _held(Wanted("model", repository, revision, directory, licence), pin)
    known = list(pin.files) if pin else []
    asked = wanted.revision is None or bool(lacking(directory))
    asked = asked or any(not (directory / file).is_file() for file in known)
    if asked:
        wanted, listed = _ask(wanted, [])
        chosen = of_model(listed)
        if not any(file.endswith(".safetensors") for file in chosen):
            raise FetchError(
                f"model {repository}, revision {wanted.revision}: has no safetensors; expected some, no pickles"
            )
        _download(wanted, chosen)
    if missing := lacking(directory):
        raise wanted.failed(f"{directory}/ lacks {', '.join(missing)}")
    if found := unsafe(directory):
        raise FetchError(
            f"{directory}/: could run code of foreign origin: {', '.join(found)}; expected safetensors and JSON"
        )
    if broken := cut_off(directory):
        raise FetchError(f"{directory / broken[0]}: is cut off; remove it, and fetch or copy it again")
    return _settle(wanted, of_model(in_place(directory)), {}, revision is None, asked, pins)


def _held(wanted: Wanted, pin: Pin | None) -> Wanted:
    """With the revision of the first fetch, which must be the one that is asked for."""
    if pin is None:
        return wanted
    if wanted.revision not in (None, pin.revision):
        raise FetchError(
            f"{wanted.kind} {wanted.repository}: revision {wanted.revision} is asked for, but {FILE.as_posix()} has "
            f"{pin.revision}; if the new one is meant, remove the entry there and the files in {wanted.directory}/"
        )
    return _at(wanted, pin.revision)


def _at(wanted: Wanted, revision: str) -> Wanted:
    return Wanted(wanted.kind, wanted.repository, revision, wanted.directory, wanted.licence)


def _ask(wanted: Wanted, files: Sequence[str]) -> tuple[Wanted, list[str]]:
    """The commit that is meant, and the names of its files."""

    def ask() -> Any:
        from huggingface_hub import HfApi

        return HfApi().repo_info(wanted.repository, repo_type=wanted.kind, revision=wanted.revision)

    info = _or_say_why(wanted, ask, files)
    if wanted.revision is None:
        print(
            f"{wanted.kind} {wanted.repository}: the newest revision is {info.sha}, kept in {FILE.as_posix()}",
            flush=True,
        )
    return _at(wanted, info.sha), [sibling.rfilename for sibling in info.siblings]


def _download(wanted: Wanted, files: Sequence[str]) -> None:
    def download() -> None:
        from huggingface_hub import snapshot_download

        snapshot_download(
            wanted.repository,
            repo_type=wanted.kind,
            revision=wanted.revision,
            local_dir=wanted.directory,
            allow_patterns=list(files),
        )

    print(f"{wanted.kind} {wanted.repository}, revision {wanted.revision}: fetching {len(files)} files", flush=True)
    _or_say_why(wanted, download, files)


def _or_say_why(wanted: Wanted, act: Callable[[], Any], files: Sequence[str]) -> Any:
    """What `act` returns; the hub's many errors become one line, without their own texts, which may quote a request."""
    import httpx
    from huggingface_hub import errors

    try:
        return act()
    except errors.OfflineModeIsEnabled:
        reason = "is not in place, and HF_HUB_OFFLINE forbids to ask the hub"
    except errors.GatedRepoError:
        reason = "its owner must grant access first; then log in with `hf auth login`"
    except errors.RevisionNotFoundError:
        reason = "the hub has no such revision"
    except errors.RepositoryNotFoundError:
        reason = "the hub has no such repository, or it is private"
    except errors.EntryNotFoundError as error:  # also if the connection was lost between the question and the download
        lost = isinstance(error, errors.LocalEntryNotFoundError)
        reason = "the hub cannot be reached" if lost else "the hub has no such file at that revision"
    except (errors.HfHubHTTPError, httpx.HTTPStatusError) as error:
        reason = f"the hub answered {error.response.status_code}"
    except httpx.HTTPError as error:
        reason = f"the hub cannot be reached ({type(error).__name__})"
    except errors.HFValidationError:
        reason = "this is no name of a repository"
    except OSError as error:
        reason = f"the files cannot be written ({error.strerror or type(error).__name__})"
    except Exception as error:  # of another part of the client, e.g. of its own protocol for large files
        reason = f"the hub's client has failed ({type(error).__name__})"
    raise wanted.failed(reason, files)


def _settle(
    wanted: Wanted, files: Sequence[str], stated: Mapping[str, str | None], first: bool, asked: bool, pins: Pins
) -> dict[str, Any]:
    """Check every file against what config/ states and earlier fetches found; keep what is new; write the record.

    Files that the hub was not asked for and of which no checksum is known are taken at their word, which is said.
    """
    assert wanted.revision is not None
    pin = pins.get(wanted.kind, wanted.repository)
    known = {**(pin.files if pin else {}), **{file: checksum for file, checksum in stated.items() if checksum}}
    found = {file: sha256(wanted.directory / file) for file in files}
    for file, checksum in found.items():
        if known.get(file, checksum) != checksum:
            place = "the configuration" if stated.get(file) else FILE.as_posix()
            raise FetchError(
                f"{wanted.directory / file}: its sha256 is {checksum}, but {place} has {known[file]} for {wanted.kind} "
                f"{wanted.repository}, revision {wanted.revision}: remove the file, and fetch again"
            )
    if wanted.kind == "model" and pin and (strange := sorted(set(found) - set(pin.files))):
        raise FetchError(
            f"{wanted.directory / strange[0]}: is no part of {wanted.repository} in {FILE.as_posix()}: remove it"
        )
    unchecked = [] if asked else [file for file in files if file not in known]
    if unchecked:
        print(
            f"{wanted.directory}: nothing states the checksums of {', '.join(unchecked)}: taken for revision "
            f"{wanted.revision} unchecked, and kept in {FILE.as_posix()} from now on",
            flush=True,
        )
    new = {file: checksum for file, checksum in found.items() if not stated.get(file)}
    if new or first:
        pins.add(wanted.kind, wanted.repository, wanted.revision, new)
    record = {
        "kind": wanted.kind,
        "repository": wanted.repository,
        "revision": wanted.revision,
        "licence": wanted.licence,
        "files": found,
    }
    temporary = wanted.record.with_name(f".{wanted.record.name}.{os.getpid()}")
    temporary.write_text(yaml.safe_dump(record, sort_keys=False, width=1000), encoding="utf-8")
    temporary.replace(wanted.record)
    return record
