"""A Hub on loopback: as much of the Hugging Face Hub's protocol as the real client needs, and faults on demand.

with serve() as hub:
    hub.commit("org/repo", {"model.safetensors": b"..."})
    hub.cut_after = [1000]        # the next transfer breaks off there
"""

from __future__ import annotations

import base64
import contextlib
import gzip
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

LARGE = (".safetensors",)


@dataclass
class Repo:
    """A repository: commits oldest first, and names of them."""

    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    refs: dict[str, str] = field(default_factory=dict)
    private: bool = False


@dataclass
class Hub:
    """The state of the server, and what it does wrong."""

    port: int = 0
    token: str = "hf_secret"
    repos: dict[str, Repo] = field(default_factory=dict)
    blobs: dict[str, bytes] = field(default_factory=dict)
    requests: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)
    cut_after: list[int] = field(default_factory=list)
    """Bytes after which the next transfers break off."""
    corrupt: bool = False
    ignore_ranges: bool = False
    status: int = 0
    """What every request is answered with."""
    delay: float = 0.0
    """Seconds before a transfer begins."""
    gate: threading.Event | None = None
    """What a transfer waits for before it begins."""
    hold: threading.Event | None = None
    """What a transfer waits for before it breaks off."""
    foreign: bool = False
    """Answer as a web server that is no Hub."""
    retry_after: str = ""
    """What every request is answered with, and 429."""
    body: str = ""
    """How transfers lie: "gzip" (a few bytes that unpack to many), "endless", "long" (a length that never comes),
    "short" (an end before all is sent), "portal" (a page), "from the start" and "ahead" (another part)."""
    odd_json: bool = False
    """Answer with JSON of another shape."""
    later: dict[str, str] = field(default_factory=dict)
    """What the second answer about a file says instead, and those behind it."""
    later_status: int = 0
    """What these are answered with."""
    silent: threading.Event | None = None
    """What a POST waits for before it is answered."""

    @property
    def endpoint(self) -> str:
        """For HF_ENDPOINT."""
        return f"http://127.0.0.1:{self.port}"

    def commit(self, name: str, files: dict[str, bytes], *, branch: str = "main", private: bool = False) -> str:
        """Add a commit with these files and those of the one before; returns its name."""
        repo = self.repos.setdefault(name, Repo(private=private))
        before = repo.commits.get(repo.refs.get(branch, ""), {})
        content = before | files
        oid = hashlib.sha1(f"{name} {len(repo.commits)} {sorted(content)}".encode()).hexdigest()
        repo.commits[oid], repo.refs[branch] = content, oid
        self.blobs |= {hashlib.sha256(data).hexdigest(): data for data in files.values()}
        return oid

    def transfers(self) -> list[str]:
        """The Range headers of all transfers so far, empty strings for whole ones."""
        return [headers.get("range", "") for method, path, headers in self.requests if path.startswith("/cdn/")]


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    hub: Hub

    def log_message(self, *_: object) -> None:
        """Nothing is printed."""

    def do_HEAD(self) -> None:
        self.answer_get()

    def do_GET(self) -> None:
        self.answer_get()

    def answer_get(self) -> None:
        path = self.begin()
        if self.hub.retry_after:
            return self.send(429, b"later", {"Retry-After": self.hub.retry_after})
        if self.hub.status:
            return self.send(self.hub.status, b"no")
        if self.hub.foreign:
            return self.send(200, b"<html>Please log in to the hotel's network</html>")
        if match := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            return self.resolve(match[1], unquote(match[2]), unquote(match[3]))
        if match := re.fullmatch(r"/cdn/([0-9a-f]{64})", path):
            return self.transfer(self.hub.blobs[match[1]])
        if match := re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/revision/.+)?", path):
            repo = self.hub.repos.get(match[1])
            if repo is None:
                return self.send(404, b"", {"X-Error-Code": "RepoNotFound"})
            return self.json(
                {"id": match[1], "sha": repo.refs.get("main", ""), "private": repo.private, "siblings": []}
            )
        self.send(404, b"what?")

    def do_POST(self) -> None:
        path = self.begin()
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.hub.silent:
            self.hub.silent.wait(60)
        if self.hub.odd_json:
            return self.send(200, b"[1, 2]", {"Content-Type": "application/json"})
        if self.hub.status:
            return self.send(self.hub.status, b"no")
        if self.headers.get("Authorization") != f"Bearer {self.hub.token}":
            return self.send(401, b"", {"X-Error-Message": "Invalid credentials in Authorization header"})
        if path == "/api/validate-yaml":
            return self.json({"errors": [], "warnings": []})
        if path == "/api/repos/create":
            asked = json.loads(body)
            name = f"{asked['organization']}/{asked['name']}" if asked.get("organization") else asked["name"]
            known = name in self.hub.repos
            self.hub.repos.setdefault(name, Repo(private=asked.get("visibility") == "private"))
            return self.json({"url": f"{self.hub.endpoint}/{name}"}, 409 if known else 200)
        if match := re.fullmatch(r"/api/models/([^/]+/[^/]+)/preupload/([^/]+)", path):
            files = json.loads(body)["files"]
            modes = {True: "lfs", False: "regular"}
            chosen = [
                {"path": file["path"], "uploadMode": modes[file["path"].endswith(LARGE)], "shouldIgnore": False}
                for file in files
            ]
            return self.json({"files": chosen})
        if path.endswith("/info/lfs/objects/batch"):
            wanted = json.loads(body)["objects"]
            return self.json({"transfer": "basic", "objects": [self.lfs_action(item) for item in wanted]})
        if path == "/lfs/verify":
            asked = json.loads(body)
            return self.json({}, 200 if len(self.hub.blobs.get(asked["oid"], b"")) == asked["size"] else 404)
        if match := re.fullmatch(r"/api/models/([^/]+/[^/]+)/commit/([^/]+)", path):
            return self.take_commit(match[1], match[2], [json.loads(line) for line in body.splitlines()])
        self.send(404, b"what?")

    def do_PUT(self) -> None:
        path = self.begin()
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        oid = path.rpartition("/")[2]
        if hashlib.sha256(body).hexdigest() != oid:
            return self.send(400, b"other bytes")
        self.hub.blobs[oid] = body
        self.send(200, b"")

    def resolve(self, name: str, revision: str, file: str) -> None:
        repo = self.hub.repos.get(name)
        if repo is None:
            return self.send(404, b"", {"X-Error-Code": "RepoNotFound"})
        if repo.private and self.headers.get("Authorization") != f"Bearer {self.hub.token}":
            return self.send(401, b"", {"X-Error-Code": "GatedRepo"})
        commit = repo.refs.get(revision, revision)
        if commit not in repo.commits:
            return self.send(404, b"", {"X-Error-Code": "RevisionNotFound"})
        about = {"X-Repo-Commit": commit}
        again = sum(path.startswith(f"/{name}/resolve/") for _, path, _ in self.hub.requests) > 1
        if again and self.hub.later_status:
            return self.send(self.hub.later_status, b"no")
        if file not in repo.commits[commit]:
            return self.send(404, b"", {"X-Error-Code": "EntryNotFound"} | about)
        data = repo.commits[commit][file]
        if file.endswith(LARGE):
            oid = hashlib.sha256(data).hexdigest()
            about |= {"X-Linked-Etag": f'"{oid}"', "X-Linked-Size": str(len(data)), "ETag": f'"{oid}"'}
            about |= self.hub.later if again else {}
            # another host name: the client must not take its token there
            return self.send(302, b"", about | {"Location": f"http://localhost:{self.hub.port}/cdn/{oid}"})
        etag = hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
        self.send(200, data, about | {"ETag": f'"{etag}"'})

    def transfer(self, data: bytes) -> None:
        """The bytes of a large file, all or from somewhere on."""
        threading.Event().wait(self.hub.delay)  # tests take time.sleep away from the client
        if self.hub.gate:
            self.hub.gate.wait(60)
        if self.hub.corrupt:
            data = bytes(len(data))
        start, status, about = 0, 200, {}
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        if asked and not self.hub.ignore_ranges:
            start, status = int(asked[1]), 206
            about = {"Content-Range": f"bytes {start}-{len(data) - 1}/{len(data)}"}
        rest = data[start:]
        if not self.hub.cut_after or self.command == "HEAD":
            return self.lie(start, data) if self.hub.body else self.send(status, rest, about)
        self.begin_answer(status, len(rest), about)
        self.wfile.write(rest[: self.hub.cut_after.pop(0)])
        self.wfile.flush()
        if self.hub.hold:
            self.hub.hold.wait(60)
        self.close_connection = True
        self.connection.close()

    def lie(self, start: int, data: bytes) -> None:
        """Send something else than what was announced, or asked for."""
        rest = data[start:]
        with contextlib.suppress(ConnectionError):
            if self.hub.body == "gzip":
                packed = gzip.compress(bytes(64 << 20))
                self.begin_answer(200, len(packed), {"Content-Encoding": "gzip"})
                self.wfile.write(packed)
            elif self.hub.body == "endless":
                self.begin_answer(200, None, {"Connection": "close"})
                while True:
                    self.wfile.write(bytes(1 << 16))
            elif self.hub.body == "short":
                self.begin_answer(200, None, {"Connection": "close"})
                self.wfile.write(rest[: len(rest) // 2])
                self.close_connection = True
            elif self.hub.body == "portal":
                self.send(200, b"<html>Your password, please</html>")
            elif self.hub.body in ("from the start", "ahead"):
                start = 0 if self.hub.body == "from the start" else start + 100
                about = {"Content-Range": f"bytes {start}-{len(data) - 1}/{len(data)}"}
                self.send(206, data[start:], about)
            else:
                self.begin_answer(200, len(rest) + 1000, {})
                self.wfile.write(rest)
                self.close_connection = True
                self.connection.close()

    def lfs_action(self, item: dict) -> dict:
        if item["oid"] in self.hub.blobs:
            return item
        href = f"{self.hub.endpoint}/lfs/{item['oid']}"
        return item | {
            "actions": {"upload": {"href": href}, "verify": {"href": f"{self.hub.endpoint}/lfs/verify"}},
        }

    def take_commit(self, name: str, branch: str, lines: list[dict]) -> None:
        files = {}
        for line in lines:
            value = line["value"]
            if line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                files[value["path"]] = self.hub.blobs[value["oid"]]
        oid = self.hub.commit(name, files, branch=unquote(branch))
        self.json({"success": True, "commitOid": oid, "commitUrl": f"{self.hub.endpoint}/{name}/commit/{oid}"})

    def begin(self) -> str:
        path = urlsplit(self.path).path
        about = {key.lower(): value for key, value in self.headers.items()}
        self.hub.requests.append((self.command, path, about))
        return path

    def json(self, value: dict, status: int = 200) -> None:
        self.send(status, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def begin_answer(self, status: int, length: int | None, headers: dict[str, str]) -> None:
        self.send_response(status)
        known = {} if length is None else {"Content-Length": str(length)}
        for key, value in {**known, **headers}.items():
            self.send_header(key, value)
        self.end_headers()

    def send(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        with contextlib.suppress(ConnectionError):  # a client that no longer waits
            self.begin_answer(status, len(body), headers or {})
            if self.command != "HEAD":
                self.wfile.write(body)


@contextlib.contextmanager
def serve() -> Iterator[Hub]:
    """A Hub that runs until the block ends."""
    hub = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (Handler,), {"hub": hub}))
    server.daemon_threads = True
    hub.port = server.server_port
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
