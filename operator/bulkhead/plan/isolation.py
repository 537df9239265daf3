"""The proof of isolation: what is tried, by which containers of the agent's pod, and what their verdict is.

The program that tries is `bulkhead.gate`; it runs in the agent's pod and says what it found by how it ends. The kubelet
carries that to the API server, so the gate needs no network, no token and no permission.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from bulkhead.plan.gatestatus import ANSWERED, CONTAINERS, GATE, RESTARTS_BORNE, UNPROVEN, WATCH, Said, is_lost, said
from bulkhead.plan.observed import Object

__all__ = [
    "ANSWERED",
    "API_SERVER",
    "GATE",
    "UNPROVEN",
    "WATCH",
    "Control",
    "ControlKey",
    "Evidence",
    "Gate",
    "Target",
    "containers",
    "controlled",
    "evidence",
    "is_lost",
    "key_of",
    "targets",
    "telling",
]

if TYPE_CHECKING:
    from bulkhead.plan.policy import Bounds, Canary

USER_ID: Final = 65532

COMMAND: Final = ("python3", "-I", "-S", "/opt/bulkhead/bulkhead/gate/__main__.py")
"""Isolated and without `site`: the environment cannot change what runs, and nothing is loaded that is not used."""

API_SERVER: Final = "api-server"
OPERATOR: Final = "operator"
KUBELET: Final = "kubelet"
METADATA: Final = "metadata"
CANARY_PREFIX: Final = "canary/"
"""Before the names that policies gave, so that none is taken for one of the names above."""
NODE: Final = "node"
"""Stands for every address of the node that the pod is on, which nobody knows before the pod is there."""
KUBELET_PORT: Final = 10250

CONTROL_FRESH: Final = timedelta(seconds=15)
"""How old the operator's own last contact with a canary may be for an agent to start."""
CONTROL_LOST: Final = timedelta(seconds=60)
"""How long a canary may fail to answer the operator before running agents count as unproven."""
_METADATA: Final = (
    # Amazon, Azure, Google, Oracle, DigitalOcean, OpenStack and others; then what each has of its own.
    "169.254.169.254",
    "169.254.170.2",
    "169.254.170.23",
    "168.63.129.16",
    "100.100.100.200",
    "192.0.0.192",
    "fd00:ec2::254",
    "fd00:ec2::23",
    "fd20:ce::254",
)
"""Hosts of the floor (`api.floor`) that hand out credentials over HTTP to whoever asks from inside."""

_MESSAGE_PATH: Final = "/dev/termination-log"
_ROOM: Final = {"memory": "16Mi", "ephemeral-storage": "16Mi"}
_RESOURCES: Final = {
    name: {"limits": {"cpu": "100m", **_ROOM}, "requests": {"cpu": cpu, **_ROOM}}
    for name, cpu in ((GATE, "25m"), (WATCH, "10m"))
}
"""What the two are asked for and may use.

The watch needs less than 10m, but its limit holds for the container's start too: with a limit of 10m a container takes
2 s longer to start than with 100m (docs/isolation.md), and the agent waits for it.
"""


@dataclass(frozen=True, slots=True)
class Target:
    """One address that nothing in an agent's pod may reach."""

    name: str
    protocol: str
    """`TCP` or `UDP`."""
    address: str
    """An IP address, or `node`."""
    port: int

    def __str__(self) -> str:
        """Gives `name protocol address port`."""
        return f"{self.name} {self.protocol} {self.address} {self.port}"

    @classmethod
    def parse(cls, text: str) -> Target:
        """Reads what `str` gives.

        Raises:
            ValueError: it is something else.
        """
        name, protocol, address, port = text.split(" ")
        return cls(name, protocol, address, int(port))


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """How the gate is run."""

    image: str
    """The operator's own image: the program is in it."""
    pull_policy: str
    canary: Target | None
    """The operator's own canary, through its Service; None where there is none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Control:
    """How the operator itself fares with a canary, known by protocol, address and port."""

    reached_at: datetime | None
    """When it last answered the operator."""
    failing_since: datetime | None
    """Since when it has not; None while it does, or before it was tried."""
    message: str
    """What went wrong, empty if nothing did."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What the gate's containers in an agent's pods say together."""

    result: str
    """`Proven`, `Pending`, `Open` or `Lost`."""
    message: str
    answered: tuple[str, ...] = ()
    """What answered, each as `name protocol address port how`."""
    at: datetime | None = None
    """When it was proven, or found open, or lost."""


ControlKey = tuple[str, str, int]
"""Protocol (`TCP` or `UDP`), address and port of a canary."""


def key_of(target: Canary | Target) -> ControlKey:
    """Returns the key under which the state of a canary is kept, whoever names it."""
    return target.protocol, target.address, target.port


def targets(
    bounds: Bounds, *, gate: Gate, api_endpoints: tuple[tuple[str, int], ...], api_access: bool = False
) -> tuple[Target, ...]:
    """Returns what the gate tries: Bulkhead's own targets first, then the canaries of the policies.

    Args:
        bounds: what the policies of the namespace give together.
        gate: how the gate is run.
        api_endpoints: addresses and ports of the API server.
        api_access: whether the agent is let to the API server, which is no target then. The node it is on stays one.
    """
    own = [Target(OPERATOR, gate.canary.protocol, gate.canary.address, gate.canary.port)] if gate.canary else []
    found = [
        *own,
        *(Target(API_SERVER, "TCP", address, port) for address, port in (() if api_access else api_endpoints)),
        Target(KUBELET, "TCP", NODE, KUBELET_PORT),
        *(Target(METADATA, "TCP", address, 80) for address in _METADATA),
        *(Target(CANARY_PREFIX + one.name, one.protocol, one.address, one.port) for one in bounds.canaries),
    ]
    first: dict[ControlKey, Target] = {}
    for target in found:
        first.setdefault(key_of(target), target)
    return tuple(first.values())


def containers(gate: Gate, targets: tuple[Target, ...], *, bounds: Bounds) -> list[Object]:
    """Builds the init containers that prove isolation, as the API server would return them.

    Both are restricted as the agent's own container is. A restartable init container runs beside the agent (KEP-753)
    and is started before it.
    """
    settings: list[Object] = [
        {"name": "BULKHEAD_GATE_TARGETS", "value": "\n".join(_line(target) for target in targets)},
        {"name": "BULKHEAD_GATE_INTERVAL", "value": str(bounds.interval_seconds)},
        {"name": "BULKHEAD_GATE_MESSAGE_PATH", "value": _MESSAGE_PATH},
        {
            "name": "BULKHEAD_NODE_IPS",
            "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": "status.hostIPs"}},
        },
    ]
    built = [_container(GATE, "hold", gate, settings)]
    if bounds.continuous:
        built.append({**_container(WATCH, "watch", gate, settings), "restartPolicy": "Always"})
    return built


def _line(target: Target) -> str:
    # The operator's canary and the API server are reached through Services, and a load balancer without a live endpoint
    # may reject connections with an ICMP error in the Service's name: that is not the target's answer.
    return f"{target} balanced" if target.name in (OPERATOR, API_SERVER) else str(target)


def _container(name: str, mode: str, gate: Gate, settings: list[Object]) -> Object:
    return {
        "name": name,
        "image": gate.image,
        "imagePullPolicy": gate.pull_policy,
        "command": [*COMMAND, mode],
        "env": [dict(one) for one in settings],
        "resources": {kind: dict(amounts) for kind, amounts in _RESOURCES[name].items()},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
            "runAsGroup": USER_ID,
            "runAsNonRoot": True,
            "runAsUser": USER_ID,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "terminationMessagePath": _MESSAGE_PATH,
        # Should the program break before it has a word to say, the end of its log is its word.
        "terminationMessagePolicy": "FallbackToLogsOnError",
    }


def evidence(pods: tuple[Object, ...], *, wanted: int) -> Evidence:
    """Sums up what the gate's containers in an agent's pods say.

    A loss outweighs everything and counts in pods that are on their way out too. Then comes what a gate found open,
    then whatever has not been proven yet.

    Args:
        pods: the agent's pods.
        wanted: how many there should be.
    """
    lost = [word for pod in pods if is_lost(pod) and (word := said(pod, WATCH)) is not None]
    if lost:
        return _found("Lost", lost, "isolation was lost")
    alive = [pod for pod in pods if not _is_being_deleted(pod)]
    gates = [word for pod in alive if (word := said(pod, GATE)) is not None]
    held = [word for word in gates if word.code == ANSWERED and not word.passed]
    if held:
        return _found("Open", held, "the agent is held back")
    if len(alive) < max(wanted, 1):
        return Evidence(result="Pending", message=f"{len(alive)} of {wanted} pods are there")
    open_points = [words for pod in alive if (words := _unproven(pod))]
    if open_points:
        return Evidence(result="Pending", message="; ".join(open_points[:_POINTS]))
    times = [word.at for word in gates if word.at is not None]
    return Evidence(result="Proven", message=f"the gate let {len(alive)} pods pass", at=max(times) if times else None)


_POINTS: Final = 4


def _found(result: str, words: list[Said], what: str) -> Evidence:
    answered = tuple(dict.fromkeys(one for word in words for one in word.answered))
    times = [word.at for word in words if word.at is not None]
    said_words = "; ".join(dict.fromkeys(word.words for word in words))
    return Evidence(result=result, message=f"{what}: {said_words}", answered=answered, at=max(times) if times else None)


def _unproven(pod: Object) -> str:
    """Says what a pod lacks of its proof; empty when it lacks nothing."""
    name = pod["metadata"]["name"]
    gate, watch = said(pod, GATE), said(pod, WATCH)
    if gate is None:
        return f"pod {name} has not begun to prove its isolation"
    if not gate.passed:
        return f"pod {name} is proving its isolation" + (f", after {gate.words}" if gate.code else "")
    if watch is not None and not watch.running:
        return f"{WATCH} of pod {name} does not run" + (f", after {watch.words}" if watch.code else " yet")
    return ""


def _is_being_deleted(pod: Object) -> bool:
    return bool(pod["metadata"].get("deletionTimestamp"))


def telling(pod: Object) -> tuple[Any, ...]:
    """Returns what of the gate's containers a decision turns on, to be compared with what it was before."""
    return tuple(
        (word.running, word.ended, word.code, word.message, word.waiting, min(word.restarts, RESTARTS_BORNE))
        for container in CONTAINERS
        if (word := said(pod, container)) is not None
    )


def controlled(
    bounds: Bounds,
    gate: Gate | None,
    controls: Mapping[ControlKey, Control],
    *,
    now: datetime,
    running: bool,
) -> str:
    """Says why nothing can be proven, in words; empty when the canaries answer the operator.

    Silence proves isolation only while there is somebody to break it. An agent starts only if every canary answered the
    operator just now; one that runs is given a minute, for a canary may be restarted.

    Args:
        bounds: what the policies of the namespace give together.
        gate: how the gate is run, None where the operator was not told.
        controls: how the operator itself fares, by protocol, address and port.
        now: the time.
        running: whether the agent runs already.
    """
    if gate is None:
        return "the operator was not told which image its gate is in, so isolation cannot be proven"
    canaries = _canaries(bounds, gate)
    if not canaries:
        return (
            "there is no canary, so silence would prove nothing; accepted is spec.production.canaries in a "
            "SandboxPolicy of this namespace, or an operator with a canary Service of its own"
        )
    silent = [
        f"{canary}{f' ({control.message})' if control and control.message else ''}"
        for canary in canaries
        if not _answers(control := controls.get(key_of(canary)), now, running=running)
    ]
    if not silent:
        return ""
    return f"canaries that do not answer the operator itself prove nothing: {'; '.join(silent[:_SILENT_SHOWN])}"


def patience_ends(bounds: Bounds, gate: Gate | None, controls: Mapping[ControlKey, Control]) -> datetime | None:
    """Returns when a canary that fails now will have failed for too long; None while all of them answer."""
    known = (controls.get(key_of(one)) for one in _canaries(bounds, gate))
    return min((one.failing_since + CONTROL_LOST for one in known if one and one.failing_since), default=None)


def _canaries(bounds: Bounds, gate: Gate | None) -> list[Target]:
    found = [Target(CANARY_PREFIX + one.name, one.protocol, one.address, one.port) for one in bounds.canaries]
    if gate is not None and gate.canary is not None:
        found.append(replace(gate.canary, name=OPERATOR))
    return found


_SILENT_SHOWN: Final = 16


def _answers(control: Control | None, now: datetime, *, running: bool) -> bool:
    """Says whether a canary counts as answering.

    A time that lies ahead by more than a moment is from before the clock was set back, and says nothing of now: an
    agent started on an answer of ten minutes ago.
    """
    if control is None:
        return running
    if running:
        return control.failing_since is None or -CONTROL_FRESH <= now - control.failing_since < CONTROL_LOST
    return control.reached_at is not None and abs(now - control.reached_at) <= CONTROL_FRESH
