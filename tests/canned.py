"""A server on loopback whose every answer is the same bytes, whether they are HTTP or not."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from devcluster.pki import KeyPair


@asynccontextmanager
async def answering(
    content: bytes, *, pause: float = 0.0, serving: KeyPair | None = None
) -> AsyncIterator[tuple[str, list[bytes]]]:
    """A server that answers everything with the same bytes; the address and the heads of the requests it got.

    Args:
        content: the bytes; then the connection is closed.
        pause: seconds after each byte.
        serving: its certificate; without one it speaks no TLS.
    """
    seen: list[bytes] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            seen.append(await reader.readuntil(b"\r\n\r\n"))
            if not pause:
                writer.write(content)
            for byte in content if pause else b"":
                writer.write(bytes([byte]))
                await writer.drain()
                await asyncio.sleep(pause)
            await writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    context = None
    if serving is not None:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(serving.certificate, serving.key)
    server = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=context)
    try:
        yield f"http{'s' if context else ''}://127.0.0.1:{server.sockets[0].getsockname()[1]}", seen
    finally:
        server.close()
