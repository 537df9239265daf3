"""Requests to the servers of signals, with the bearer token that each was given."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

from bulkhead import httpclient
from bulkhead.httpclient import CaFileError, Response, TransportError
from bulkhead.signals.settings import Client


class HttpError(Exception):
    """There is no answer. Its text says why, for people; it is the same for the same cause and holds no secret."""


class HttpClient:
    """One server."""

    def __init__(self, settings: Client, *, seconds: float) -> None:
        """Prepares; connections are opened when they are needed.

        Args:
            settings: where it is, the token, and who vouches for its certificate. The files are read again when they
                are needed: mounted Secrets change.
            seconds: for one request in all.
        """
        self._settings = settings
        self._session = httpclient.Session(ca_file=settings.ca_file, seconds=seconds)

    async def post(
        self,
        url: str,
        *,
        data: Any,
        headers: Mapping[str, str] | None = None,
        largest: int,
        small: int | None = None,
        before_large: Callable[[], Awaitable[Any]] | None = None,
    ) -> Response:
        """Sends one POST.

        Args:
            url: of this server.
            data: bytes, or a mapping that is sent as a form.
            headers: besides the token.
            largest: bytes of an answer at most.
            small: bytes from which an answer is large; None where none is.
            before_large: awaited before the rest of a large answer is read. It counts as the server's time.

        Raises:
            HttpError: there is no answer.
        """
        try:
            return await self._session.request(
                "POST",
                url,
                headers={**(headers or {}), **self._authorization(), "Accept-Encoding": "identity"},
                data=data,
                largest=largest,
                small=small,
                before_large=before_large,
            )
        except TransportError as error:
            raise HttpError(str(error)) from None
        except CaFileError as error:
            raise HttpError(f"cannot be asked: caFile {self._settings.ca_file}: {error}") from None

    async def close(self) -> None:
        """Closes the connections."""
        await self._session.close()

    def _authorization(self) -> dict[str, str]:
        if self._settings.token_file is None:
            return {}
        try:
            return {"Authorization": f"Bearer {read_token(self._settings.token_file)}"}
        except TokenError as error:
            raise HttpError(f"cannot be asked: {error}") from None


class TokenError(Exception):
    """A file holds no token that can be used."""


def read_token(path: Path) -> str:
    """Reads a token from its file.

    Raises:
        TokenError: there is none, or it is none that a header can carry.
    """
    try:
        token = path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise TokenError(f"tokenFile {path} cannot be read: {type(error).__name__}") from None
    if not token or not token.isprintable() or " " in token:
        raise TokenError(f"tokenFile {path} holds no token; accepted is one line without spaces")
    return token
