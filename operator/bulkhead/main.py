"""Wires kopf to the operator: handlers only hand over what they see."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import random
import socket
import sys
import time
import uuid
from asyncio import sslproto
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import kopf
import yaml

from bulkhead.api import meta
from bulkhead.api.configfile import SettingsError
from bulkhead.cluster import resources
from bulkhead.cluster.audiences import audiences
from bulkhead.cluster.client import Client
from bulkhead.cluster.connection import Connection
from bulkhead.cluster.discovery import until_named
from bulkhead.engine import logs
from bulkhead.engine.controls import CanaryListener
from bulkhead.engine.health import HealthServer
from bulkhead.engine.operator import Operator
from bulkhead.engine.settings import Identity, Settings
from bulkhead.issuers.registry import load
from bulkhead.plan.isolation import Target
from bulkhead.signals.settings import read

logger = logging.getLogger(__name__)

AGENTS_IN_PAGE = 25
"""That kopf lists at a time. It parses a page as a whole, and what that takes stays: with 100 it is 2.4 MB more."""
TLS_BUFFER = 32 * 1024
"""Bytes that asyncio reads of a TLS connection at once; a record has 16 KiB at most."""
LOGIN_LIFE = timedelta(minutes=5)
"""For how long kopf uses what one login gave it."""
LOGIN_STREAK = 5.0
"""Seconds after a login within which the next one is a sign that the API server refuses whatever it is shown."""
LOGIN_PAUSE = 1.0
"""Seconds that such a login waits."""
SELECTOR = (meta.GROUP, meta.VERSION, meta.AGENT_PLURAL)


class ErrorBackoffs:
    """Delays between kopf's retries of a failed list or watch: short first, then for ever.

    kopf ends the operator when its backoffs are used up (measured: 75 s of 503 with the defaults), so this iterable has
    no end; and kopf iterates it anew for each request, so it is no iterator itself.
    """

    def __iter__(self) -> Iterator[float]:
        """Yields seconds."""
        yield from (0.1, 0.2, 0.5, 1.0, 2.0)
        while True:
            yield random.uniform(2.0, 3.0)  # noqa: S311 (jitter, not a secret)


class NoDiffBase(kopf.DiffBaseStorage):
    """Keeps no last-seen state: no handler needs one, and the copies made for it are 60 % of the CPU of an event."""

    def build(self, *, body: kopf.Body, extra_fields: Any = None) -> Any:
        """Returns nothing to remember."""
        return {}

    def fetch(self, *, body: kopf.Body) -> None:
        """Returns nothing remembered."""
        return

    def store(self, *, body: kopf.Body, patch: kopf.Patch, essence: Any) -> None:
        """Remembers nothing."""


class NoProgress(kopf.ProgressStorage):
    """Keeps no handler progress: `on.event` handlers have none."""

    def fetch(self, *, key: str, body: kopf.Body) -> None:
        """Returns no progress."""
        return

    def store(self, *, key: str, record: Any, body: kopf.Body, patch: kopf.Patch) -> None:
        """Stores nothing."""

    def purge(self, *, key: str, body: kopf.Body, patch: kopf.Patch) -> None:
        """Purges nothing."""

    def touch(self, *, body: kopf.Body, patch: kopf.Patch, value: str | None) -> None:
        """Touches nothing."""

    def clear(self, *, essence: Any) -> Any:
        """Returns the essence as it is."""
        return essence


def settings() -> kopf.OperatorSettings:
    """Returns kopf's settings: stateless, no writes of its own, quick to notice a dead watch."""
    made = kopf.OperatorSettings()
    made.persistence.diffbase_storage = NoDiffBase()
    made.persistence.progress_storage = NoProgress()
    made.posting.enabled = False
    made.scanning.disabled = True
    made.peering.standalone = True
    made.watching.chunk_size = AGENTS_IN_PAGE
    made.watching.server_timeout = 45
    made.watching.inactivity_timeout = 50
    made.watching.connect_timeout = 3
    made.watching.reconnect_backoff = 0.05
    made.networking.request_timeout = 10
    made.networking.connect_timeout = 3
    made.networking.error_backoffs = ErrorBackoffs()
    made.networking.enforce_retry_after = True
    made.queueing.idle_timeout = 0.3
    made.queueing.error_delays = (0.1, 0.5, 1, 5, 15)
    made.execution.max_workers = 1
    made.process.ultimate_exiting_timeout = 25
    return made


class Login:
    """Tells kopf how it is let in, each time until five minutes later.

    The expiration is there for two reasons. kopf refuses for good what equals one of its last invalid logins, and ends
    the operator when there is no other: one 401 with a token that had not changed, as an API server that starts can
    answer, ended all replicas at once. With an expiration no two logins are equal. And kopf keeps the trust of a login
    for as long as it uses it: where the cluster got another CA the TLS handshake fails, which is no 401, so kopf would
    never log in again. What has expired it just drops, and asks anew.

    Args:
        connection: to the API server.
        ready: waited for before the first login, until which kopf asks the API server nothing.
        clock: monotonic seconds.
        now: the time of day.
        sleep: waits for some seconds.
    """

    def __init__(
        self,
        connection: Connection,
        *,
        ready: Callable[[], Awaitable[None]],
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._connection = connection
        self._ready = ready
        self._clock = clock
        self._now = now
        self._sleep = sleep
        self._last = float("-inf")
        self._shown: str | None = None

    async def __call__(self) -> kopf.ConnectionInfo:
        """Returns what kopf shows and trusts from now on; read anew if this is not the first time."""
        if self._clock() - self._last < LOGIN_STREAK:
            await self._sleep(LOGIN_PAUSE)  # who is refused again and again must not ask in a loop without a rest
        if self._last > float("-inf"):
            await self._connection.renew(self._shown)
        else:
            await self._ready()
        self._shown = await self._connection.authorization()
        self._last = self._clock()
        access = asdict(self._connection.kopf_connection())
        return kopf.ConnectionInfo(**access, expiration=self._now() + LOGIN_LIFE)


def registry(operator: Operator, login: Login) -> kopf.OperatorRegistry:
    """Returns the handlers: each hands over and returns, for kopf holds an object's next event back meanwhile."""
    made = kopf.OperatorRegistry()

    @kopf.on.login(registry=made, id="login")
    async def let_in(**_: Any) -> kopf.ConnectionInfo:
        return await login()

    @kopf.on.event(*SELECTOR, registry=made)
    async def agent_event(event: Any, **_: Any) -> None:
        if event["type"] == "DELETED":
            operator.agent_deleted(event["object"])
        else:
            operator.agent_seen(event["object"])

    @kopf.on.cleanup(registry=made)
    async def cleanup(**_: Any) -> None:
        # Before kopf looks for tasks that hang: for our workers it would wait five seconds, with the lease held.
        await operator.stop()

    @kopf.on.probe(registry=made, id="parts")
    async def parts(**_: Any) -> str:
        ended = operator.unhealthy()
        if ended:
            raise kopf.PermanentError(", ".join(ended))
        return "running"

    return made


def arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parses the command line; what is not given comes from the pod's environment."""
    env = os.environ
    parser = argparse.ArgumentParser(prog="bulkhead-operator", description="Runs AI agents in bulkheads.")
    parser.add_argument("--log-level", default="info", choices=["debug", "info", "warning", "error"])
    parser.add_argument("--kubeconfig", default=None, help="instead of KUBECONFIG or the pod's service account")
    parser.add_argument("--lease-namespace", default=env.get("POD_NAMESPACE", "bulkhead-system"))
    parser.add_argument("--listen", default="0.0.0.0", help="address of the probes")  # noqa: S104 (the kubelet asks)
    parser.add_argument("--liveness-port", type=int, default=8080)
    parser.add_argument("--readiness-port", type=int, default=8081)
    parser.add_argument(
        "--user-namespaces",
        default="auto",
        choices=["auto", "always", "never"],
        help="run agents with hostUsers: false; auto: where every node supports it",
    )
    parser.add_argument("--gate-image", default=env.get("BULKHEAD_GATE_IMAGE", ""), help="image of the gate")
    parser.add_argument("--gate-pull-policy", default=env.get("BULKHEAD_GATE_PULL_POLICY", "IfNotPresent"))
    parser.add_argument("--canary-port", type=int, default=8082, help="where the operator's own canary listens")
    parser.add_argument("--canary-service", default=env.get("BULKHEAD_CANARY_SERVICE", ""), help="NAMESPACE/NAME")
    parser.add_argument("--canary-address", default="", help="HOST instead of a Service, for use outside of a cluster")
    parser.add_argument("--cluster-dns", default=env.get("BULKHEAD_CLUSTER_DNS", "kube-system/kube-dns"))
    parser.add_argument(
        "--admission-dir",
        default=env.get("BULKHEAD_ADMISSION_DIR", ""),
        type=Path,
        help="folder with the admission policies that should be there, as YAML",
    )
    parser.add_argument(
        "--issuers",
        default=Path(env["BULKHEAD_ISSUERS"]) if env.get("BULKHEAD_ISSUERS") else None,
        type=Path,
        help="file with the issuers of credentials, as YAML",
    )
    parser.add_argument(
        "--revocation-patience",
        default=float(env.get("BULKHEAD_REVOCATION_PATIENCE", "600")),
        type=float,
        help="seconds for which the deletion of an agent waits for credentials that cannot be revoked",
    )
    parser.add_argument(
        "--signals",
        default=Path(env["BULKHEAD_SIGNALS"]) if env.get("BULKHEAD_SIGNALS") else None,
        type=Path,
        help="file with the Prometheus that is asked, where alerts are delivered, and who is told, as YAML",
    )
    return parser.parse_args(argv)


def world_settings(args: argparse.Namespace, *, api_audiences: tuple[str, ...]) -> Settings:
    """Returns what the operator is told about the gate, its canary, DNS, admission and deletion.

    Args:
        args: the command line.
        api_audiences: audiences that the API server takes as its own.

    Raises:
        OSError: the folder of admission policies cannot be read.
        ValueError: what is in it is no YAML.
    """
    canary = None
    if args.canary_address:
        canary = Target(name="operator", protocol="TCP", address=args.canary_address, port=args.canary_port)
    return Settings(
        gate_image=args.gate_image,
        gate_pull_policy=args.gate_pull_policy,
        canary=canary,
        canary_service=args.canary_service,
        dns_service=args.cluster_dns,
        admission=expected_admission(args.admission_dir) if args.admission_dir != Path() else None,
        api_audiences=api_audiences,
        listen=args.listen,
        revocation_patience=args.revocation_patience,
    )


def expected_admission(folder: Path) -> tuple[dict[str, Any], ...]:
    """Reads the admission policies and bindings that should be there."""
    texts = [path.read_text(encoding="utf-8") for path in sorted(folder.glob("*.yaml"))]
    try:
        return tuple(obj for text in texts for obj in yaml.safe_load_all(text) if obj)
    except yaml.YAMLError as error:
        raise ValueError(f"{folder}: {error}") from error


def identity(args: argparse.Namespace) -> Identity:
    """Returns who this replica is; outside a pod, every process is a replica of its own."""
    instance = os.environ.get("POD_NAME") or socket.gethostname()
    return Identity(
        replica=os.environ.get("POD_UID") or f"{instance}-{uuid.uuid4()}",
        instance=instance,
        lease_namespace=args.lease_namespace,
    )


async def agents_served(connection: Connection) -> None:
    """Returns once the API server serves AgentDeployments.

    kopf looks once for the kinds that there are. With the CRD not there at that moment, as in an installation that
    makes both at once, the operator would never see an agent, ready and alive as it seemed. The wait is part of the
    first login, and not before kopf: until then nobody takes a SIGTERM or answers the kubelet's question.
    """
    async with Client(connection, pool_size=1, user_agent="bulkhead/start") as client:
        await until_named(client, resources.AGENTS)


async def run(args: argparse.Namespace) -> None:
    """Runs the operator until it is told to end (SIGTERM or SIGINT, which kopf handles)."""
    connection = await Connection.load(kubeconfig=args.kubeconfig)
    me = identity(args)
    operator = Operator(
        connection,
        identity=me,
        settings=world_settings(args, api_audiences=audiences(await connection.authorization())),
        issuers=load(args.issuers),
        signals=read(args.signals),
        user_namespaces=args.user_namespaces,
    )
    canary = CanaryListener(host=args.listen if args.canary_address else None, port=args.canary_port)
    await canary.start()
    health = HealthServer(
        host=args.listen, port=args.readiness_port, unready=operator.unready, metrics=operator.metrics.text
    )
    await health.start()
    # Before kopf starts: when it ends, kopf cancels every task that was made after it.
    await operator.start()
    try:
        await kopf.operator(
            registry=registry(operator, Login(connection, ready=lambda: agents_served(connection))),
            settings=settings(),
            clusterwide=True,
            # Without one kopf asks the system for its user's name, and dies where the user has none, as in a pod.
            identity=cast(Any, me.replica),
            liveness_endpoint=f"http://{args.listen}:{args.liveness_port}/healthz",
        )
    finally:
        await operator.stop()
        await health.stop()
        await canary.stop()


def main(argv: Sequence[str] | None = None) -> None:
    """Entry point of the container."""
    args = arguments(argv)
    logs.configure(args.log_level)
    # asyncio keeps a buffer of this size for each TLS connection. With its own 256 KiB, those of the informers and of
    # both lanes are 6 MB at rest and 19 MB after a fleet was stopped.
    sslproto.SSLProtocol.max_size = TLS_BUFFER
    try:
        asyncio.run(run(args))
    except SettingsError as error:
        # For whoever wrote the file, and without a traceback, in which nobody finds it.
        for problem in error.problems:
            logger.critical("%s", problem)
        sys.exit(2)


if __name__ == "__main__":
    main()
