"""A stand-in for a model hub on this machine, with which the real huggingface_hub speaks.

It is a reading of the protocol that huggingface_hub 2.4 speaks, not a hub: small files in one commit, no Xet storage.
Everything is in memory.
"""

import base64
import hashlib
import json
import re
from contextlib import AbstractContextManager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from loopback import served

RESOLVE = re.compile(r"/(?P<name>[^/]+/[^/]+)/resolve/(?P<revision>[^/]+)/(?P<file>.+)")
API = re.compile(r"/api/models/(?P<name>[^/]+/[^/]+)/(?P<what>preupload|commit)/(?P<revision>[^/?]+)")

Files = dict[str, bytes]


class Hub(ThreadingHTTPServer):
    """Repositories by name, each with the files of its commits and what branches and tags name.

    closed: names of gated repositories. cut: after how many bytes of a file the connection breaks. asked: method and
    path of every request.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.commits: dict[str, dict[str, Files]] = {}
        self.refs: dict[str, dict[str, str]] = {}
        self.closed: set[str] = set()
        self.cut: int | None = None
        self.asked: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def commit(self, name: str, files: Files, ref: str = "main") -> str:
        """Add files to what a branch or tag names; returns the commit."""
        refs, commits = self.refs.setdefault(name, {}), self.commits.setdefault(name, {})
        whole = {**commits.get(refs.get(ref, ""), {}), **files}
        sha = hashlib.sha1(repr((name, len(commits), sorted(whole))).encode()).hexdigest()
        commits[sha], refs[ref] = whole, sha
        return sha

    def commit_folder(self, name: str, folder: Path, ref: str = "main") -> str:
        return self.commit(name, {path.name: path.read_bytes() for path in folder.iterdir()}, ref)

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that has gone is part of the tests."""


class Answer(BaseHTTPRequestHandler):
    server: Hub

    def do_HEAD(self) -> None:
        self._resolve(body=False)

    def do_GET(self) -> None:
        self._resolve(body=True)

    def do_POST(self) -> None:
        hub, sent = self.server, self.rfile.read(int(self.headers["Content-Length"] or 0))
        hub.asked.append(f"POST {self.path}")
        if self.path == "/api/repos/create":
            asked = json.loads(sent)
            name = f"{asked.get('organization', 'tester')}/{asked['name']}"
            if name not in hub.refs:
                hub.commit(name, {})
            return self._json({"url": f"{hub.url}/{name}"})
        if self.path == "/api/validate-yaml":  # of the card; only the real hub judges it
            return self._json({"errors": [], "warnings": []})
        if not (found := API.fullmatch(self.path.partition("?")[0])):
            return self._refuse(404, "")
        if found["what"] == "preupload":
            names = [file["path"] for file in json.loads(sent)["files"]]
            return self._json(
                {"files": [{"path": name, "uploadMode": "regular", "shouldIgnore": False} for name in names]}
            )
        lines = [json.loads(line) for line in sent.splitlines()]
        files = {
            line["value"]["path"]: base64.b64decode(line["value"]["content"]) for line in lines if line["key"] == "file"
        }
        sha = hub.commit(found["name"], files, found["revision"])
        return self._json({"success": True, "commitOid": sha, "commitUrl": f"{hub.url}/{found['name']}/commit/{sha}"})

    def _resolve(self, body: bool) -> None:
        hub, found = self.server, RESOLVE.fullmatch(self.path)
        hub.asked.append(f"{self.command} {self.path}")
        if not found or found["name"] not in hub.refs:
            return self._refuse(404, "RepoNotFound")
        name, revision = found["name"], found["revision"]
        if name in hub.closed:
            return self._refuse(403, "GatedRepo")
        sha = hub.refs[name].get(revision, revision)
        if sha not in hub.commits[name]:
            return self._refuse(404, "RevisionNotFound")
        content = hub.commits[name][sha].get(found["file"])
        if content is None:
            return self._refuse(404, "EntryNotFound", sha)
        self.send_response(200)
        self.send_header("ETag", f'"{hashlib.sha1(content).hexdigest()}"')
        self.send_header("X-Repo-Commit", sha)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if body:
            self.wfile.write(content[: hub.cut])
        return None

    def _refuse(self, status: int, code: str, sha: str = "") -> None:
        self.send_response(status)
        self.send_header("X-Error-Code", code)
        if sha:
            self.send_header("X-Repo-Commit", sha)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _json(self, answer: Any) -> None:
        content = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        """Keep the output of the tests clean."""


def serving() -> AbstractContextManager[Hub]:
    return served(Hub())
