"""The AgentDeployment: one AI agent and what it may have. The CRD is generated from these models.

There is no PodSpec in the schema, so what it lacks cannot be asked for: no host namespaces, no volumes of the host,
no service account of choice, no capabilities, no sidecars, no secret references.
"""

from typing import Annotated, Any, Final, Literal

from pydantic import Field

from bulkhead.api.circuitbreaker import CircuitBreaker, PreStop
from bulkhead.api.container import (
    PORT_RULES,
    Arguments,
    EnvList,
    ImageReference,
    PortList,
    Probes,
    Resources,
)
from bulkhead.api.credentials import MAX_CREDENTIALS, Credential
from bulkhead.api.fields import (
    ATOMIC,
    DNS_LABEL_PATTERN,
    DnsName,
    Keyed,
    LabelKey,
    LabelValue,
    Model,
    Rule,
    Storage,
    Text,
    broken,
    lacks,
    matches,
)
from bulkhead.api.identity import Identity
from bulkhead.api.network import NETWORK_RULES, Network
from bulkhead.api.problems import InvalidSpec, validated
from bulkhead.api.selectors import LabelMap, label_map_rules

__all__ = ["AgentDeploymentSpec", "InvalidSpec", "parse_spec"]

MAX_NAME: Final = 52
"""Characters. The StatefulSet controller puts NAME-HASH, with a hash of up to 10, into a label of at most 63."""

NAME_RULE: Final = Rule(
    f"self.metadata.name.size() <= {MAX_NAME} && self.metadata.name.matches(r'^{DNS_LABEL_PATTERN}$')",
    f"accepted as metadata.name are up to {MAX_NAME} lower case letters, digits and '-', "
    "beginning and ending with a letter or digit",
    lambda name: len(name) <= MAX_NAME and not broken(name, (matches(DNS_LABEL_PATTERN, ""),)),
)

_RESERVED_PATHS = ("tmp", "run", "proc", "sys", "dev", "etc", "var/run")
_MOUNT_RULES = (
    matches(r"(/[A-Za-z0-9._-]+)+", "accepted is an absolute path such as /workspace, without a '/' at its end"),
    lacks(r"/\.\.?(/|$)", "accepted is a path without '.' and '..' in it"),
    lacks(
        rf"^/({'|'.join(_RESERVED_PATHS)})(/|$)|^/var$",
        "accepted is a path that does not overlap " + ", ".join(f"/{path}" for path in _RESERVED_PATHS),
    ),
)


class Workspace(Model):
    """A volume that survives suspension, one for each replica."""

    size: Storage
    """Size of the volume, for example 1Gi. Cannot be changed."""
    mount_path: Annotated[str, Text(255, rules=_MOUNT_RULES)] = "/workspace"
    """Where the agent finds it."""
    storage_class_name: DnsName | None = None
    """StorageClass of the volume; the cluster's default if not given. Cannot be changed."""
    on_delete: Literal["Retain", "Delete"] = "Retain"
    """What becomes of the volumes when the AgentDeployment is deleted. Suspension and scaling never delete them."""

    RULES = (
        Rule(
            "self.size == oldSelf.size",
            "workspace.size cannot be changed; accepted is the size it has. For another size create a new "
            "AgentDeployment and copy the data, or grow the claims where the StorageClass allows it",
        ),
        Rule(
            "has(self.storageClassName) == has(oldSelf.storageClassName) && "
            "(!has(self.storageClassName) || self.storageClassName == oldSelf.storageClassName)",
            "workspace.storageClassName cannot be changed; accepted is the class it has. "
            "For another class create a new AgentDeployment and copy the data",
        ),
    )


class Toleration(Model):
    """A taint of nodes that the agent's pods tolerate."""

    key: LabelKey
    """Key of the taint. Required: a toleration without a key tolerates every taint."""
    operator: Literal["Exists", "Equal"] = "Equal"
    """Exists tolerates any value of the taint, Equal the one given."""
    value: LabelValue | None = None
    """Value of the taint, with Equal; not given means the empty value."""
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = None
    """Effect of the taint; every effect if not given."""
    toleration_seconds: Annotated[int, Field(ge=0, le=86400)] | None = None
    """Seconds for which a NoExecute taint is tolerated; without end if not given."""

    RULES = (
        Rule(
            "self.operator != 'Exists' || !has(self.value)",
            "accepted with operator Exists is no value",
            lambda toleration: toleration.operator != "Exists" or toleration.value is None,
        ),
        Rule(
            "!has(self.tolerationSeconds) || (has(self.effect) && self.effect == 'NoExecute')",
            "accepted with tolerationSeconds is the effect NoExecute",
            lambda toleration: toleration.toleration_seconds is None or toleration.effect == "NoExecute",
        ),
    )


class TopologySpread(Model):
    """How evenly the replicas spread over a topology."""

    topology_key: LabelKey
    """Label of nodes whose values are the places to spread over."""
    max_skew: Annotated[int, Field(ge=1, le=100)] = 1
    """Difference in replicas between two places at most."""
    when_unsatisfiable: Literal["DoNotSchedule", "ScheduleAnyway"] = "DoNotSchedule"
    """Whether a replica waits or is placed anyway when the spread cannot be kept."""


class Placement(Model):
    """On which nodes the agent may run."""

    node_selector: LabelMap = Field(default_factory=dict)
    """Labels that a node must have."""
    tolerations: Annotated[list[Toleration], Field(max_length=16, json_schema_extra=ATOMIC)] = Field(
        default_factory=list
    )
    """Taints of nodes that are tolerated."""
    topology_spread: Annotated[
        list[TopologySpread], Field(max_length=4), Keyed("topology_key", "when_unsatisfiable")
    ] = Field(default_factory=list)
    """How evenly the replicas spread over topologies."""

    RULES = label_map_rules("nodeSelector", "node_selector")


class Lifetime(Model):
    """How long the agent may run."""

    max_seconds: Annotated[int, Field(ge=1, le=31_536_000)]
    """Seconds of one run, at most a year. Resuming begins a new run."""
    on_expiry: Literal["Suspend", "Delete"] = "Suspend"
    """What happens then: Suspend stops the agent, Delete deletes the AgentDeployment."""


class AgentDeploymentSpec(Model):
    """What the agent is to be."""

    owner: Annotated[
        str,
        Text(
            253,
            rules=(matches(r"[^\x00-\x20\x7f]([^\x00-\x1f\x7f]*[^\x00-\x20\x7f])?", "accepted is one line of text"),),
        ),
    ]
    """Who answers for the agent, for example an e-mail address or a team."""
    tenant: LabelValue | None = None
    """Tenant that the agent belongs to; becomes a label of its pods."""
    workflow: LabelValue | None = None
    """Workflow that the agent is part of; becomes a label of its pods. The agent's name if not given."""
    suspend: bool = False
    """True stops the agent: network, then credentials, then processes. Its workspace is kept."""
    suspend_reason: Annotated[str, Text(1024, shortest=0)] | None = None
    """Why it is suspended, for people."""
    suspend_grace_seconds: Annotated[int, Field(ge=0, le=30)] = 5
    """Seconds between SIGTERM and SIGKILL when the agent is stopped. 0 and 1 are taken as 2."""
    replicas: Annotated[int, Field(ge=0, le=100)] = 1
    """How many of it run, each with a workspace of its own."""
    image: ImageReference
    """Container image, for example registry.example/agent:1.2 or with @sha256:DIGEST."""
    command: Arguments = Field(default_factory=list)
    """Command of the container; that of the image if empty."""
    args: Arguments = Field(default_factory=list)
    """Arguments of the command; those of the image if neither command nor args is given."""
    env: EnvList = Field(default_factory=list)
    """Environment variables: plain values and fields of the pod, no credentials."""
    ports: PortList = Field(default_factory=list)
    """Ports on which the agent listens."""
    resources: Resources = Resources()
    """Compute resources of the container."""
    probes: Probes | None = None
    """Health checks of the container."""
    workspace: Workspace | None = None
    """A volume that survives suspension. Can be neither added nor removed later."""
    scratch: Storage = "64Mi"
    """Size of the writable /tmp. It goes with the pod; the rest of the root file system is read-only."""
    runtime_class_name: DnsName | None = None
    """RuntimeClass of the pod, for example one of gVisor or Kata Containers, where the cluster has it."""
    placement: Placement | None = None
    """On which nodes the agent may run."""
    network: Network = Network()
    """Whom the agent may call and who may call it. Nothing and nobody if not given."""
    identity: Identity = Field(default_factory=Identity)
    """Who the agent is to the API server and to others. Nobody if not given."""
    credentials: Annotated[list[Credential], Field(max_length=MAX_CREDENTIALS), Keyed("name")] = Field(
        default_factory=list
    )
    """Credentials that live for minutes, each as files in /var/run/bulkhead/credentials/NAME."""
    lifetime: Lifetime | None = None
    """How long the agent may run; without end if not given."""
    pre_stop: PreStop | None = None
    """A command that runs before SIGTERM whenever a pod of the agent is stopped, inside of suspendGraceSeconds."""
    circuit_breaker: CircuitBreaker = Field(default_factory=CircuitBreaker)
    """What opens the agent's circuit breaker in addition to what the policies say, and how it closes again."""

    RULES = (
        *PORT_RULES,
        *NETWORK_RULES,
        Rule(
            "has(self.workspace) == has(oldSelf.workspace)",
            "a workspace cannot be added or removed later. Create a new AgentDeployment instead; "
            "the claims of this one are kept if its workspace.onDelete is Retain",
        ),
    )


def parse_spec(raw: Any, *, name: str) -> AgentDeploymentSpec:
    """Reads the spec of an AgentDeployment as the API server stores it.

    Everything that the CRD checks is checked again, the name too: the object may have been stored before a rule
    existed. Rules about changes are the API server's alone.

    Args:
        raw: `spec` of the object; anything that JSON can hold.
        name: `metadata.name` of the object.

    Raises:
        InvalidSpec: with a sentence for each problem.
    """
    return validated(AgentDeploymentSpec, raw, name=name, name_rule=NAME_RULE)
