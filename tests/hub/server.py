"""A server that speaks the part of the Hugging Face Hub's API that huggingface_hub needs for models, in memory.

Refuses wrong tokens, unknown repositories, revisions and files as the Hub does. Every commit is kept. Large files are
uploaded by Git LFS and downloaded from another host name, to which the client must not send its token.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import yaml  # type: ignore[import-untyped]

USERS = {"hf_writer": "ann", "hf_stranger": "bob", "hf_user": "user"}
"""Users by token."""
READERS = {"hf_reader": "ann"}
"""Tokens that may only read."""
LICENSES = {"mit", "apache-2.0", "cc-by-sa-3.0"}
ATTRIBUTES = b"*.safetensors filter=lfs diff=lfs merge=lfs -text\n"


@dataclass
class Repository:
    private: bool
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    refs: dict[str, str] = field(default_factory=dict)
    blocked: str = ""
    """A status with which every request is refused, such as ``503``; or ``gated``."""

    def commit(self, files: dict[str, bytes]) -> str:
        listing = json.dumps([self.refs, {name: git_hash(data) for name, data in files.items()}])
        sha = hashlib.sha1(listing.encode(), usedforsecurity=False).hexdigest()
        self.commits[sha] = files
        self.refs["main"] = sha
        return sha

    def find(self, revision: str) -> str | None:
        return revision if revision in self.commits else self.refs.get(revision)


def git_hash(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()


def is_large(path: str) -> bool:
    return path.endswith(".safetensors")


class Hub(ThreadingHTTPServer):
    """The server, and what it has.

    Attributes:
        repositories: By their names.
        requests: Method and path of each request.
        tokens_of_files: The ``Authorization`` headers that came to the host of large files.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.repositories: dict[str, Repository] = {}
        self.large_files: dict[str, bytes] = {}
        self.requests: list[str] = []
        self.tokens_of_files: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class RefusedError(Exception):
    def __init__(self, status: int, message: str, code: str = "", **fields: object) -> None:
        self.status, self.message, self.code, self.fields = status, message, code, fields


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Hub

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        self._answer()

    do_POST = do_PUT = do_HEAD = do_GET  # noqa: N815

    def _answer(self) -> None:
        self.server.requests.append(f"{self.command} {self.path}")
        self.body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if "chunked" in self.headers.get("Transfer-Encoding", ""):
            self.body = b"".join(self._chunks())
        address = urlsplit(self.path)
        self.query = parse_qs(address.query)
        try:
            for method, pattern, function in _ROUTES:
                found = re.fullmatch(pattern, address.path)
                if found and self.command in method:
                    function(self, *map(unquote, found.groups()))
                    return
            raise RefusedError(404, f"no such endpoint: {self.command} {address.path}")
        except RefusedError as error:
            content = json.dumps({"error": error.message, **error.fields}).encode()
            headers = {"X-Error-Message": error.message, **({"X-Error-Code": error.code} if error.code else {})}
            self._send(error.status, content, headers)

    def _chunks(self) -> Iterator[bytes]:
        while size := int(self.rfile.readline(), 16):
            yield self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()

    def _send(self, status: int, content: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), "Date": formatdate(), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def _json(self, value: object, status: int = 200) -> None:
        self._send(status, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _user(self) -> str | None:
        header = self.headers.get("Authorization")
        if header is None:
            return None
        token = header.removeprefix("Bearer ")
        if token not in USERS and token not in READERS:
            raise RefusedError(401, "Invalid credentials in Authorization header")
        return {**USERS, **READERS}[token]

    def _repository(self, name: str, *, writing: bool = False) -> Repository:
        user, found = self._user(), self.server.repositories.get(name)
        is_owner = user is not None and user == name.partition("/")[0]
        if found is None or (found.private and not is_owner):
            if user is None:
                raise RefusedError(401, "Invalid username or password.", "RepoNotFound")
            raise RefusedError(404, "Repository not found", "RepoNotFound")
        if found.blocked == "gated":
            raise RefusedError(403, f"Access to model {name} is restricted.", "GatedRepo")
        if found.blocked:
            raise RefusedError(int(found.blocked), "out of order")
        if writing and (not is_owner or self.headers["Authorization"].removeprefix("Bearer ") in READERS):
            raise RefusedError(403, "Forbidden: pass `create_pr=1` as a query parameter to create a Pull Request")
        return found

    def _commit(self, name: str, revision: str) -> tuple[str, dict[str, bytes]]:
        repository = self._repository(name)
        sha = repository.find(revision)
        if sha is None:
            raise RefusedError(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        return sha, repository.commits[sha]

    def create(self) -> None:
        user, fields = self._user(), json.loads(self.body)
        if user is None:
            raise RefusedError(401, "Invalid username or password.")
        if fields["organization"] != user or self.headers["Authorization"].removeprefix("Bearer ") in READERS:
            raise RefusedError(403, f"You don't have the rights to create a model under the namespace {user}")
        name = f"{fields['organization']}/{fields['name']}"
        answer = {"url": f"{self.server.url}/{name}", "name": name}
        if name in self.server.repositories:
            raise RefusedError(409, "You already created this model repo", **answer)
        made = Repository(fields.get("visibility") == "private" or bool(fields.get("private")))
        made.commit({".gitattributes": ATTRIBUTES})
        self.server.repositories[name] = made
        self._json(answer)

    def info(self, name: str, revision: str = "main") -> None:
        sha, files = self._commit(name, revision)
        private = self.server.repositories[name].private
        siblings = [{"rfilename": path} for path in files]
        self._json({"id": name, "sha": sha, "private": private, "siblings": siblings, "tags": [], "downloads": 0})

    def tree(self, name: str, revision: str) -> None:
        _, files = self._commit(name, revision)
        entries: list[dict[str, Any]] = []
        for path, data in files.items():
            entry = {"type": "file", "path": path, "size": len(data), "oid": git_hash(data)}
            if is_large(path):
                sha256 = hashlib.sha256(data).hexdigest()
                entry["lfs"] = {"oid": sha256, "size": len(data), "pointerSize": 130}
            entries.append(entry)
        self._json(entries)

    def validate(self) -> None:
        front = re.match(r"---\n(.*?)\n---\n", json.loads(self.body)["content"], re.DOTALL)
        fields = yaml.safe_load(front[1]) if front else {}
        errors = []
        if "license" in fields and fields["license"] not in LICENSES:
            errors.append({"message": f'"license" must be one of {sorted(LICENSES)}'})
        if not all(re.fullmatch("[a-z]{2,3}", code) for code in fields.get("language") or []):
            errors.append({"message": '"language" must only contain lowercase characters'})
        self._json({"errors": errors, "warnings": []}, 400 if errors else 200)

    def preupload(self, name: str, revision: str) -> None:
        self._repository(name, writing=True)
        _, files = self._commit(name, revision)
        answers = []
        for each in json.loads(self.body)["files"]:
            path = each["path"]
            answer = {"path": path, "uploadMode": "lfs" if is_large(path) else "regular", "shouldIgnore": False}
            if path in files:
                data = files[path]
                answer["oid"] = hashlib.sha256(data).hexdigest() if is_large(path) else git_hash(data)
            answers.append(answer)
        self._json({"files": answers})

    def batch(self, name: str) -> None:
        self._repository(name, writing=True)
        objects = []
        for each in json.loads(self.body)["objects"]:
            entry: dict[str, Any] = {"oid": each["oid"], "size": each["size"]}
            if each["oid"] not in self.server.large_files:
                entry["actions"] = {"upload": {"href": f"{self.server.url}/storage/{each['oid']}"}}
            objects.append(entry)
        self._json({"transfer": "basic", "objects": objects})

    def store(self, oid: str) -> None:
        if hashlib.sha256(self.body).hexdigest() != oid:
            raise RefusedError(400, "the content has another checksum")
        self.server.large_files[oid] = self.body
        self._send(200, b"")

    def commit(self, name: str, revision: str) -> None:
        repository = self._repository(name, writing=True)
        _, before = self._commit(name, revision)
        files = dict(before)
        header, *operations = map(json.loads, self.body.splitlines())
        assert header["key"] == "header"
        assert header["value"]["summary"]
        for operation in operations:
            value = operation["value"]
            match operation["key"]:
                case "file":
                    files[value["path"]] = base64.b64decode(value["content"])
                case "lfsFile":
                    files[value["path"]] = self.server.large_files[value["oid"]]
                case "deletedFile":
                    del files[value["path"]]
                case _:
                    raise RefusedError(400, "unknown operation")
        sha = repository.commit(files)
        self._json({"success": True, "commitOid": sha, "commitUrl": f"{self.server.url}/{name}/commit/{sha}"})

    def resolve(self, name: str, revision: str, path: str) -> None:
        sha, files = self._commit(name, revision)
        headers = {"X-Repo-Commit": sha}
        if path not in files:
            raise RefusedError(404, "Entry not found", "EntryNotFound")
        data = files[path]
        if not is_large(path):
            self._send(200, data, {**headers, "ETag": f'"{git_hash(data)}"'})
            return
        oid = hashlib.sha256(data).hexdigest()
        headers |= {"X-Linked-ETag": f'"{oid}"', "X-Linked-Size": str(len(data))}
        self._send(302, b"", {**headers, "Location": f"http://localhost:{self.server.server_port}/files/{oid}"})

    def large_file(self, oid: str) -> None:
        self.server.tokens_of_files += [self.headers["Authorization"]] if "Authorization" in self.headers else []
        data = self.server.large_files[oid]
        self._send(200, data, {"ETag": f'"{oid}"'})


_NAME = r"([\w.-]+/[\w.-]+)"
_ROUTES: list[tuple[str, str, Any]] = [
    ("POST", "/api/repos/create", _Handler.create),
    ("POST", "/api/validate-yaml", _Handler.validate),
    ("GET", f"/api/models/{_NAME}", _Handler.info),
    ("GET", f"/api/models/{_NAME}/revision/([^/]+)", _Handler.info),
    ("GET", f"/api/models/{_NAME}/tree/([^/]+)", _Handler.tree),
    ("POST", f"/api/models/{_NAME}/preupload/([^/]+)", _Handler.preupload),
    ("POST", f"/api/models/{_NAME}/commit/([^/]+)", _Handler.commit),
    ("POST", rf"/{_NAME}\.git/info/lfs/objects/batch", _Handler.batch),
    ("PUT", "/storage/([0-9a-f]{64})", _Handler.store),
    ("GET HEAD", f"/{_NAME}/resolve/([^/]+)/(.+)", _Handler.resolve),
    ("GET HEAD", "/files/([0-9a-f]{64})", _Handler.large_file),
]


@contextlib.contextmanager
def running_hub() -> Iterator[Hub]:
    """A server that answers in threads of its own until the block ends."""
    with Hub() as hub:
        thread = threading.Thread(target=hub.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield hub
        finally:
            hub.shutdown()
            thread.join()
