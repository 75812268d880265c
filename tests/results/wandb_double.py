"""A stand-in for W&B's server on this machine: the real client writes to it, the real wandb.Api reads from it.

It is a reading of the protocol that wandb 0.31 speaks, not W&B's server: what it shows is that our side of the
conversation is right as far as the client goes. It answers the operations that these tests need and fails all others.
Everything is in memory.
"""

import base64
import gzip
import json
import math
import re
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlparse

import psutil
import wandb

ENTITY = "team"
USER = {
    "id": "VXNlcjox",
    "name": "Tester",
    "username": "tester",
    "email": "t@example.invalid",
    "admin": False,
    "flags": "{}",
    "entity": ENTITY,
    "deletedAt": None,
    "apiKeys": {"edges": []},
    "teams": {"edges": [{"node": {"name": ENTITY}}]},
}
STREAM = re.compile(r"/files/([^/]+)/([^/]+)/([^/]+)/file_stream")
OPERATION = re.compile(r"\b(?:query|mutation)\s+(\w+)")
UPSERTED = {"displayName": "display_name", "groupName": "group", "tags": "tags"}


def now() -> str:
    """The time as W&B writes it, but to the microsecond, so that tests need not wait for the next second."""
    seconds = time.time()
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + f".{int(seconds % 1 * 1e6):06d}Z"


def strict(value: Any) -> Any:
    """What the server can send as JSON: NaN and infinity are words."""
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, dict):
        return {key: strict(each) for key, each in value.items()}
    return [strict(each) for each in value] if isinstance(value, list) else value


@dataclass
class OnlineRun:
    """A run as the server has it."""

    project: str
    run_id: str
    display_name: str = ""
    group: str = ""
    tags: list[str] = field(default_factory=list)
    config: dict[str, Any] = field(default_factory=dict)
    summary: dict[str, Any] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    state: str = "running"
    created: str = field(default_factory=now)
    heartbeat: str = field(default_factory=now)

    def values(self) -> dict[str, Any]:
        """The configuration without W&B's wrapping."""
        return {key: each["value"] for key, each in self.config.items() if key != "_wandb"}

    def rows(self) -> list[dict[str, Any]]:
        """The history without W&B's own columns."""
        return [{key: each for key, each in row.items() if not key.startswith("_")} for row in self.history]

    def stream(self, content: Mapping[str, Any]) -> None:
        """Take what the client streams: lines of files from an offset on, and the end."""
        self.heartbeat, self.state = now(), "running"
        for name, part in (content.get("files") or {}).items():
            lines = [json.loads(line) for line in part.get("content") or () if name.endswith((".json", ".jsonl"))]
            if name == "wandb-history.jsonl":
                self.history[part.get("offset", 0) :] = lines
            elif name == "wandb-summary.json":
                self.summary = lines[-1]
        if content.get("complete"):
            self.state = "failed" if content.get("exitcode") else "finished"

    def node(self) -> dict[str, Any]:
        """The run as an answer to a query."""
        last = self.history[-1].get("_step", -1) if self.history else -1
        return {
            "id": base64.b64encode(f"Run:v1:{self.run_id}".encode()).decode(),
            "projectId": "1",
            "internalId": "1",
            "name": self.run_id,
            "displayName": self.display_name,
            "group": self.group,
            "tags": self.tags,
            "state": self.state,
            "createdAt": self.created,
            "heartbeatAt": self.heartbeat,
            "readOnly": False,
            "sweepName": None,
            "jobType": None,
            "commit": None,
            "description": None,
            "notes": None,
            "config": json.dumps(self.config),
            "summaryMetrics": json.dumps(strict(self.summary)),
            "systemMetrics": "{}",
            "historyLineCount": len(self.history),
            "user": USER,
            "historyKeys": {"keys": {}, "lastStep": last, "sets": []},
            "project": {"id": "1", "name": self.project, "entity": {"id": "1", "name": ENTITY}},
        }

    def resume(self) -> dict[str, Any]:
        """The run as an answer to a client that may resume it."""
        tail = json.dumps([json.dumps(strict(row)) for row in self.history[-1:]])
        others = {"logLineCount": 0, "eventsLineCount": 0, "eventsTail": "[]", "wandbConfig": json.dumps({"t": 1})}
        return self.node() | others | {"historyTail": tail}


class Server:
    """The runs, and the operations that were asked for."""

    def __init__(self) -> None:
        self.runs: dict[tuple[str, str], OnlineRun] = {}
        self.asked: list[str] = []
        self.lock = threading.Lock()
        self.url = ""

    def run(self, project: str, run_id: str) -> OnlineRun:
        """A run, a new one if there is none of that id."""
        return self.runs.setdefault((project, run_id), OnlineRun(project, run_id, run_id))

    def answer(self, operation: str, given: Mapping[str, Any]) -> dict[str, Any] | None:
        """The data of a GraphQL operation, None if it is not known."""
        self.asked.append(operation)
        project = given.get("project") or given.get("projectName") or ""
        name = given.get("run") or given.get("runName") or given.get("name") or ""
        match operation:
            case "Viewer" | "GetViewer" | "GetDefaultEntity":
                return {"viewer": USER}
            case "ServerFeaturesQuery":
                return {"serverInfo": {"features": []}}
            case "OrganizationCoreWeaveOrganizationID":
                return {"entity": {"organization": {"coreWeaveOrganizationId": None}}}
            case "UpsertBucket":
                return self._upsert(given)
            case "CreateRunFiles":
                files = [{"name": file, "uploadUrl": f"{self.url}/upload"} for file in given["files"]]
                return {"createRunFiles": {"runID": name, "uploadHeaders": [], "files": files}}
            case "Runs":
                return self._listed(project, int(given.get("cursor") or 0), given["perPage"])
        run = self.runs.get((project, name))
        match operation:
            case "RunResumeStatus":
                owner = {"id": "1", "name": project, "entity": {"id": "1", "name": ENTITY}}
                return {"model": owner | {"bucket": run.resume() if run else None}}
            case "Run" | "RunHistoryKeys":
                return {"project": {"run": run.node() if run else None}}
            case "RunParquetHistory" if run:
                return {"project": {"run": {"parquetHistory": {"parquetUrls": [], "liveData": strict(run.history)}}}}
            case "HistoryPage" | "RunHistoryPage" | "RunFullHistory" if run:
                steps = range(given["minStep"], given["maxStep"])
                rows = [json.dumps(strict(row)) for row in run.history if row["_step"] in steps]
                return {"project": {"run": {"history": rows[: given["pageSize"]]}}}
        return None

    def _upsert(self, given: Mapping[str, Any]) -> dict[str, Any]:
        new = (given["project"], given["name"]) not in self.runs
        run = self.run(given["project"], given["name"])
        for key, own in UPSERTED.items():
            if given.get(key) is not None:
                setattr(run, own, given[key])
        if given.get("config"):
            run.config = json.loads(given["config"])
        if given.get("summaryMetrics"):
            run.summary |= json.loads(given["summaryMetrics"])
        return {"upsertBucket": {"bucket": run.node(), "inserted": new}}

    def _listed(self, project: str, start: int, size: int) -> dict[str, Any]:
        runs = [run for (owner, _), run in self.runs.items() if owner == project]
        if not runs:
            return {"project": None}
        end = min(start + size, len(runs))
        edges = [{"node": run.node(), "cursor": str(end)} for run in runs[start:end]]
        page = {"edges": edges, "pageInfo": {"endCursor": str(end), "hasNextPage": end < len(runs)}}
        return {"project": {"internalId": "1", "runCount": len(runs), "readOnly": False, "runs": page}}


def end_client(patience: float = 10) -> None:
    """End W&B's client and its process.

    The process may miss the request to end (wandb 0.31): it does not read on once its answer to an earlier one, such as
    that an API object is gone, finds the connection closed. The client would wait for it without limit.
    """

    def end_process() -> None:
        for child in psutil.Process().children():
            if child.name() == "wandb-core":
                child.kill()

    watchdog = threading.Timer(patience, end_process)
    watchdog.start()
    try:
        wandb.teardown()
    finally:
        watchdog.cancel()


@contextmanager
def serving() -> Iterator[Server]:
    """A server on a free port of this machine; it ends with the context."""
    server = Server()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body, path = self._body(), urlparse(self.path).path
            with server.lock:
                if path == "/graphql":
                    content = json.loads(body)
                    found = OPERATION.search(re.sub(r"^\s*#.*$", "", content["query"], flags=re.M))
                    operation = found.group(1) if found else "?"
                    data = server.answer(operation, content.get("variables") or {})
                    unknown = None if data else [{"message": f"the double does not know {operation}"}]
                    self._reply(200, {"data": data, "errors": unknown} if unknown else {"data": data})
                elif found := STREAM.fullmatch(path):
                    server.run(found[2], found[3]).stream(json.loads(body))
                    self._reply(200, {})
                else:
                    self._reply(404, {})

        def do_PUT(self) -> None:
            self._body()
            self._reply(200, {})

        def do_GET(self) -> None:
            self._reply(404, {})

        def _body(self) -> bytes:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            return gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body

        def _reply(self, code: int, content: Mapping[str, Any]) -> None:
            body = json.dumps(content).encode()
            self.send_response(code)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments: Any) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        server.url = f"http://127.0.0.1:{http.server_port}"
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        try:
            yield server
        finally:
            http.shutdown()
            thread.join()
