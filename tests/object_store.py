"""A store of objects on the loopback interface, with faults: the requests of S3 that are needed.

It answers those of Cloud Storage, too, which has the same ones with another header.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape, unescape

import pytest

LOST = 0
"""In place of a status: do what is asked, and then answer that the service is unavailable."""


@dataclass
class Fault:
    """What the store does with requests whose "METHOD key" the pattern is found in."""

    pattern: str
    status: int | None = None
    seconds: float = 0.0
    times: float = 1

    def is_for(self, what: str) -> bool:
        if self.times > 0 and re.search(self.pattern, what):
            self.times -= 1
            return True
        return False


@dataclass
class Store:
    """The objects by key, "bucket/name", and the requests so far."""

    url: str
    objects: dict[str, tuple[bytes, datetime]] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    is_exclusive: bool = True
    uploads: dict[str, dict[int, bytes]] = field(default_factory=dict)
    """The parts of every upload in parts, by its number."""
    past: list[dict[str, tuple[bytes, datetime]]] = field(default_factory=list)
    """The objects after every change: what a killed writer may leave."""
    guard: threading.Lock = field(default_factory=threading.Lock)

    def names(self, folder: str) -> set[str]:
        """Return the names of the objects in a folder, without those of leases."""
        found = {key[len(folder) + 1 :] for key in self.objects if key.startswith(f"{folder}/")}
        return {name for name in found if ".lease" not in name}


@contextmanager
def serving() -> Iterator[Store]:
    """Serve an empty store until the context is left."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            where = urlsplit(self.path)
            key = unquote(where.path).strip("/")
            query = parse_qs(where.query, keep_blank_values=True)
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            what = f"{self.command} {key}"
            if self.command == "POST" and "delete" in query:  # several objects by one request
                removed = [unescape(one) for one in re.findall("<Key>(.*?)</Key>", body.decode())]
                what = "DELETE " + " ".join(f"{key}/{name}" for name in removed)
            with store.guard:
                store.requests.append(what)
                fault = next((fault for fault in store.faults if fault.is_for(what)), None)
            if fault is not None:
                time.sleep(fault.seconds)
                if fault.status is not None:
                    if fault.status == LOST:
                        with store.guard:
                            self.perform(key, query, body)
                    self.send(fault.status or 503, b"")
                    return
            with store.guard:
                status, content = self.perform(key, query, body)
                if self.command != "GET":
                    store.past.append(dict(store.objects))
            self.send(status, content)

        do_GET = do_PUT = do_DELETE = do_POST = answer

        def perform(self, key: str, query: dict[str, list[str]], body: bytes) -> tuple[int, bytes]:
            if "uploads" in query or "uploadId" in query:
                return self.upload(key, query, body)
            if self.command == "GET" and "list-type" in query:
                return 200, self.listed(key, query.get("prefix", [""])[0])
            if self.command == "PUT":
                create = "If-None-Match" in self.headers
                create |= self.headers.get("x-goog-if-generation-match") == "0"
                if create and key in store.objects and store.is_exclusive:
                    return 412, b""
                store.objects[key] = body, datetime.now(UTC)
                return 200, b""
            if self.command == "POST":
                keys = re.findall("<Key>.*?</Key>", body.decode())
                for one in keys:
                    store.objects.pop(f"{key}/{unescape(one[5:-6])}", None)
                deleted = "".join(f"<Deleted>{one}</Deleted>" for one in keys)
                return 200, f"<DeleteResult>{deleted}</DeleteResult>".encode()
            if self.command == "DELETE":
                return (204 if store.objects.pop(key, None) else 404), b""
            return (200, store.objects[key][0]) if key in store.objects else (404, b"")

        def upload(self, key: str, query: dict[str, list[str]], body: bytes) -> tuple[int, bytes]:
            """Answer a request of an upload in parts: its beginning, a part, its end."""
            if "uploads" in query:
                number = str(len(store.uploads))
                store.uploads[number] = {}
                uploaded = f"<UploadId>{number}</UploadId>"
                return (
                    200,
                    f"<InitiateMultipartUploadResult>{uploaded}</InitiateMultipartUploadResult>".encode(),
                )
            parts = store.uploads[query["uploadId"][0]]
            if self.command == "PUT":
                parts[int(query["partNumber"][0])] = body
                return 200, b""
            content = b"".join(parts[number] for number in sorted(parts))
            store.objects[key] = content, datetime.now(UTC)
            tag = f"<ETag>{hashlib.md5(content).hexdigest()}</ETag>"
            return (
                200,
                f"<CompleteMultipartUploadResult>{tag}</CompleteMultipartUploadResult>".encode(),
            )

        def listed(self, bucket: str, prefix: str) -> bytes:
            entries = "".join(
                f"<Contents><Key>{escape(key[len(bucket) + 1 :])}</Key><Size>{len(content)}</Size>"
                f"<LastModified>{when:%Y-%m-%dT%H:%M:%S.000Z}</LastModified>"
                f"<ETag>{hashlib.md5(content).hexdigest()}</ETag></Contents>"
                for key, (content, when) in sorted(store.objects.items())
                if key.startswith(f"{bucket}/{prefix}")
            )
            return f"<ListBucketResult>{entries}</ListBucketResult>".encode()

        def send(self, status: int, content: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.send_header("ETag", hashlib.md5(content).hexdigest())
            self.send_header("Last-Modified", "Thu, 26 Nov 2026 12:00:00 GMT")
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *args: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        def handle_error(self, request: object, client_address: object) -> None:
            pass  # the client was killed

    server = Server(("127.0.0.1", 0), Handler)
    store = Store(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield store
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def environment(url: str) -> dict[str, str]:
    """Return environment variables with which programs find the store, for S3 and Cloud Storage."""
    account = {"client_email": "", "private_key": "", "private_key_id": ""}
    return {
        "AWS_ENDPOINT_URL": url,
        "AWS_ALLOW_HTTP": "true",
        "AWS_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": "nobody",
        "AWS_SECRET_ACCESS_KEY": "nothing",
        "GOOGLE_SERVICE_ACCOUNT_KEY": json.dumps(
            {"gcs_base_url": url, "disable_oauth": True, **account}
        ),
    }


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    """Serve a store that this process finds."""
    pytest.importorskip("obstore", reason="needs make install EXTRA=bucket")
    with serving() as made:
        for name, value in environment(made.url).items():
            monkeypatch.setenv(name, value)
        yield made
