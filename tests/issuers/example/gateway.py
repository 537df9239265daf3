"""The gateway of the worked example, as a real HTTPS server that keeps its keys."""

from __future__ import annotations

import json
import secrets
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from devcluster.pki import KeyPair


@dataclass
class Gateway:
    """A running gateway.

    Attributes:
        token: what its administrators present.
        keys: by name.
        issued: every key that it ever gave.
    """

    token: str = field(default_factory=lambda: secrets.token_hex(16), repr=False)
    port: int = 0
    keys: dict[str, str] = field(default_factory=dict, repr=False)
    issued: list[str] = field(default_factory=list, repr=False)

    def answer(self, method: str, path: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        """Answers one request of an administrator."""
        parts = urlsplit(path)
        if method == "GET":
            [prefix] = parse_qs(parts.query)["prefix"]
            return 200, {"names": [name for name in self.keys if name.startswith(prefix)]}
        name = parts.path.removeprefix("/keys/")
        if method == "PUT" and body["model"] != "small":
            return (403 if body["model"] == "secret-project" else 500), {}
        if method == "PUT":
            self.keys[name] = secrets.token_hex(16)
            self.issued.append(self.keys[name])
            return 200, {"key": self.keys[name], "seconds": body["seconds"]}
        if name not in self.keys:
            return 404, {}
        if method == "DELETE":
            del self.keys[name]
        return 200, {"seconds": body.get("seconds", 0)}


@contextmanager
def running(serving: KeyPair) -> Iterator[Gateway]:
    """A gateway on loopback with this certificate."""
    gateway = Gateway()

    class Handler(BaseHTTPRequestHandler):
        def handle_one(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(length) or b"{}")
            allowed = self.headers.get("Authorization") == f"Bearer {gateway.token}"
            status, answer = gateway.answer(self.command, self.path, body) if allowed else (401, {})
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(json.dumps(answer).encode())

        do_GET = do_PUT = do_PATCH = do_DELETE = handle_one  # noqa: N815 (names that http.server looks for)

        def log_message(self, *_: Any) -> None:
            """Writes nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(serving.certificate, serving.key)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    gateway.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield gateway
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
