"""The status of a SandboxPolicy: whom it applies to, who violates it, and whether its canaries can be reached."""

from typing import Annotated

from pydantic import Field

from bulkhead.api.fields import ATOMIC, Distinct, Keyed, Text
from bulkhead.api.status import ConditionStatus, Count, MicroTime, StatusModel

Name = Annotated[str, Text(253)]


class Violator(StatusModel):
    """An agent that asks for more than the policy accepts."""

    namespace: Name
    """Namespace of the agent."""
    name: Name
    """Name of the agent."""
    message: Annotated[str, Text(512, shortest=0)] = ""
    """What it asks for and what would be accepted."""


class CanaryStatus(StatusModel):
    """Whether the operator reaches a canary."""

    name: Name
    """Name of the canary."""
    reachable: bool
    """Whether the operator reached it when it last tried."""
    since: MicroTime | None = None
    """When that last changed."""
    message: Annotated[str, Text(512, shortest=0)] = ""
    """What happened when the operator tried."""


class QueryStatus(StatusModel):
    """Whether a query of the circuit breaker has an answer."""

    name: Name
    """Name of the query."""
    ok: bool
    """Whether Prometheus answered it with series that mean something."""
    since: MicroTime | None = None
    """When that last changed."""
    message: Annotated[str, Text(512, shortest=0)] | None = None
    """What is wrong with it, in sentences."""


class SandboxPolicyStatus(StatusModel):
    """Whom the policy applies to and what came of it. Written by the operator alone."""

    observed_generation: Count | None = None
    """The metadata.generation that this status is about."""
    namespaces: Count | None = None
    """How many sandbox namespaces the policy selects."""
    agents: Count | None = None
    """How many agents there are in them."""
    violating: Count | None = None
    """How many of these the policy does not accept."""
    violators: Annotated[list[Violator], Field(max_length=16, json_schema_extra=ATOMIC)] = Field(default_factory=list)
    """The first of them, at most 16."""
    production_namespaces: Annotated[list[Name], Field(max_length=256), Distinct()] = Field(default_factory=list)
    """Namespaces that production.namespaceSelector selects, sorted; at most 256."""
    canaries: Annotated[list[CanaryStatus], Field(max_length=16), Keyed("name")] = Field(default_factory=list)
    """Whether the operator reaches the canaries."""
    queries: Annotated[list[QueryStatus], Field(max_length=32), Keyed("name")] = Field(default_factory=list)
    """Whether the queries of the circuit breaker have an answer."""
    conditions: Annotated[list[ConditionStatus], Field(max_length=16), Keyed("type")] = Field(default_factory=list)
    """Ready, CanariesReachable and ClusterwideDenies."""
