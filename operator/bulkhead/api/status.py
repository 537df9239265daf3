"""The status of an AgentDeployment: what the operator saw and did. Written by the operator alone."""

from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from bulkhead.api.conditions import MAX_MESSAGE
from bulkhead.api.fields import ATOMIC, Distinct, Keyed, Model, Text

_TIME = {"format": "date-time", "maxLength": 64}

Time = Annotated[str, Field(json_schema_extra=_TIME)]
"""metav1.Time: RFC 3339 in UTC, whole seconds."""
MicroTime = Annotated[str, Field(json_schema_extra=_TIME)]
"""metav1.MicroTime: RFC 3339 in UTC, six decimals."""
Count = Annotated[int, Field(ge=0)]
Seconds = Annotated[int, Field(ge=0, le=86400)]
Word = Annotated[str, Text(64)]
ExitCode = Annotated[int, Field(ge=-(2**31), le=2**31 - 1)]
"""As ContainerStateTerminated has it, an int32."""


class StatusModel(Model):
    """Base of what is stored in status. Unknown fields are ignored: a newer operator may have written it."""

    model_config = ConfigDict(extra="ignore")


class ConditionStatus(StatusModel):
    """One aspect of the agent's state, as Kubernetes conditions are."""

    type: Annotated[str, Text(316)]
    """Which aspect."""
    status: Literal["True", "False", "Unknown"]
    """Whether it holds."""
    reason: Annotated[str, Text(1024)]
    """Why, in one word, for programs."""
    message: Annotated[str, Text(MAX_MESSAGE, shortest=0)] = ""
    """Why, in sentences, for people."""
    observed_generation: Count | None = None
    """The metadata.generation that this was seen at."""
    last_transition_time: Time
    """When the status last changed from one value to another."""


class SuspensionReason(StatusModel):
    """One reason for which the agent must not run."""

    type: Word
    """The kind of reason in one word, for example Requested, KillSwitch, CircuitOpen, LifetimeExpired or Invalid."""
    message: Annotated[str, Text(4096, shortest=0)] = ""
    """The reason in sentences."""


class ContainerExit(StatusModel):
    """How one container ended, from the kubelet's record of it."""

    pod: Annotated[str, Text(253)]
    """Name of its pod."""
    container: Annotated[str, Text(63)]
    """Name of the container."""
    exit_code: ExitCode
    """What its process returned; 128 and the number of the signal where a signal ended it."""
    reason: Annotated[str, Text(128, shortest=0)] | None = None
    """Why in one word, for example Completed, Error or OOMKilled."""
    finished_at: Time | None = None
    """When it ended."""
    message: Annotated[str, Text(1024, shortest=0)] | None = None
    """Its termination message, or the last lines of its log; what could be a secret is left out."""


Exits = Annotated[list[ContainerExit], Field(max_length=32, json_schema_extra=ATOMIC)]


class Suspension(StatusModel):
    """A suspension and the time of each of its steps."""

    reasons: Annotated[list[SuspensionReason], Field(max_length=16), Keyed("type")] = Field(default_factory=list)
    """Why the agent must not run. It resumes when none is left."""
    since: MicroTime | None = None
    """When the operator first saw a reason."""
    network_cut_at: MicroTime | None = None
    """When the rules that let the agent reach anything were gone."""
    credentials_revoked_at: MicroTime | None = None
    """When everything the agent could show to others was gone."""
    processes_signalled_at: MicroTime | None = None
    """When the deletion of its pods was accepted; their processes get SIGTERM, and SIGKILL after the grace period."""
    stopped_at: MicroTime | None = None
    """When the API server showed that no pod of the agent is left."""
    grace_seconds: Seconds | None = None
    """Seconds between SIGTERM and SIGKILL."""
    pending: Annotated[list[Annotated[str, Text(253)]], Field(max_length=16, json_schema_extra=ATOMIC)] = Field(
        default_factory=list
    )
    """Names of pods that are still there, at most 16."""
    unrevoked: Annotated[list[Annotated[str, Text(512)]], Field(max_length=16, json_schema_extra=ATOMIC)] = Field(
        default_factory=list
    )
    """Credentials that could not be revoked yet, and why, at most 16. It is tried again until they are."""
    exits: Exits = Field(default_factory=list)
    """How the agent's containers ended when it was stopped, at most 32."""


class CredentialStatus(StatusModel):
    """One credential and the lease behind it. Never a value."""

    name: Annotated[str, Text(63)]
    """Name in spec.credentials."""
    issuer: Annotated[str, Text(63)]
    """Who issues it."""
    state: Word
    """What it is in one word: Pending, Active, Rotating, Failing, Expired or Revoking."""
    lease: Word | None = None
    """Id of the lease, as in the operator's records and in the names of what the issuer made for it."""
    issued_at: MicroTime | None = None
    """When it was issued."""
    expires_at: MicroTime | None = None
    """When it ends, if nothing renews it."""
    rotates_at: MicroTime | None = None
    """When the next one is due to take its place."""
    message: Annotated[str, Text(512, shortest=0)] = ""
    """Who it is at the issuer, or what is in its way, in sentences."""


class Layer(StatusModel):
    """One layer by which the network is closed."""

    name: Word
    """Which layer."""
    since: Time
    """When it was first seen in force."""


class Isolation(StatusModel):
    """The proof that the agent reaches nothing that it must not, and what became of it."""

    result: Literal["Proven", "Pending", "Open", "Lost", "Unknown"]
    """What the proof says."""
    since: MicroTime
    """When the result last changed."""
    proven_at: MicroTime | None = None
    """When isolation was last proven."""
    targets: Annotated[list[Annotated[str, Text(128)]], Field(max_length=64, json_schema_extra=ATOMIC)] = Field(
        default_factory=list
    )
    """What is tried, each as NAME PROTOCOL ADDRESS PORT."""
    answered: Annotated[list[Annotated[str, Text(256)]], Field(max_length=16, json_schema_extra=ATOMIC)] = Field(
        default_factory=list
    )
    """What answered although nothing should."""
    lost_at: MicroTime | None = None
    """When isolation was lost, while the agent is suspended for it."""
    layers: Annotated[list[Layer], Field(max_length=8), Keyed("name")] = Field(default_factory=list)
    """The layers that are in force."""


class CircuitTrip(StatusModel):
    """What opened the breaker, with the evidence."""

    type: Word
    """What it is in one word: Restarts, OutOfMemory, CannotStart, IsolationLost, Query, Alert, Blind, or Unreadable
    where this status itself made no sense."""
    name: Annotated[str, Text(256, shortest=0)] | None = None
    """Which query or alert; absent for the others."""
    at: MicroTime
    """When it tripped."""
    message: Annotated[str, Text(1024, shortest=0)] | None = None
    """The evidence in sentences, with numbers and times."""
    value: Annotated[str, Text(64, shortest=0)] | None = None
    """What was counted or measured."""
    threshold: Annotated[str, Text(64, shortest=0)] | None = None
    """What would have been accepted."""
    query: Annotated[str, Text(2048, shortest=0)] | None = None
    """The query, of a trip by a query."""


class CircuitEvent(StatusModel):
    """Something that counts towards a trip for as long as its window is open."""

    at: MicroTime
    """When it happened."""
    type: Word
    """What it is in one word: Restarts or OutOfMemory."""
    pod_uid: Annotated[str, Text(64), Field(alias="podUID")]
    """UID of the pod."""
    container: Annotated[str, Text(63)]
    """Name of the container."""
    count: Count
    """How many of them."""


class CircuitCounter(StatusModel):
    """What was last seen on a container's own counters, so that nothing is counted twice."""

    pod_uid: Annotated[str, Text(64), Field(alias="podUID")]
    """UID of the pod."""
    container: Annotated[str, Text(63)]
    """Name of the container."""
    restarts: Count
    """Its restarts up to now."""
    oom_at: MicroTime | None = None
    """When it last ended for want of memory."""


class Circuit(StatusModel):
    """The circuit breaker: the whole memory of its state machine, so that it survives every restart of the operator."""

    state: Literal["Closed", "Open", "HalfOpen"]
    """Closed lets the agent run, Open suspends it, HalfOpen lets it run on trial."""
    since: MicroTime
    """When it came into this state."""
    trips: Annotated[list[CircuitTrip], Field(max_length=16, json_schema_extra=ATOMIC)] = Field(default_factory=list)
    """What opened it, or last opened it, at most 16."""
    attempts: Count | None = None
    """How often it opened since it was last closed for good."""
    retry_at: MicroTime | None = None
    """When it is tried again. Absent where only spec.circuitBreaker.resetAt closes it."""
    trial_ends_at: MicroTime | None = None
    """When the trial ends, if nothing trips until then."""
    reset_at: MicroTime | None = None
    """The spec.circuitBreaker.resetAt that was last honoured."""
    window: Annotated[list[CircuitEvent], Field(max_length=128, json_schema_extra=ATOMIC)] = Field(default_factory=list)
    """What is being counted, at most 128. Written only when something happened."""
    seen: Annotated[list[Annotated[str, Text(127)]], Field(max_length=128), Distinct()] = Field(default_factory=list)
    """Queries, as POLICY/NAME, that had a series of the agent in this run: while one is missing, the breaker cannot
    see."""
    blind_since: MicroTime | None = None
    """Since when the breaker cannot see. Absent while it can."""
    counted: Annotated[list[CircuitCounter], Field(max_length=128, json_schema_extra=ATOMIC)] = Field(
        default_factory=list
    )
    """The containers' own counters as they were last seen."""


class AgentDeploymentStatus(StatusModel):
    """What the operator saw and did. Written by the operator alone."""

    observed_generation: Count | None = None
    """The metadata.generation that this status is about."""
    state: Word | None = None
    """The conditions summed up in one word."""
    ready: Annotated[str, Text(32)] | None = None
    """Ready replicas and wanted replicas, as in 1/1."""
    workflow: Annotated[str, Text(253)] | None = None
    """The workflow that the agent counts as: spec.workflow, or the agent's name."""
    replicas: Count | None = None
    """Pods that the agent has."""
    ready_replicas: Count | None = None
    """Pods that are ready."""
    selector: Annotated[str, Text(1024)] | None = None
    """Label selector of the agent's pods, for the scale subresource."""
    run_started_at: MicroTime | None = None
    """When this run began: at creation or at the last resume. spec.lifetime counts from here."""
    user_namespaces: bool | None = None
    """Whether this run's pods have user namespaces of their own (hostUsers: false), as they do where every node can."""
    policies: Annotated[list[Annotated[str, Text(253)]], Field(max_length=64, json_schema_extra=ATOMIC)] = Field(
        default_factory=list
    )
    """Names of the SandboxPolicies that apply, sorted."""
    isolation: Isolation | None = None
    """The proof that the agent reaches nothing that it must not."""
    credentials: Annotated[list[CredentialStatus], Field(max_length=16), Keyed("name")] = Field(default_factory=list)
    """The credentials of the agent, without their values."""
    suspension: Suspension | None = None
    """The suspension that holds now. Absent while the agent may run."""
    last_suspension: Suspension | None = None
    """The last suspension that was carried out and has ended."""
    circuit: Circuit | None = None
    """The circuit breaker."""
    last_exits: Exits = Field(default_factory=list)
    """How the agent's containers ended lately, the newest first, at most 32."""
    conditions: Annotated[list[ConditionStatus], Field(max_length=16), Keyed("type")] = Field(default_factory=list)
    """The aspects of the agent's state."""
