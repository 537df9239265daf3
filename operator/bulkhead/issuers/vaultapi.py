"""Requests to Vault's HTTP API, which OpenBao has too, and what its refusals mean.

aiohttp rather than a client library on threads: such a library's time limit counts from one received byte to the
next, so that an answer that trickles in holds its thread for ever, and a thread cannot be cancelled. Six requests are
all that is needed of the API.

What Vault writes into its errors may quote a statement or a token, so its words are only looked at, never handed on.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from yarl import URL

from bulkhead import httpclient
from bulkhead.httpclient import CaFileError, Response, TransportError
from bulkhead.issuers.base import Unavailable

LARGEST_ANSWER = 1 << 20
"""Bytes. A lease is far smaller, and what is delivered has to fit into a Secret, which holds as much."""

DENIED = "denied"
INVALID_TOKEN = "invalid token"  # noqa: S105 - a name for it, none of the kind
GONE = "gone"
UNKNOWN_ROLE = "unknown role"
NO_ROUTE = "no route"
UNSUPPORTED = "unsupported"
NOT_FOUND = "not found"
OTHER = "other"

_MEANINGS: tuple[tuple[str, str], ...] = (
    # Vault 1.15 and later add this line to "permission denied" where the token itself is the reason.
    ("invalid token", INVALID_TOKEN),
    ("bad token", INVALID_TOKEN),
    ("permission denied", DENIED),
    ("invalid accessor", GONE),
    ("lease not found", GONE),
    ("lease expired", GONE),
    ("unknown role", UNKNOWN_ROLE),
    ("invalid role name", UNKNOWN_ROLE),
    ("no handler for route", NO_ROUTE),
    ("unsupported path", UNSUPPORTED),
    ("unsupported operation", UNSUPPORTED),
)
"""What Vault's words mean, the first that fits: its API has no codes beside the HTTP status."""

_BY_STATUS = {403: DENIED, 404: NOT_FOUND, 405: UNSUPPORTED}


class Rejected(Exception):  # noqa: N818 - named for what Vault did, as the other outcomes are
    """Vault understood and said no.

    Attributes:
        status: the HTTP status, 400 to 499.
        meaning: one of this module's constants.
    """

    def __init__(self, *, status: int, meaning: str) -> None:
        super().__init__(f"HTTP status {status}: {meaning}")
        self.status = status
        self.meaning = meaning


class Api:
    """One Vault, or one namespace of it."""

    def __init__(self, *, address: str, namespace: str, ca_file: Path | None, seconds: float) -> None:
        """Prepares; connections are opened when they are needed.

        Args:
            address: `https://HOST:PORT`.
            namespace: sent with every request; empty for none.
            ca_file: PEM bundle that Vault's certificate is verified with; None for the system's. Read again when it
                changes, because a mounted ConfigMap does.
            seconds: for one request in all.
        """
        self._address = address
        self._headers = {"X-Vault-Request": "true"}
        if namespace:
            self._headers["X-Vault-Namespace"] = namespace
        self._ca_file = ca_file
        self._session = httpclient.Session(ca_file=ca_file, seconds=seconds)

    async def call(
        self, method: str, path: str, *, token: str | None = None, body: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        """Sends one request.

        Args:
            method: GET, POST or PUT.
            path: below /v1/, sent as it is.
            token: whose rights to use; None for a login.
            body: sent as JSON.

        Returns:
            The answer's JSON object; empty where Vault answers without a body.

        Raises:
            Rejected: Vault said no.
            Unavailable: nobody can say what became of it: no connection, no answer in time, a server's error, an answer
                that is not Vault's.
        """
        answer = await self._send(method, path, token, body)
        content = _decoded(answer.body)
        # What stands in front of Vault answers too, and its "not found" would say that a credential is dead.
        if content is not None and (answer.status == 204 or (answer.status == 200 and _is_response(content))):
            return content
        is_no = _is_error(content) or _is_response(content)
        if 400 <= answer.status < 500 and answer.status != 429 and content is not None and is_no:
            raise Rejected(status=answer.status, meaning=_meaning(answer.status, content))
        raise Unavailable(self._trouble(answer, content), retry_after=answer.retry_after)

    async def close(self) -> None:
        """Closes the connections."""
        await self._session.close()

    async def _send(self, method: str, path: str, token: str | None, body: Mapping[str, Any] | None) -> Response:
        try:
            return await self._session.request(
                method,
                # As it is: otherwise the URL library would resolve dots in the path.
                URL(f"{self._address}/v1/{path}", encoded=True),
                headers={**self._headers, "X-Vault-Token": token} if token else self._headers,
                json=body,
                largest=LARGEST_ANSWER,
            )
        except TransportError as error:
            raise Unavailable(f"Vault at {self._address} {error}") from None
        except CaFileError as error:
            raise Unavailable(f"caFile {self._ca_file} cannot be used: {error}") from None

    def _trouble(self, answer: Response, content: dict[str, Any] | None) -> str:
        who = f"Vault at {self._address}"
        if 300 <= answer.status < 400:
            return (
                f"{who} sends its callers to another address, where no token is sent: accepted as address is that of "
                "the active node, or of a standby that forwards requests"
            )
        if answer.status == 429:
            return f"{who} takes no more requests for now (HTTP status 429)"
        if content is None or not (_is_error(content) or _is_response(content)):
            return f"{who} answered HTTP status {answer.status} with something that is not Vault's JSON"
        if "sealed" in _words(content):
            return f"{who} is sealed: somebody has to unseal it"
        return f"{who} failed with HTTP status {answer.status}; its own log says why"


def _decoded(body: bytearray | None) -> dict[str, Any] | None:
    """The JSON object; None where it is none. No exception leaves, because it would hold the body."""
    if body is None:
        return None
    if not body:
        return {}
    try:
        content = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return content if isinstance(content, dict) else None


def _is_response(content: Mapping[str, Any] | None) -> bool:
    """Whether an object has what Vault puts into every answer that is more than an error."""
    return content is not None and isinstance(content.get("request_id"), str)


def _is_error(content: Mapping[str, Any] | None) -> bool:
    """Whether an object is what Vault answers to what it does not do."""
    return content is not None and isinstance(content.get("errors"), list)


def _meaning(status: int, content: Mapping[str, Any]) -> str:
    words = _words(content)
    return next((meaning for text, meaning in _MEANINGS if text in words), _BY_STATUS.get(status, OTHER))


def _words(content: Mapping[str, Any]) -> str:
    """What Vault says of an error, only to be looked at. A read that fails has it under `data`, others beside it."""
    data = content.get("data")
    found = [content.get("errors"), data.get("error") if isinstance(data, dict) else None]
    return json.dumps(found).lower()
