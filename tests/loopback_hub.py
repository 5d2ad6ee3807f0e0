"""A model hub on this machine: as much of the Hugging Face Hub's HTTP API as `huggingface_hub` needs for a round trip.

`huggingface_hub` reads HF_ENDPOINT when it is imported, so what talks to this hub is a process of its own:

    with LoopbackHub() as hub:
        hub.add("owner/name", {"config.json": b"{}"})
        subprocess.run([sys.executable, "-c", script], env=hub.environment(tmp_path), check=True)
"""

import base64
import hashlib
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

OWNER, TOKEN = "tester", "hf_loopback"
"""Who may write, under names that begin with `OWNER/`, and sees private repositories."""
LFS_SUFFIXES = (".safetensors", ".png", ".webp", ".bin")
REPO = r"(?P<repo>[^/]+/[^/]+)"


class Refused(Exception):
    """An answer with an error's status, as the Hub gives it."""

    def __init__(self, status: int, message: str, code: str | None = None, **content: str):
        super().__init__(message)
        self.status, self.code, self.content = status, code, {"error": message} | content


@dataclass
class Repo:
    """A repository of models: every commit is a whole tree of files."""

    private: bool = False
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    refs: dict[str, str] = field(default_factory=dict)

    def commit(self, files: Mapping[str, bytes], revision: str = "main") -> str:
        """Make `files` the content of a branch; returns the name of the commit."""
        names = [f"{path}:{git_oid(content)}" for path, content in sorted(files.items())]
        oid = hashlib.sha1("\n".join([str(len(self.commits)), *names]).encode()).hexdigest()
        self.commits[oid], self.refs[revision] = dict(files), oid
        return oid

    def resolve(self, revision: str) -> str:
        """The commit of a branch or of itself."""
        oid = self.refs.get(revision, revision)
        if oid not in self.commits:
            raise Refused(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        return oid


def git_oid(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def is_lfs(path: str) -> bool:
    return path.endswith(LFS_SUFFIXES)


def etag(path: str, content: bytes) -> str:
    return hashlib.sha256(content).hexdigest() if is_lfs(path) else git_oid(content)


class LoopbackHub:
    """Serves while its `with` block runs; `requests` are those that came, as "METHOD /path"."""

    def __init__(self) -> None:
        self.repos: dict[str, Repo] = {}
        self.objects: dict[str, bytes] = {}
        self.requests: list[str] = []
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": self}))

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}"

    def __enter__(self) -> "LoopbackHub":
        Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(self, *_) -> None:
        self.server.shutdown()
        self.server.server_close()

    def add(
        self, name: str, files: Mapping[str, bytes] | Path, *, revision: str = "main", private: bool = False
    ) -> str:
        """Put a repository there, or one more commit of it, from files or from a folder; returns the commit's name."""
        if isinstance(files, Path):
            paths = [path for path in files.rglob("*") if path.is_file()]
            files = {path.relative_to(files).as_posix(): path.read_bytes() for path in paths}
        return self.repos.setdefault(name, Repo(private)).commit(files, revision)

    def files(self, name: str, revision: str = "main") -> dict[str, bytes]:
        """What a repository holds."""
        repo = self.repos[name]
        return repo.commits[repo.resolve(revision)]

    def environment(self, home: Path, token: str | None = None) -> dict[str, str]:
        """The environment of a process that takes this for the Hub, with `home` for its cache, signed in or not."""
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
        signed_in = {"HF_TOKEN": token} if token else {}
        return (
            inherited
            | signed_in
            | {
                "HF_ENDPOINT": self.address,
                "HF_HOME": str(home),
                "HF_HUB_DISABLE_XET": "1",
                "HF_HUB_DISABLE_TELEMETRY": "1",
                "OMP_NUM_THREADS": "1",
            }
        )


class _Handler(BaseHTTPRequestHandler):
    """Answers one request; `ROUTES` names the method for each path."""

    hub: LoopbackHub
    protocol_version = "HTTP/1.1"
    match: re.Match[str]
    body: bytes

    ROUTES = (
        ("GET", r"/api/whoami-v2", "whoami"),
        ("POST", r"/api/validate-yaml", "validate_card"),
        ("POST", r"/api/repos/create", "create"),
        ("GET", rf"/api/models/{REPO}(/revision/(?P<revision>[^/]+))?", "info"),
        ("GET", rf"/api/models/{REPO}/tree/(?P<revision>[^/]+)", "tree"),
        ("POST", rf"/api/models/{REPO}/preupload/(?P<revision>[^/]+)", "preupload"),
        ("POST", rf"/api/models/{REPO}/commit/(?P<revision>[^/]+)", "commit"),
        ("POST", rf"/{REPO}\.git/info/lfs/objects/batch", "lfs_batch"),
        ("PUT", r"/objects/(?P<oid>[0-9a-f]{64})", "put_object"),
        ("GET", rf"/{REPO}/resolve/(?P<revision>[^/]+)/(?P<path>.+)", "resolve"),
    )

    def answer(self) -> None:
        self.hub.requests.append(f"{self.command} {self.path}")
        self.body = self._read_body()
        method, path = "GET" if self.command == "HEAD" else self.command, urlsplit(self.path).path
        try:
            for wanted, pattern, name in self.ROUTES:
                if wanted == method and (found := re.fullmatch(pattern, path)):
                    self.match = found
                    getattr(self, name)()
                    return
            raise Refused(404, f"no {self.command} {path} on this hub")
        except Refused as refused:
            headers = {"X-Error-Message": str(refused)} | ({"X-Error-Code": refused.code} if refused.code else {})
            self._send(json.dumps(refused.content).encode(), headers, refused.status)

    do_GET = do_HEAD = do_POST = do_PUT = answer

    def whoami(self) -> None:
        self._signed_in()
        self._send_json({"name": OWNER, "type": "user", "orgs": [], "auth": {"accessToken": {"role": "write"}}})

    def validate_card(self) -> None:
        self._send_json({"errors": [], "warnings": []})

    def create(self) -> None:
        self._signed_in()
        asked = json.loads(self.body)
        name = f"{asked.get('organization') or OWNER}/{asked['name']}"
        self._check_owner(name)
        if name in self.hub.repos:
            raise Refused(409, "You already created this model repo", url=f"{self.hub.address}/{name}")
        self.hub.repos[name] = Repo(private=asked.get("visibility") == "private")
        self.hub.repos[name].commit({".gitattributes": b"*.safetensors filter=lfs\n"})
        self._send_json({"url": f"{self.hub.address}/{name}", "name": name})

    def info(self) -> None:
        repo = self._repo()
        oid = repo.resolve(unquote(self.match["revision"] or "main"))
        with_sizes = "blobs" in parse_qs(urlsplit(self.path).query)
        siblings = []
        for path, content in sorted(repo.commits[oid].items()):
            sibling: dict[str, Any] = {"rfilename": path}
            if with_sizes:
                sibling |= {"size": len(content), "blobId": git_oid(content)}
                lfs = {"sha256": etag(path, content), "size": len(content), "pointerSize": 128}
                sibling |= {"lfs": lfs} if is_lfs(path) else {}
            siblings.append(sibling)
        self._send_json({"id": self.match["repo"], "sha": oid, "private": repo.private, "siblings": siblings})

    def tree(self) -> None:
        repo = self._repo()
        entries = []
        for path, content in sorted(repo.commits[repo.resolve(unquote(self.match["revision"]))].items()):
            entry: dict[str, Any] = {"type": "file", "path": path, "size": len(content), "oid": git_oid(content)}
            lfs = {"oid": etag(path, content), "size": len(content), "pointerSize": 128}
            entries.append(entry | ({"lfs": lfs} if is_lfs(path) else {}))
        self._send_json(entries)

    def preupload(self) -> None:
        files = self._writable().commits[self._writable().resolve(unquote(self.match["revision"]))]
        self._send_json({"files": [
            {
                "path": path,
                "uploadMode": "lfs" if is_lfs(path) else "regular",
                "shouldIgnore": False,
                "oid": etag(path, files[path]) if path in files else None,
            }
            for path in (entry["path"] for entry in json.loads(self.body)["files"])
        ]})  # fmt: skip

    def lfs_batch(self) -> None:
        self._writable()
        objects = []
        for wanted in json.loads(self.body)["objects"]:
            upload = {"upload": {"href": f"{self.hub.address}/objects/{wanted['oid']}", "header": {}}}
            known = wanted["oid"] in self.hub.objects
            objects.append(wanted | ({} if known else {"actions": upload}))
        self._send_json({"transfer": "basic", "objects": objects})

    def put_object(self) -> None:
        if hashlib.sha256(self.body).hexdigest() != self.match["oid"]:
            raise Refused(400, "the content is not what was announced")
        self.hub.objects[self.match["oid"]] = self.body
        self._send(b"")

    def commit(self) -> None:
        repo, revision = self._writable(), unquote(self.match["revision"])
        files = dict(repo.commits[repo.resolve(revision)])
        for line in map(json.loads, self.body.splitlines()):
            key, value = line["key"], line["value"]
            if key == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif key == "lfsFile":
                files[value["path"]] = self.hub.objects[value["oid"]]
            elif key == "deletedFile":
                del files[value["path"]]
            elif key == "deletedFolder":
                files = {path: content for path, content in files.items() if not path.startswith(value["path"])}
        oid = repo.commit(files, revision)
        url = f"{self.hub.address}/{self.match['repo']}/commit/{oid}"
        self._send_json({"success": True, "commitOid": oid, "commitUrl": url})

    def resolve(self) -> None:
        repo, path = self._repo(), unquote(self.match["path"])
        oid = repo.resolve(unquote(self.match["revision"]))
        if path not in repo.commits[oid]:
            raise Refused(404, "Entry not found", "EntryNotFound")
        content = repo.commits[oid][path]
        self._send(content, {"ETag": f'"{etag(path, content)}"', "X-Repo-Commit": oid})

    def _repo(self) -> Repo:
        """The repository that is asked for; one that is missing and one that is private look alike to strangers."""
        repo = self.hub.repos.get(self.match["repo"])
        if repo is None or (repo.private and not self._is_signed_in):
            raise Refused(404 if self._is_signed_in else 401, "Repository not found", "RepoNotFound")
        return repo

    def _writable(self) -> Repo:
        self._signed_in()
        self._check_owner(self.match["repo"])
        return self._repo()

    def _check_owner(self, name: str) -> None:
        if not name.startswith(f"{OWNER}/"):
            raise Refused(
                403, f"You don't have the rights to create a model under the namespace {name.split('/')[0]!r}"
            )

    @property
    def _is_signed_in(self) -> bool:
        return self.headers.get("Authorization") == f"Bearer {TOKEN}"

    def _signed_in(self) -> None:
        if not self._is_signed_in:
            raise Refused(401, "Invalid username or password.")

    def _read_body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def _send_json(self, content: Any) -> None:
        self._send(json.dumps(content).encode(), {"Content-Type": "application/json"})

    def _send(self, content: bytes, headers: Mapping[str, str] = {}, status: int = 200) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, *_) -> None:
        """Nothing is printed."""
