"""A server on this machine that answers the hub's own client as the hub does: commits, trees, files, and refusals."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

REPOSITORIES = ("models", "datasets")


class Hub:
    """What it has: (models or datasets, repository) -> commit -> path -> content; the last commit is `main`."""

    def __init__(self) -> None:
        self.repositories: dict[tuple[str, str], dict[str, dict[str, bytes]]] = {}
        self.gated: set[str] = set()
        self.requests: list[tuple[str, str | None]] = []  # method and path, and the authorization that came with it
        self.url = ""

    def add(self, kind: str, repository: str, revision: str, files: dict[str, bytes]) -> None:
        self.repositories.setdefault((kind, repository), {})[revision] = files


@contextmanager
def running(hub: Hub) -> Iterator[Hub]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self) -> None:
            self._answer(body=False)

        def do_GET(self) -> None:
            self._answer(body=True)

        def log_message(self, *_: object) -> None:
            pass

        def _answer(self, body: bool) -> None:
            hub.requests.append((f"{self.command} {self.path}", self.headers.get("authorization")))
            status, headers, content = self._found(self.path.partition("?")[0].strip("/"))
            self.send_response(status)
            for key, value in {"Content-Length": str(len(content)), **headers}.items():
                self.send_header(key, value)
            self.end_headers()
            if body:
                self.wfile.write(content)

        def _found(self, path: str) -> tuple[int, dict[str, str], bytes]:
            parts = path.split("/")
            if parts[0] == "api":
                kind, repository, rest = parts[1], "/".join(parts[2:4]), parts[4:]
            else:
                kind = "datasets" if parts[0] == "datasets" else "models"
                parts = parts[1:] if kind == "datasets" else parts
                repository, rest = "/".join(parts[:2]), parts[2:]
            commits = hub.repositories.get((kind, repository))
            if commits is None:
                return 404, {"X-Error-Code": "RepoNotFound"}, b""
            if repository in hub.gated:
                return 403, {"X-Error-Code": "GatedRepo"}, b""
            revision = rest[1] if len(rest) > 1 else "main"
            revision = list(commits)[-1] if revision == "main" else revision
            if revision not in commits:
                return 404, {"X-Error-Code": "RevisionNotFound"}, b""
            files = commits[revision]
            if not rest or rest[0] == "revision":
                info = {"id": repository, "sha": revision, "siblings": [{"rfilename": name} for name in files]}
                return 200, {"Content-Type": "application/json"}, json.dumps(info).encode()
            if rest[0] == "tree":
                tree = [
                    {"type": "file", "path": name, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}
                    for name, content in files.items()
                ]
                return 200, {"Content-Type": "application/json"}, json.dumps(tree).encode()
            content = files.get("/".join(rest[2:]))
            if content is None:
                return 404, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": revision}, b""
            return 200, {"ETag": f'"{hashlib.sha1(content).hexdigest()}"', "X-Repo-Commit": revision}, content

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    hub.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
