"""A wire between the issuer and the server that can be cut, held, and garbled."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field


@dataclass
class Wire:
    """A TCP proxy on loopback.

    Attributes:
        server: port of the real server.
        port: its own.
        held_at: what a client sends from which on nothing more gets through to the server; empty for nothing.
        silent_at: what a client sends that still gets through, and after which nothing comes back.
        lost: set when that happened.
        answer: what everybody is answered instead of by the server; None for the server's own answers.
    """

    server: int
    port: int = 0
    held_at: bytes = b""
    silent_at: bytes = b""
    lost: asyncio.Event = field(default_factory=asyncio.Event)
    answer: bytes | None = None
    _held: list[tuple[asyncio.StreamWriter, bytes]] = field(default_factory=list)
    _ends: list[asyncio.StreamWriter] = field(default_factory=list)

    async def release(self) -> None:
        """Lets through to the server what was held, late as it is."""
        for upstream, data in self._held:
            with contextlib.suppress(ConnectionError):
                upstream.write(data)
                await upstream.drain()
        self._held.clear()

    async def close(self) -> None:
        """Cuts whatever is connected."""
        for end in self._ends:
            end.close()
        for end in self._ends:
            with contextlib.suppress(ConnectionError):
                await end.wait_closed()

    async def take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serves one client."""
        self._ends.append(writer)
        if self.answer is not None:
            await reader.read(1)
            writer.write(self.answer)
            with contextlib.suppress(ConnectionError):
                await writer.drain()
                await reader.read()
            writer.close()
            return
        upstream_reader, upstream = await asyncio.open_connection("127.0.0.1", self.server)
        self._ends.append(upstream)
        quiet = asyncio.Event()
        back = asyncio.create_task(_pump(upstream_reader, writer, quiet))
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(65536):
                if self.held_at and self.held_at in data:
                    self._held.append((upstream, data))
                    self.lost.set()
                    # The server's side stays open, as it does when a network stops carrying packets.
                    await back
                    return
                if self.silent_at and self.silent_at in data:
                    quiet.set()
                    self.lost.set()
                upstream.write(data)
                await upstream.drain()
        upstream.close()
        await back


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, quiet: asyncio.Event) -> None:
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(65536):
            if not quiet.is_set():
                writer.write(data)
                await writer.drain()
    writer.close()


@contextlib.asynccontextmanager
async def wire(server: int) -> AsyncIterator[Wire]:
    """A wire to the server at this port."""
    made = Wire(server=server)
    serving: set[asyncio.Task[None]] = set()

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        serving.add(task)
        with contextlib.suppress(asyncio.CancelledError):
            await made.take(reader, writer)

    listener = await asyncio.start_server(take, "127.0.0.1", 0)
    made.port = listener.sockets[0].getsockname()[1]
    try:
        yield made
    finally:
        listener.close()
        for task in serving:
            task.cancel()
        await asyncio.gather(*serving, return_exceptions=True)
        await made.close()
