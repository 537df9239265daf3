"""A metadata service such as clouds have at 169.254.169.254, with credentials that open nothing.

It is run as a program: metadata.py PORT ADDRESS,... It answers like EC2's (both versions, with a session token and
without) and like GCE's. With a real one, whoever gets an answer has the node's role.
"""

from __future__ import annotations

import json
import socket
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

ROLE = "node-role"
SESSION_TOKEN = "devcluster-imdsv2-session"  # noqa: S105 - opens nothing

_CREDENTIALS = {
    "Code": "Success",
    "Type": "AWS-HMAC",
    "AccessKeyId": "ASIADEVCLUSTER000000",
    "SecretAccessKey": "this-key-opens-nothing",
    "Token": "this-token-opens-nothing",
    "Expiration": "2099-01-01T00:00:00Z",
}

_PAGES = {
    "/": "latest\ncomputeMetadata/\n",
    "/latest/meta-data/": "ami-id\nhostname\niam/\ninstance-id\n",
    "/latest/meta-data/hostname": "node-1",
    "/latest/meta-data/instance-id": "i-0bulkheaddev00000",
    "/latest/meta-data/iam/security-credentials/": ROLE,
    f"/latest/meta-data/iam/security-credentials/{ROLE}": json.dumps(_CREDENTIALS, indent=2),
}

_GOOGLE_TOKEN = "/computeMetadata/v1/instance/service-accounts/default/token"  # noqa: S105 - a path


class Handler(BaseHTTPRequestHandler):
    """Answers one request."""

    def do_GET(self) -> None:
        """Serve a page; Google's only with the header that its own service wants."""
        path = self.path.partition("?")[0]
        if path == _GOOGLE_TOKEN:
            if self.headers.get("Metadata-Flavor") != "Google":
                self._answer(403, "Missing required header: Metadata-Flavor: Google\n")
                return
            token = {"access_token": "this-token-opens-nothing", "expires_in": 3599, "token_type": "Bearer"}
            self._answer(200, json.dumps(token))
        elif path in _PAGES:
            self._answer(200, _PAGES[path])
        else:
            self._answer(404, "not found\n")

    def do_PUT(self) -> None:
        """Hand out a session token, as the second version of EC2's service does."""
        if self.path == "/latest/api/token":
            self._answer(200, SESSION_TOKEN)
        else:
            self._answer(404, "not found\n")

    def _answer(self, status: int, text: str) -> None:
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


class Server(ThreadingHTTPServer):
    """A server at an address of either family."""

    def __init__(self, address: str, port: int) -> None:
        self.address_family = socket.AF_INET6 if ":" in address else socket.AF_INET
        super().__init__((address, port), Handler)


def main(port: int, *addresses: str) -> None:
    """Serve until ended."""
    servers = [Server(address, port) for address in addresses]
    for server in servers[1:]:
        threading.Thread(target=server.serve_forever, daemon=True).start()
    servers[0].serve_forever()


if __name__ == "__main__":
    main(int(sys.argv[1]), *sys.argv[2].split(","))
