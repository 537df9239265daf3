"""What a decision about one agent reads, gathered before it is made.

The engine fills these from its caches (and, where a decision must not rest on a cache, from the live API); everything
in `bulkhead.plan` is a pure function of them and of the time. A decision can therefore be shown by a table test.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bulkhead.plan.exits import Exit
    from bulkhead.plan.killswitch import Switch
    from bulkhead.plan.leases import Books
    from bulkhead.plan.signals import Alert
    from bulkhead.plan.surroundings import Surroundings

Object = dict[str, Any]
"""A Kubernetes object as the API server sends it: plain dicts, lists and scalars."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """A name that a child of the agent needs and that an object of somebody else has."""

    kind: str
    name: str
    owner: str
    """Whose it is, in words: `nobody`, or the kind and name of its owner."""

    def __str__(self) -> str:
        """Gives `Kind name (owned by …)`, as conditions print it."""
        return f"{self.kind} {self.name} (owned by {self.owner})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Warned:
    """A warning event that Kubernetes wrote about a child: why a rollout does not get on."""

    kind: str
    name: str
    reason: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut:
    """The time of each step of one suspension, as far as it has got; None is not done yet.

    A step's time is when the API server had accepted its last write, not when it was planned.
    """

    since: datetime
    network: datetime | None = None
    credentials: datetime | None = None
    processes: datetime | None = None
    stopped: datetime | None = None
    worked: bool = False
    """True once a step found something to remove: this is a suspension, not a second look at one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """All that is known about one agent and its children at one moment."""

    agent: Object
    namespace: Object | None
    """The sandbox namespace; None when the agent's namespace is not labelled as one."""
    surroundings: Surroundings | None = None
    """What is known of the world around the agent; None where its namespace is no sandbox."""
    network_policy: Object | None = None
    """What stands under the name of the agent's own NetworkPolicy."""
    cilium_policy: Object | None = None
    """What stands under the name of its CiliumNetworkPolicy, where that kind is served."""
    service_account: Object | None = None
    role: Object | None = None
    role_binding: Object | None = None
    stateful_set: Object | None = None
    pods: tuple[Object, ...] = ()
    """The pods that are the agent's own (`pods.agent_of`), dead ones included."""
    claims: tuple[Object, ...] = ()
    taken: tuple[Taken, ...] = ()
    """Names of children that somebody else's objects have."""
    warned: tuple[Warned, ...] = ()
    pull_secrets: tuple[str, ...] = ()
    """Names of the image pull secrets of the namespace's default service account."""
    pods_are_live: bool = False
    """True when `pods` came from the API server and not from a cache: only then does their absence prove anything."""
    user_namespaces: bool = False
    """Whether every node can run pods with `hostUsers: false` (KEP-127)."""
    books: Books | None = None
    """What is known of its leases; None where it has none."""
    revocation_patience: timedelta = timedelta(seconds=600)
    """How long its deletion waits for leases that cannot be revoked."""
    switches: tuple[Switch, ...] = ()
    """The kill switches that stop it, by name."""
    alerts: tuple[Alert, ...] = ()
    """The alerts on record that name it and may not be in its status yet."""
    exits: tuple[Exit, ...] = ()
    """How its containers ended, those of pods that are gone among them until a status has them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What came of carrying a plan out."""

    taken: tuple[Taken, ...] = ()
    refused: tuple[str, ...] = ()
    """What the API server refused for good (quota, validation, admission), in its own words."""
    stateful_set: Object | None = None
    """The StatefulSet as the API server returned it, when this reconcile wrote it."""
