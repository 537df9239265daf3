"""What SandboxPolicies mean for a namespace: each that selects it applies, and the strictest wins.

Production is the union of what they name. What they let agents ask for is what each of them lets them ask for. Where
one cannot be understood nothing is accepted: it might have been the strictest.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from itertools import chain, islice
from types import MappingProxyType
from typing import Any, Final

from bulkhead.api import meta
from bulkhead.api.agentdeployment import AgentDeploymentSpec
from bulkhead.api.floor import FLOOR
from bulkhead.api.sandboxpolicy import InvalidSpec, SandboxPolicySpec, parse_policy
from bulkhead.plan import addresses, breakerrules, ceilings, credentialceilings, identityceilings, selectors
from bulkhead.plan.addresses import Network, Table
from bulkhead.plan.observed import Object
from bulkhead.plan.refusals import THE_CLUSTER, THE_FLOOR, Forbidden, Violation
from bulkhead.plan.selectors import Selector

__all__ = [
    "THE_CLUSTER",
    "THE_FLOOR",
    "Bounds",
    "Canary",
    "Forbidden",
    "Policy",
    "Violation",
    "bounds",
    "covers",
    "parse",
    "violations",
]

INTERVAL_SECONDS: Final = 10
"""Between two rounds of the proof, where no policy says."""
MAX_VIOLATIONS: Final = 100
"""Refusals told at once. One rule may break dozens of policies, and a spec may have dozens of rules."""
NAMESPACE: Final = "metadata.namespace"
"""The field of an agent that decides which policies apply to it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Canary:
    """An address in production that an agent must not reach and the operator can."""

    name: str
    address: str
    port: int
    protocol: str
    policy: str
    """Name of the policy that names it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """One SandboxPolicy, read once for each of its versions.

    Attributes:
        name: of the policy.
        uid: of the object.
        generation: of the object.
        spec: None when it could not be understood.
        problems: why not, in sentences.
        selector: the sandbox namespaces that it applies to. If only the rest of the policy could not be understood,
            the selector still holds; if it could not be understood itself, every namespace is selected.
        production: the networks that it names as production, its canaries among them.
        production_namespaces: the namespaces that it names as production.
        askable: the networks that it lets agents ask for.
        opened: what it opens of the floor's shared address space.
        canaries: in the order of their names.
    """

    name: str
    uid: str
    generation: int
    spec: SandboxPolicySpec | None
    problems: tuple[str, ...] = ()
    selector: Selector
    production: tuple[Forbidden, ...] = ()
    production_namespaces: Selector = selectors.NOTHING
    askable: Table[None] = field(default_factory=lambda: Table(()), repr=False, compare=False)
    opened: tuple[Network, ...] = ()
    canaries: tuple[Canary, ...] = ()


class ProductionNamespaces(Mapping[str, tuple[str, ...]]):
    """The namespaces that are production, each with the names of the policies that say so.

    A namespace is looked at when it is asked for: a cluster has thousands, and an agent names a few.

    Args:
        policies: those that apply, by name.
        namespaces: every namespace of the cluster; of each only its metadata is read.
    """

    def __init__(self, policies: Iterable[Policy], namespaces: Iterable[Object]) -> None:
        self._naming = tuple(one for one in policies if one.production_namespaces != selectors.NOTHING)
        self._labels = {
            one["metadata"]["name"]: one["metadata"].get("labels") or {} for one in (namespaces if self._naming else ())
        }

    def __getitem__(self, name: str) -> tuple[str, ...]:
        """Gives the names of the policies that say that a namespace is production."""
        labels = self._labels[name]
        found = tuple(one.name for one in self._naming if one.production_namespaces.matches(labels))
        if not found:
            raise KeyError(name)
        return found

    def __iter__(self) -> Iterator[str]:
        """Yields the production namespaces, by name."""
        return (name for name in sorted(self._labels) if name in self)

    def __len__(self) -> int:
        """Counts the production namespaces."""
        return sum(1 for _ in self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """What the policies of one namespace give together."""

    policies: tuple[Policy, ...]
    """Those that select the namespace, by name. Without one, nothing is accepted."""
    production: tuple[Forbidden, ...]
    """The networks that any of them names as production, canaries included."""
    floor: tuple[Forbidden, ...]
    """What no policy opens, without the parts of the shared address space that each of them opens."""
    production_namespaces: Mapping[str, tuple[str, ...]]
    """The namespaces that are production, with the names of the policies that say so (`ProductionNamespaces`)."""
    canaries: tuple[Canary, ...]
    """By policy and name."""
    continuous: bool
    """Whether isolation goes on being proven while an agent runs."""
    interval_seconds: int
    """Seconds between two rounds of that proof."""
    cluster_dns: tuple[str, ...]
    """Names of the policies that do not let agents use the cluster's DNS; empty where all do."""
    required_node_labels: Mapping[str, str]
    """Labels that every node must have that an agent runs on."""
    problems: tuple[Violation, ...]
    """Why nothing is accepted, whatever an agent asks for."""
    closed: Table[Forbidden] = field(init=False, repr=False, compare=False)
    """Production and the floor, to look a network up in."""

    def __post_init__(self) -> None:
        """Makes the table."""
        everything = ((one.network, one) for one in (*self.production, *self.floor))
        object.__setattr__(self, "closed", Table(everything))


def parse(obj: Object) -> Policy:
    """Reads a SandboxPolicy. Never raises: one that cannot be understood says so in `problems`."""
    data = obj.get("metadata") or {}
    name, raw = str(data.get("name") or ""), obj.get("spec")
    known: dict[str, Any] = {"name": name, "uid": data.get("uid") or "", "generation": data.get("generation") or 0}
    try:
        # An object without a spec says what one with an empty spec says.
        spec = parse_policy({} if raw is None else raw, name=name)
    except InvalidSpec as error:
        return Policy(**known, spec=None, problems=error.problems, selector=_selector_of(raw))
    return _understood(known, spec)


def _understood(known: Mapping[str, Any], spec: SandboxPolicySpec) -> Policy:
    by, named = f"{meta.POLICY_KIND} {known['name']}", spec.production
    canaries = sorted(named.canaries, key=lambda one: one.name)
    closed = [Forbidden(network=addresses.network(one), what="production", by=by) for one in named.cidrs]
    closed += [Forbidden(network=addresses.host(one.address), what=f"canary {one.name}", by=by) for one in canaries]
    chosen = named.namespace_selector
    return Policy(
        **known,
        spec=spec,
        selector=selectors.read(spec.namespace_selector.plain()),
        production=tuple(closed),
        production_namespaces=selectors.read(chosen.plain() if chosen is not None else None),
        askable=Table((addresses.network(one), None) for one in spec.network.egress_cidrs),
        opened=tuple(map(addresses.network, spec.network.open_shared_address_space)),
        canaries=tuple(
            Canary(name=one.name, address=one.address, port=one.port, protocol=one.protocol, policy=known["name"])
            for one in canaries
        ),
    )


def _selector_of(raw: Any) -> Selector:
    chosen = raw.get("namespaceSelector") if isinstance(raw, dict) else None
    try:
        return selectors.read(chosen) if chosen is not None else selectors.EVERYTHING
    except ValueError:
        return selectors.EVERYTHING


def covers(policy: Policy, namespace: Object) -> bool:
    """Says whether a policy applies to a sandbox namespace, by the namespace's labels."""
    return policy.selector.matches(meta.labels_of(namespace))


def bounds(policies: Iterable[Policy], *, namespace: Object, namespaces: Iterable[Object]) -> Bounds:
    """Returns what all policies give together for one sandbox namespace. Their order does not matter.

    Args:
        policies: every SandboxPolicy.
        namespace: the sandbox namespace.
        namespaces: every namespace of the cluster; of each only its metadata is read.
    """
    applying = tuple(sorted((one for one in policies if covers(one, namespace)), key=lambda one: one.name))
    specs = [one.spec for one in applying if one.spec is not None]
    production_namespaces = ProductionNamespaces(applying, namespaces)
    required: dict[str, str] = {}
    for spec in specs:
        required = {**spec.workload.required_node_labels, **required}
    return Bounds(
        policies=applying,
        production=tuple(closed for one in applying for closed in one.production),
        floor=_floor(_opened(applying)),
        production_namespaces=production_namespaces,
        canaries=tuple(canary for one in applying for canary in one.canaries),
        # Not at start only unless every policy says so and can be understood.
        continuous=not specs
        or len(specs) < len(applying)
        or any(spec.isolation.mode == "Continuous" for spec in specs),
        interval_seconds=min((spec.isolation.interval_seconds for spec in specs), default=INTERVAL_SECONDS),
        cluster_dns=tuple(one.name for one in applying if one.spec is None or not one.spec.network.cluster_dns),
        required_node_labels=required,
        problems=tuple(_problems(applying, namespace, production_namespaces)),
    )


def violations(
    spec: AgentDeploymentSpec,
    bounds: Bounds,
    *,
    namespace: str,
    reserved: tuple[Forbidden, ...],
    api_audiences: Collection[str] = (),
    issuers: Mapping[str, str] = MappingProxyType({}),
) -> tuple[Violation, ...]:
    """Returns for what an agent may not run as it asks to: `bounds.problems`, then field by field.

    There are none exactly when all that it asks for is accepted. Of very many only the first are returned.

    Args:
        spec: what the agent asks for.
        bounds: of its namespace.
        namespace: name of its namespace.
        reserved: the addresses of the nodes, their pods and the API server.
        api_audiences: audiences that the API server takes as its own.
        issuers: types of the issuers that there are, by name.
    """
    found = chain(
        bounds.problems,
        ceilings.workload(spec, bounds),
        ceilings.network(spec.network, bounds, namespace=namespace, reserved=reserved),
        identityceilings.identity(spec, bounds, api_audiences=api_audiences),
        credentialceilings.credentials(spec, bounds, issuers=issuers),
        breakerrules.violations(spec.circuit_breaker, bounds),
    )
    return tuple(islice(found, MAX_VIOLATIONS))


def _opened(policies: tuple[Policy, ...]) -> tuple[Network, ...]:
    """Returns what each of the policies opens."""
    if not policies:
        return ()
    opened = policies[0].opened
    for one in policies[1:]:
        opened = addresses.common(opened, one.opened)
    return opened


def _floor(opened: tuple[Network, ...]) -> tuple[Forbidden, ...]:
    if not opened:
        return _whole_floor()
    entries = zip(FLOOR, _whole_floor(), strict=True)
    return tuple(
        Forbidden(network=left, what=closed.what, by=closed.by)
        for entry, closed in entries
        for left in (addresses.without(closed.network, opened) if entry.openable else (closed.network,))
    )


@cache
def _whole_floor() -> tuple[Forbidden, ...]:
    return tuple(Forbidden(network=addresses.network(one.cidr), what=one.what, by=THE_FLOOR) for one in FLOOR)


def _problems(
    policies: tuple[Policy, ...], namespace: Object, production_namespaces: Mapping[str, tuple[str, ...]]
) -> Iterator[Violation]:
    name = namespace["metadata"]["name"]
    if not policies:
        yield Violation(
            policy="",
            field=NAMESPACE,
            message=f"no SandboxPolicy selects namespace {name}, so nothing is accepted there; accepted is a namespace "
            "with labels that the spec.namespaceSelector of a SandboxPolicy selects",
        )
    for one in policies:
        if one.problems:
            yield Violation(
                policy=one.name,
                field=NAMESPACE,
                message=f"SandboxPolicy {one.name} applies to namespace {name} and cannot be understood, so nothing is "
                f"accepted there: {' '.join(one.problems)}",
            )
    for by in production_namespaces.get(name, ()):
        yield Violation(
            policy=by,
            field=NAMESPACE,
            message=f"namespace {name} is itself production by the spec.production.namespaceSelector of SandboxPolicy "
            f"{by}, where no agent runs; accepted is a namespace that it does not select",
        )
    yield from _contradictions(policies)


def _contradictions(policies: tuple[Policy, ...]) -> Iterator[Violation]:
    """Yields, for each policy, the node labels of which another policy requires another value: no node has both."""
    wanted = [(one.name, one.spec.workload.required_node_labels) for one in policies if one.spec is not None]
    for name, labels in wanted:
        for key, value in sorted(labels.items()):
            other = next((each for each in wanted if each[1].get(key, value) != value), None)
            if other is not None:
                yield Violation(
                    policy=name,
                    field="spec.placement.nodeSelector",
                    message=f"SandboxPolicy {name} requires nodes with the label {key}={value} and SandboxPolicy "
                    f"{other[0]} with {key}={other[1][key]} (spec.workload.requiredNodeLabels), so no node is accepted "
                    "until a platform engineer makes them agree",
                )
