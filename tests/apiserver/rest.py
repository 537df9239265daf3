"""A plain client for the tests that ask the API server itself.

It shares nothing with the operator's client, so that neither can hide a fault of the other.
"""

from __future__ import annotations

import http.client
import json
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import urlencode, urlsplit

from devcluster.kubeconfig import read

AGENTS = "/apis/bulkhead.dev/v1alpha1/namespaces/{namespace}/agentdeployments"
APPLY = "application/apply-patch+yaml"
MERGE = "application/merge-patch+json"


_UNSAFE = {code: f"\\u{code:04x}" for code in (*range(0x7F, 0xA0), 0x2028, 0x2029, 0xFEFF, 0xFFFE, 0xFFFF)}


def yaml_safe(value: Any) -> str:
    """JSON that a YAML parser reads as the same value, which an apply patch is read by.

    YAML knows no escapes in surrogate pairs, so characters above U+FFFF are written as they are; characters that it
    refuses or folds when they stand as they are, are written as escapes.
    """
    return json.dumps(value, ensure_ascii=False).translate(_UNSAFE)


@dataclass(frozen=True)
class Answer:
    """What the API server said."""

    status: int
    body: dict[str, Any]
    warnings: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """Whether the request was carried out."""
        return 200 <= self.status < 300

    @property
    def message(self) -> str:
        """The message of a refusal."""
        return str(self.body.get("message", ""))


IDLE = 30.0
"""Seconds after which a connection is not used again."""


class Rest:
    """One connection to an API server, as the user of a kubeconfig."""

    def __init__(self, kubeconfig: Path, *, timeout: float = 60) -> None:
        """Reads a kubeconfig that holds the user's certificate or its token."""
        config = read(kubeconfig)
        self._headers = {"Accept": "application/json"}
        if config.token:
            self._headers["Authorization"] = f"Bearer {config.token}"
        server = urlsplit(config.server)
        self._connection = http.client.HTTPSConnection(
            str(server.hostname), server.port, context=config.trust(), timeout=timeout
        )
        self._used = time.monotonic()

    def __enter__(self) -> Rest:
        """Gives itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Closes the connection."""
        self._connection.close()

    def send(
        self, method: str, path: str, body: Any = None, *, content_type: str = "application/json", **query: str
    ) -> Answer:
        """Sends one request; `body` is JSON, or text that is sent as it is."""
        target = f"{path}?{urlencode(query)}" if query else path
        if time.monotonic() - self._used > IDLE:
            # The API server may have closed it meanwhile; the next request opens another one.
            self._connection.close()
        data = None if body is None else (body if isinstance(body, str) else yaml_safe(body)).encode()
        headers = self._headers | ({"Content-Type": content_type} if data is not None else {})
        self._connection.request(method, target, body=data, headers=headers)
        response = self._connection.getresponse()
        warnings = tuple(response.headers.get_all("Warning") or ())
        content = response.read()
        self._used = time.monotonic()
        return Answer(response.status, json.loads(content or b"{}"), warnings)

    def get(self, path: str, **query: str) -> Answer:
        """Reads."""
        return self.send("GET", path, **query)

    def post(self, path: str, body: Any, **query: str) -> Answer:
        """Creates."""
        return self.send("POST", path, body, **query)

    def patch(self, path: str, body: Any, *, content_type: str = MERGE, **query: str) -> Answer:
        """Patches, by merge unless another content type is given."""
        return self.send("PATCH", path, body, content_type=content_type, **query)

    def delete(self, path: str, body: Any = None, **query: str) -> Answer:
        """Deletes."""
        return self.send("DELETE", path, body, **query)
