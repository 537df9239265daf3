"""A reverse proxy in front of a real API server that makes scripted requests fail.

The API server stays real; only the way to it is bad. The proxy listens on loopback and runs in a thread of its own, so
that it serves a client in the same event loop and an operator in another process alike:

    with FaultProxy(cluster.kubeconfig) as proxy:
        kubeconfig = proxy.write_kubeconfig(tmp_path / "kubeconfig")
        proxy.on("PATCH", "/statefulsets/", Answer(429, retry_after=1), times=2)
        proxy.on("POST", "/pods", DropAfter(), skip=1)
        ...
        assert proxy.seen("PATCH", "/statefulsets/") == 3

A request meets the first rule that matches and is not used up; without one it is passed on. Who comes with a bearer
token is passed on with it; who comes without is passed on as the user of the proxy's own kubeconfig.
"""

from __future__ import annotations

import asyncio
import json
import re
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import aiohttp
import yaml
from aiohttp import web
from yarl import URL

from devcluster.kubeconfig import read

HOP_BY_HOP = frozenset({"connection", "keep-alive", "transfer-encoding", "content-length", "host", "upgrade"})


@dataclass(frozen=True)
class Answer:
    """Answers at once with a `Status` object, and passes nothing on."""

    status: int
    reason: str = ""
    message: str = "scripted by the test"
    retry_after: float | str | None = None
    causes: tuple[tuple[str, str], ...] = ()
    """Pairs of a field and what is wrong with it."""
    body: bytes | None = None
    """Sent instead of a `Status`: a load balancer's page, for example."""


@dataclass(frozen=True)
class DropBefore:
    """Closes the connection without passing the request on: it never took effect."""


@dataclass(frozen=True)
class DropAfter:
    """Passes the request on and closes the connection instead of answering: it took effect, and nobody is told."""


@dataclass(frozen=True)
class Delay:
    """Passes the request on after a time."""

    seconds: float


@dataclass(frozen=True)
class Hang:
    """Takes the request and never answers; when the rule is removed, the connection is closed."""


@dataclass(frozen=True)
class CutStream:
    """Passes a watch on and breaks the connection after so many events, in the midst of the next if `half`."""

    events: int
    half: bool = True


@dataclass(frozen=True)
class Freeze:
    """Passes a watch on for so many events; then the connection stays open and silent."""

    events: int = 0


@dataclass(frozen=True)
class Stream:
    """Answers a watch with these lines and ends it properly, and passes nothing on."""

    lines: tuple[bytes, ...]


@dataclass(frozen=True)
class Rewrite:
    """Passes the request on and answers with what `change` makes of the answer's JSON."""

    change: Callable[[dict[str, Any]], dict[str, Any]]


Action = Answer | DropBefore | DropAfter | Delay | Hang | CutStream | Freeze | Stream | Rewrite


@dataclass
class Rule:
    """Which requests meet which fault, and how many did."""

    method: str | None
    path: re.Pattern[str]
    action: Action
    watch: bool | None
    skip: int
    times: int | None
    matched: int = 0
    removed: asyncio.Event = field(default_factory=asyncio.Event)
    """Set in the proxy's loop."""

    @property
    def used(self) -> int:
        """How many requests met the fault."""
        used = max(0, self.matched - self.skip)
        return used if self.times is None else min(used, self.times)

    def takes(self, request: Request) -> bool:
        """Counts the request if it matches; says whether it meets the fault."""
        if self.method not in (None, request.method) or not self.path.search(request.target):
            return False
        if self.watch not in (None, request.watch):
            return False
        self.matched += 1
        return self.matched > self.skip and (self.times is None or self.matched <= self.skip + self.times)


@dataclass
class Request:
    """A request that came in."""

    method: str
    target: str
    """Path and query, as they came."""
    body: bytes
    agent: str = ""
    """The User-Agent that it came with."""
    fault: Action | None = None
    status: int | None = None
    """What was answered; None when nothing was."""
    at: float = field(default_factory=time.monotonic)
    """When it came, in monotonic seconds."""

    @property
    def watch(self) -> bool:
        """Whether it is a watch."""
        return "watch=true" in self.target

    @property
    def json(self) -> Any:
        """The body, decoded."""
        return json.loads(self.body) if self.body else None


@dataclass
class FaultProxy:
    """The proxy; see the module. Use it as a context manager."""

    kubeconfig: Path
    """Where it passes requests on, with the client's certificate inside."""
    tls: tuple[Path, Path, Path] | None = None
    """Certificate, key and CA to serve HTTPS with; plain HTTP without."""
    requests: list[Request] = field(default_factory=list)
    rules: list[Rule] = field(default_factory=list)
    port: int = 0

    def __enter__(self) -> Self:
        """Starts to listen on a free port of loopback."""
        self._lock = threading.Lock()
        self._up = threading.Event()
        self._relayed: set[asyncio.Transport] = set()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._serve, name="fault-proxy", daemon=True)
        self._thread.start()
        self._up.wait(30)
        if self._failure is not None:
            raise self._failure
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stops; open connections break."""
        self.clear()
        self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join(30)
        assert not self._thread.is_alive(), "the fault proxy did not end"

    def cut(self) -> None:
        """Breaks the watches that are passed on now."""
        for transport in tuple(self._relayed):
            self._loop.call_soon_threadsafe(transport.close)

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"{'https' if self.tls else 'http'}://127.0.0.1:{self.port}"

    def write_kubeconfig(self, path: Path, *, token: str | None = None) -> Path:
        """Writes a kubeconfig that leads through the proxy.

        Args:
            path: Where to write it.
            token: A bearer token to be; without one, the user of the proxy's own kubeconfig.
        """
        cluster: dict[str, Any] = {"server": self.url}
        if self.tls:
            cluster["certificate-authority"] = str(self.tls[2])
        document = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "faults", "cluster": cluster}],
            "users": [{"name": "user", "user": {"token": token} if token else {}}],
            "contexts": [{"name": "faults", "context": {"cluster": "faults", "user": "user"}}],
            "current-context": "faults",
        }
        path.write_text(yaml.safe_dump(document), encoding="utf-8")
        return path

    def on(
        self,
        method: str | None,
        path: str,
        action: Action,
        *,
        watch: bool | None = None,
        skip: int = 0,
        times: int | None = 1,
    ) -> Rule:
        """Adds a rule.

        Args:
            method: The method it is for; any if None.
            path: A regular expression, searched for in path and query.
            action: The fault.
            watch: Only watches, or none; both if None.
            skip: How many matching requests to let pass first.
            times: How many then meet the fault; all if None.
        """
        rule = Rule(method, re.compile(path), action, watch, skip, times)
        with self._lock:
            self.rules.append(rule)
        return rule

    def remove(self, rule: Rule) -> None:
        """Removes a rule."""
        with self._lock:
            self.rules.remove(rule)
        self._loop.call_soon_threadsafe(rule.removed.set)

    def clear(self) -> None:
        """Removes all rules: from now on the way is good."""
        for rule in tuple(self.rules):
            self.remove(rule)

    def seen(self, method: str | None = None, path: str = "", *, watch: bool | None = None) -> int:
        """Counts the requests that came in."""
        pattern = re.compile(path)
        return sum(
            1
            for request in list(self.requests)
            if method in (None, request.method) and pattern.search(request.target) and watch in (None, request.watch)
        )

    def _serve(self) -> None:
        try:
            asyncio.run(self._main())
        except BaseException as error:  # the thread's creator raises it
            self._failure = error
        finally:
            self._up.set()

    async def _main(self) -> None:
        self._loop, self._end = asyncio.get_running_loop(), asyncio.Event()
        config = read(self.kubeconfig)
        self._server = URL(config.server)
        with_certificate, without = config.trust(), config.anonymous()
        application = web.Application(client_max_size=64 * 1024 * 1024)
        application.router.add_route("*", "/{path:.*}", self._handle)
        runner = web.AppRunner(application, shutdown_timeout=0.1, handler_cancellation=True)
        await runner.setup()
        context = None
        if self.tls:
            context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            context.load_cert_chain(self.tls[0], self.tls[1])
        async with _session(with_certificate) as own, _session(without) as others:
            self._own, self._others = own, others
            site = web.TCPSite(runner, "127.0.0.1", self.port, ssl_context=context)
            await site.start()
            self.port = int(runner.addresses[0][1])
            self._up.set()
            await self._end.wait()
            await runner.cleanup()
        await asyncio.sleep(0.05)  # closed transports let go of their sockets in later turns of the loop

    async def _handle(self, incoming: web.Request) -> web.StreamResponse:
        agent = incoming.headers.get("User-Agent", "")
        request = Request(incoming.method, incoming.raw_path, await incoming.read(), agent)
        with self._lock:
            self.requests.append(request)
            rule = next((rule for rule in self.rules if rule.takes(request)), None)
        request.fault = rule.action if rule is not None else None
        match request.fault:
            case Answer():
                return self._note(request, _status(request.fault))
            case DropBefore():
                return _drop(incoming)
            case Hang() if rule is not None:
                await rule.removed.wait()
                return _drop(incoming)
            case Stream(lines):
                return await self._stream(incoming, request, lines)
            case Delay(seconds):
                await asyncio.sleep(seconds)
        return await self._pass(incoming, request)

    async def _pass(self, incoming: web.Request, request: Request) -> web.StreamResponse:
        headers = {name: value for name, value in incoming.headers.items() if name.lower() not in HOP_BY_HOP}
        session = self._others if "Authorization" in incoming.headers else self._own
        url = URL(str(self._server).rstrip("/") + request.target, encoded=True)
        async with session.request(request.method, url, headers=headers, data=request.body or None) as answer:
            kept = {name: value for name, value in answer.headers.items() if name.lower() not in HOP_BY_HOP}
            if request.watch and answer.status == 200:
                response = web.StreamResponse(status=answer.status, headers=kept)
                request.status = answer.status
                await response.prepare(incoming)
                with self._breakable(incoming.transport):
                    await self._relay(answer, incoming, response, request.fault)
                return response
            body = await answer.read()
            if isinstance(request.fault, DropAfter):
                return _drop(incoming)
            if isinstance(request.fault, Rewrite):
                body = json.dumps(request.fault.change(json.loads(body))).encode()
            return self._note(request, web.Response(status=answer.status, headers=kept, body=body))

    @contextmanager
    def _breakable(self, transport: asyncio.Transport | None) -> Iterator[None]:
        """Lets `cut` break a connection."""
        here = {transport} if transport is not None else set()  # none: it is closed already
        self._relayed |= here
        try:
            yield
        finally:
            self._relayed -= here

    async def _relay(
        self, answer: aiohttp.ClientResponse, incoming: web.Request, response: web.StreamResponse, fault: Action | None
    ) -> None:
        events = 0
        while line := await answer.content.readline():
            if isinstance(fault, Freeze) and events >= fault.events:
                await self._end.wait()
            if isinstance(fault, CutStream) and events >= fault.events:
                if fault.half:
                    await response.write(line[: len(line) // 2])
                _drop(incoming)
                return
            await response.write(line)
            events += 1
        await response.write_eof()

    async def _stream(self, incoming: web.Request, request: Request, lines: Sequence[bytes]) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        request.status = 200
        await response.prepare(incoming)
        for line in lines:
            await response.write(line)
        await response.write_eof()
        return response

    @staticmethod
    def _note(request: Request, response: web.Response) -> web.Response:
        request.status = response.status
        return response


def _session(context: ssl.SSLContext) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, ssl=context),
        auto_decompress=False,
        read_bufsize=2**24,
        timeout=aiohttp.ClientTimeout(total=None),
    )


def _drop(incoming: web.Request) -> web.Response:
    """Closes the connection below the answer; what was written before still arrives."""
    if incoming.transport is not None:
        incoming.transport.close()
    return web.Response(status=499)  # never sent


def _status(fault: Answer) -> web.Response:
    headers = {} if fault.retry_after is None else {"Retry-After": str(fault.retry_after)}
    if fault.body is not None:
        return web.Response(status=fault.status, headers=headers, body=fault.body)
    causes = [{"field": name, "message": text} for name, text in fault.causes]
    document = {
        "apiVersion": "v1",
        "kind": "Status",
        "status": "Failure",
        "code": fault.status,
        "reason": fault.reason,
        "message": fault.message,
        "details": {"causes": causes} if causes else {},
    }
    return web.json_response(document, status=fault.status, headers=headers)


async def eventually(condition: Callable[[], bool], what: str, *, within: float = 60.0) -> None:
    """Waits until something that another process or thread does is so.

    Raises:
        AssertionError: It is not so in time.
    """
    deadline = asyncio.get_running_loop().time() + within
    while not condition():
        assert asyncio.get_running_loop().time() < deadline, f"not within {within} s: {what}"
        await asyncio.sleep(0.005)
