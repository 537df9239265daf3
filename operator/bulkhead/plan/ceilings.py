"""What an agent asks for, measured against what each policy lets it ask for.

Each policy is measured by itself, so that a further policy can only add refusals. What a policy refuses is told with
the policy's field that refuses it and with what it would accept.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Final

from bulkhead.api.agentdeployment import AgentDeploymentSpec
from bulkhead.api.container import Limits
from bulkhead.api.floor import FLOOR, SHARED_ADDRESS_SPACE
from bulkhead.api.network import MAX_EXCEPT, Network
from bulkhead.api.quantity import Quantity
from bulkhead.api.sandboxpolicy import MaxResources, WorkloadCeiling
from bulkhead.plan import addresses
from bulkhead.plan.refusals import THE_FLOOR, Forbidden, Violation, listed, reserved_table

if TYPE_CHECKING:
    from bulkhead.plan.policy import Bounds

_EXCEPTIONS_SHOWN: Final = 16
"""More than the floor of one family needs, so that they can be copied."""
_OPENABLE: Final = frozenset(one.what for one in FLOOR if one.openable)
_DOCKER_HUB: Final = "docker.io"
_RESOURCES: Final = (
    ("cpu", "cpu", "cpu"),
    ("memory", "memory", "memory"),
    ("ephemeral_storage", "ephemeral-storage", "ephemeralStorage"),
)
"""The attribute of a resource in both models, its name in an agent's limits, and its name in a policy."""

_Found = Iterator[tuple[str, str]]
"""Fields of the AgentDeployment, and what is wrong with each in the words that come after the policy's name."""


def workload(spec: AgentDeploymentSpec, bounds: Bounds) -> Iterator[Violation]:
    """Yields what of the workload is over a ceiling, field by field in the order of the spec."""
    for check in (_replicas, _image, _resources, _runtime_class, _node_selector, _tolerations):
        yield from _by_each_policy(check, spec, bounds)


def network(asked: Network, bounds: Bounds, *, namespace: str, reserved: tuple[Forbidden, ...]) -> Iterator[Violation]:
    """Yields what of the network may not be asked for or would reach what is closed, in the order of its fields.

    Args:
        asked: the agent's network.
        bounds: of its namespace.
        namespace: name of its namespace, which it may always name.
        reserved: the addresses of the nodes, their pods and the API server.
    """
    cidrs = _Cidrs(bounds, reserved)
    for index, rule in enumerate(asked.egress):
        path = f"spec.network.egress[{index}].to"
        if rule.to.service is not None:
            yield from _named(f"{path}.service", rule.to.service.split("/")[0], bounds, own=namespace)
        if rule.to.pods is not None:
            yield from _named(f"{path}.pods.namespace", rule.to.pods.namespace or namespace, bounds, own=namespace)
        if rule.to.cidr is not None:
            yield from cidrs.check(f"{path}.cidr", rule.to.cidr, rule.to.except_)
    for index, entry in enumerate(asked.ingress):
        path = f"spec.network.ingress[{index}].from"
        if entry.from_.pods is not None:
            yield from _named(f"{path}.pods.namespace", entry.from_.pods.namespace or namespace, bounds, own=namespace)
        if entry.from_.cidr is not None:
            yield from cidrs.check(f"{path}.cidr", entry.from_.cidr, entry.from_.except_)
    if asked.dns == "Cluster":
        for name in bounds.cluster_dns:
            yield Violation(
                policy=name,
                field="spec.network.dns",
                message=f"SandboxPolicy {name} does not let agents use the cluster's DNS (its "
                "spec.network.clusterDNS is not true); accepted is None, with which the Services named in egress are "
                "found by name all the same",
            )


def image_name(reference: str) -> str:
    """Returns an image reference completed and without tag and digest, as in `docker.io/library/agent`.

    Completed as container runtimes do it (distribution/reference, `ParseNormalizedNamed`): a first part without a
    dot, a colon or an upper case letter that is not localhost is a path of Docker Hub, and there a name without a
    path is in `library`.
    """
    name = reference.partition("@")[0]
    host, slash, path = name.partition("/")
    if not slash or not (host == "localhost" or "." in host or ":" in host or host != host.lower()):
        host, path = _DOCKER_HUB, name
    if host == f"index.{_DOCKER_HUB}":
        host = _DOCKER_HUB
    if host == _DOCKER_HUB and "/" not in path:
        path = f"library/{path}"
    # The host may have a port, so the tag is looked for behind the last slash only.
    return f"{host}/{path.partition(':')[0]}"


def _by_each_policy(
    check: Callable[[AgentDeploymentSpec, WorkloadCeiling], _Found], spec: AgentDeploymentSpec, bounds: Bounds
) -> Iterator[Violation]:
    for policy in bounds.policies:
        # What cannot be understood is refused as a whole, in bounds.problems.
        if policy.spec is not None:
            for field, words in check(spec, policy.spec.workload):
                yield Violation(policy=policy.name, field=field, message=f"SandboxPolicy {policy.name} {words}")


def _replicas(spec: AgentDeploymentSpec, ceiling: WorkloadCeiling) -> _Found:
    most = ceiling.max_replicas
    if most is not None and spec.replicas > most:
        yield (
            "spec.replicas",
            f"accepts replicas up to {most} (its spec.workload.maxReplicas), and {spec.replicas} were asked for",
        )


def _image(spec: AgentDeploymentSpec, ceiling: WorkloadCeiling) -> _Found:
    name = image_name(spec.image)
    if ceiling.registries is not None and not any(_begins(name, prefix) for prefix in ceiling.registries):
        yield (
            "spec.image",
            f"does not accept images named {name}; accepted are images whose name begins with "
            f"{listed(ceiling.registries, last='or')} (its spec.workload.registries)",
        )
    if ceiling.require_digest and "@" not in spec.image:
        yield (
            "spec.image",
            "accepts images by digest only (its spec.workload.requireDigest); accepted is the image with "
            "@sha256: and its digest at the end",
        )


def _begins(name: str, prefix: str) -> bool:
    host, slash, path = prefix.partition("/")
    if host == f"index.{_DOCKER_HUB}":
        prefix = f"{_DOCKER_HUB}{slash}{path}"
    return name.startswith(prefix if prefix.endswith("/") else f"{prefix}/") or name == prefix


def _resources(spec: AgentDeploymentSpec, ceiling: WorkloadCeiling) -> _Found:
    if ceiling.max_resources is None:
        return
    for attribute, resource, field in _RESOURCES:
        most, asked = _amount(ceiling.max_resources, attribute), _amount(spec.resources.limits, attribute)
        if most is not None and asked is not None and Quantity.parse(asked) > Quantity.parse(most):
            yield (
                f"spec.resources.limits.{resource}",
                f"accepts at most {most} (its spec.workload.maxResources.{field}), and {asked} was asked for",
            )


def _amount(amounts: Limits | MaxResources, attribute: str) -> str | None:
    found: str | None = getattr(amounts, attribute)
    return found


def _runtime_class(spec: AgentDeploymentSpec, ceiling: WorkloadCeiling) -> _Found:
    accepted, asked = ceiling.runtime_classes, spec.runtime_class_name
    if accepted is not None and asked not in accepted:
        given = f"does not accept {asked}" if asked else "does not accept an agent without a RuntimeClass"
        yield (
            "spec.runtimeClassName",
            f"{given}; accepted is {listed(accepted, last='or')} (its spec.workload.runtimeClasses)",
        )


def _node_selector(spec: AgentDeploymentSpec, ceiling: WorkloadCeiling) -> _Found:
    asked = spec.placement.node_selector if spec.placement is not None else {}
    for key, value in sorted(ceiling.required_node_labels.items()):
        if asked.get(key, value) != value:
            yield (
                "spec.placement.nodeSelector",
                f"requires nodes with the label {key}={value} (its spec.workload.requiredNodeLabels), and "
                f"{key}={asked[key]} was asked for; accepted is {key}={value}, or no {key} at all",
            )


def _tolerations(spec: AgentDeploymentSpec, ceiling: WorkloadCeiling) -> _Found:
    if ceiling.tolerations is None or spec.placement is None:
        return
    accepted = listed(ceiling.tolerations, last="or") if ceiling.tolerations else "no toleration at all"
    for index, toleration in enumerate(spec.placement.tolerations):
        if toleration.key not in ceiling.tolerations:
            yield (
                f"spec.placement.tolerations[{index}].key",
                f"does not let agents tolerate the taint {toleration.key}; accepted is {accepted} "
                "(its spec.workload.tolerations)",
            )


def _named(field: str, name: str, bounds: Bounds, *, own: str) -> Iterator[Violation]:
    """Yields why a namespace may not be named. Its own being production is in `bounds.problems`."""
    if name == own:
        return
    for policy in bounds.policies:
        if policy.spec is None or name in policy.spec.network.namespaces:
            continue
        accepted = listed([own, *policy.spec.network.namespaces], last="or")
        yield Violation(
            policy=policy.name,
            field=field,
            message=f"SandboxPolicy {policy.name} does not let agents name namespace {name}; accepted is {accepted} "
            "(their own, and its spec.network.namespaces)",
        )
    for by in bounds.production_namespaces.get(name, ()):
        yield Violation(
            policy=by,
            field=field,
            message=f"namespace {name} is production by the spec.production.namespaceSelector of SandboxPolicy {by}; "
            "accepted is a namespace that is not",
        )


class _Cidrs:
    """Checks the networks of one agent.

    Args:
        bounds: of its namespace.
        reserved: the addresses of the nodes, their pods and the API server.
    """

    def __init__(self, bounds: Bounds, reserved: tuple[Forbidden, ...]) -> None:
        self._bounds = bounds
        self._reserved = reserved

    def check(self, field: str, cidr: str, excepts: Sequence[str]) -> Iterator[Violation]:
        """Yields why a network without its exceptions may not be asked for."""
        asked, left_out = addresses.network(cidr), tuple(map(addresses.network, excepts))
        yield from self._not_askable(field, asked)
        closed: dict[str, list[Forbidden]] = {}
        for table in (self._bounds.closed, reserved_table(self._reserved)):
            for one in table.reached(asked, left_out):
                closed.setdefault(one.by, []).append(one)
        for _, reached in sorted(closed.items()):
            yield Violation(
                policy=reached[0].policy, field=field, message=_reach(asked, reached, excepted=len(left_out))
            )

    def _not_askable(self, field: str, asked: addresses.Network) -> Iterator[Violation]:
        for policy in self._bounds.policies:
            if policy.spec is None or policy.askable.holds(asked):
                continue
            accepted = policy.spec.network.egress_cidrs
            words = f"are networks inside of {listed(accepted, last='or')}" if accepted else "is none at all"
            yield Violation(
                policy=policy.name,
                field=field,
                message=f"SandboxPolicy {policy.name} does not let agents ask for {asked}; accepted {words} "
                "(its spec.network.egressCIDRs)",
            )


def _reach(asked: addresses.Network, reached: Sequence[Forbidden], *, excepted: int) -> str:
    what = f"{asked}, even without its except, reaches" if excepted else f"{asked} reaches"
    return f"{what} {listed(reached)}, {_whose(reached[0])}; {_accepted(asked, reached, excepted=excepted)}"


def _whose(closed: Forbidden) -> str:
    if closed.policy:
        return f"closed by SandboxPolicy {closed.policy} (its spec.production)"
    return "closed whatever a policy says" if closed.by == THE_FLOOR else "closed as part of the cluster itself"


def _accepted(asked: addresses.Network, reached: Sequence[Forbidden], *, excepted: int) -> str:
    most = MAX_EXCEPT - excepted
    needed = list(islice(addresses.exceptions(asked, (one.network for one in reached)), most + 1))
    if needed == [asked]:
        accepted = f"accepted is a network outside of {listed(one.network for one in reached)}"
    elif len(needed) > most:
        accepted = f"accepted is a smaller network: except may have {MAX_EXCEPT} entries, too few to leave these out"
    else:
        these = listed(needed, most=_EXCEPTIONS_SHOWN)
        accepted = f"accepted is {asked} with {these} {'added to' if excepted else 'in'} its except"
    if any(one.what in _OPENABLE and one.by == THE_FLOOR for one in reached):
        accepted += (
            f", and inside of {SHARED_ADDRESS_SPACE} what every policy opens (spec.network.openSharedAddressSpace)"
        )
    return accepted
