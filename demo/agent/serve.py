"""What stands around the demo's agents: an HTTP server on port 8080, and a resolver on port 53.

The resolver answers every question with an error; it prints each name, as a real one would hand it on to whoever owns
the domain.
"""

from __future__ import annotations

import os
import socket
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Handler(BaseHTTPRequestHandler):
    """Answers every request with the same sentence."""

    def do_GET(self) -> None:
        """Answer."""
        body = os.environ.get("ANSWER", "nothing to see here").encode() + b"\n"
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def resolve() -> None:
    """Answer questions; print the names."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        s.bind(("", 53))
        while True:
            query, who = s.recvfrom(512)
            print(f"asked for {name(query)}", flush=True)
            s.sendto(query[:2] + b"\x81\x83" + query[4:], who)  # RFC 1035: a response, name error


def name(query: bytes) -> str:
    """The name that a question asks for."""
    labels, at = [], 12
    while at < len(query) and query[at]:
        labels.append(query[at + 1 : at + 1 + query[at]].decode("ascii", "replace"))
        at += 1 + query[at]
    return ".".join(labels)


if __name__ == "__main__":
    threading.Thread(target=resolve, daemon=True).start()
    print("serving", file=sys.stderr, flush=True)
    ThreadingHTTPServer(("", 8080), Handler).serve_forever()
