"""The SandboxPolicy: what the platform team names as production, and how much an agent may ask for at most.

Cluster-scoped. Every policy that selects a namespace applies to its agents, and the strictest wins: `plan.policy` says
how. What `network`, `identity` and `credentials` do not name may not be asked for; what `workload` does not name is
not bounded.
"""

from typing import Annotated, Any, Final, Literal

from pydantic import Field

from bulkhead.api.cidrs import Cidr, UnicastAddress, within
from bulkhead.api.circuitbreaker import CircuitBreakerPolicy
from bulkhead.api.credentials import (
    MAX_PARAMETERS,
    PARAMETER_NAME_RULE,
    VAULT_PATH_RULES,
    IssuerName,
    ParameterName,
    PostgresRole,
    SecretKey,
    TtlSeconds,
)
from bulkhead.api.fields import (
    ATOMIC,
    DNS_LABEL_PATTERN,
    Cpu,
    Distinct,
    DnsName,
    Keyed,
    LabelKey,
    Memory,
    Model,
    PortNumber,
    Rule,
    Storage,
    Text,
    broken,
    matches,
)
from bulkhead.api.floor import SHARED_ADDRESS_SPACE
from bulkhead.api.identity import MAX_API_RULES, MAX_TOKEN_SECONDS, Audience, PolicyRule, TokenSeconds
from bulkhead.api.network import NamespaceName
from bulkhead.api.problems import InvalidSpec, validated
from bulkhead.api.selectors import LabelMap, LabelSelector, label_map_rules

__all__ = ["InvalidSpec", "SandboxPolicySpec", "parse_policy"]

MAX_CIDRS: Final = 64
MAX_CANARIES: Final = 16
MAX_NAME: Final = 63
"""Characters: as many as the value of a label has, so that what is made for a policy can be labelled with its name."""

NAME_RULE: Final = Rule(
    f"self.metadata.name.size() <= {MAX_NAME} && self.metadata.name.matches(r'^{DNS_LABEL_PATTERN}$')",
    f"accepted as metadata.name are up to {MAX_NAME} lower case letters, digits and '-', "
    "beginning and ending with a letter or digit",
    lambda name: len(name) <= MAX_NAME and not broken(name, (matches(DNS_LABEL_PATTERN, ""),)),
)

_HOST_LABEL = "[a-z0-9]([a-z0-9-]*[a-z0-9])?"
_PORT = "(:[0-9]{1,5})"
# As in image references: without a dot, a port or the name localhost, the first part is a path of Docker Hub.
_HOST = rf"({_HOST_LABEL}(\.{_HOST_LABEL})+{_PORT}?|{_HOST_LABEL}{_PORT}|localhost|\[[0-9a-f:]+\]{_PORT}?)"
_PATH = r"(/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)*"

CidrList = Annotated[list[Cidr], Field(max_length=MAX_CIDRS), Distinct()]
DnsLabel = Annotated[
    str, Text(63, rules=(matches(DNS_LABEL_PATTERN, "accepted are lower case letters, digits and '-'"),))
]
RegistryPrefix = Annotated[
    str,
    Text(
        255,
        rules=(
            matches(
                rf"{_HOST}{_PATH}/?",
                "accepted is the beginning of image references, with the registry's host: HOST[:PORT][/PATH], as in "
                "registry.example/team/",
            ),
        ),
    ),
]
SharedCidr = Annotated[
    str,
    Text(
        18,
        rules=(
            Rule(
                f"isCIDR(self) && string(cidr(self).masked()) == self"
                f" && cidr('{SHARED_ADDRESS_SPACE}').containsCIDR(self)",
                f"accepted is a network inside of {SHARED_ADDRESS_SPACE}, such as 100.64.8.0/24, without host bits",
                lambda text: within(text, SHARED_ADDRESS_SPACE),
            ),
        ),
    ),
]
AcceptedValue = Annotated[str, Text(1024, shortest=0)]
"""A value of a parameter. It has no rule of its own: there may be 8,192 of them, and what no agent can ask for bounds
nothing."""
VaultPathCeiling = Annotated[
    str,
    Text(
        514,
        rules=(
            matches(
                r"[A-Za-z0-9._-]+(/[A-Za-z0-9._-]+)*(/\*)?",
                "accepted is a path such as database/creds/reader, or one with /* at its end for everything below it",
            ),
            VAULT_PATH_RULES[1],
        ),
    ),
]


class Canary(Model):
    """An address in production that the operator reaches and an agent must not. It makes silence mean something."""

    name: DnsLabel
    """Name of the canary, as it appears in status."""
    address: UnicastAddress
    """Its address. From an agent's pod nothing may arrive there; from the operator it must be reachable."""
    port: PortNumber
    """Its port."""
    protocol: Literal["TCP", "UDP"] = "TCP"
    """Its protocol. A UDP canary must answer every datagram."""


class Production(Model):
    """What no agent may reach."""

    cidrs: CidrList = Field(default_factory=list)
    """Networks of production, of both address families. No rule is ever written that reaches one of them."""
    namespace_selector: LabelSelector | None = None
    """Namespaces of this cluster that are production, by their labels; none if not given."""
    canaries: Annotated[list[Canary], Field(max_length=MAX_CANARIES), Keyed("name")] = Field(default_factory=list)
    """Addresses in production by which isolation is proven."""

    RULES = (
        Rule(
            "!has(self.namespaceSelector) || "
            "(has(self.namespaceSelector.matchLabels) && self.namespaceSelector.matchLabels.size() > 0) || "
            "(has(self.namespaceSelector.matchExpressions) && self.namespaceSelector.matchExpressions.size() > 0)",
            "accepted as production.namespaceSelector is a selector with at least one requirement: {} would make every "
            "namespace production",
            lambda production: (
                production.namespace_selector is None or not production.namespace_selector.selects_everything
            ),
        ),
    )


class NetworkCeiling(Model):
    """What agents may ask for in spec.network. What is not named here may not be asked for."""

    egress_cidrs: Annotated[CidrList, Field(alias="egressCIDRs")] = Field(default_factory=list)
    """Networks that may be asked for: a cidr of an agent's egress or ingress must lie inside of one of them."""
    namespaces: Annotated[list[NamespaceName], Field(max_length=64), Distinct()] = Field(default_factory=list)
    """Other namespaces whose Services and pods may be named. Its own an agent always may name."""
    cluster_dns: Annotated[bool, Field(alias="clusterDNS")] = False
    """Whether the cluster's DNS may be asked for. A resolver carries data out in the names that are asked for."""
    open_shared_address_space: Annotated[list[SharedCidr], Field(max_length=16), Distinct()] = Field(
        default_factory=list
    )
    """Parts of 100.64.0.0/10 that may be asked for, where a cluster or a provider uses them for what agents need."""


class ApiCeiling(Model):
    """Rights in the API server that agents may ask for."""

    rules: Annotated[list[PolicyRule], Field(max_length=MAX_API_RULES, json_schema_extra=ATOMIC)] = Field(
        default_factory=list
    )
    """Rules that may be asked for. What an agent asks for must lie inside of them, each verb on each resource inside of
    one rule. Wildcards may stand here; what is never allowed is not allowed by them."""
    max_token_seconds: TokenSeconds = MAX_TOKEN_SECONDS
    """Seconds at most of spec.identity.kubernetesApi.tokenSeconds."""


class IdentityCeiling(Model):
    """What agents may ask for in spec.identity. What is not named here may not be asked for."""

    kubernetes_api: ApiCeiling | None = None
    """Rights in the API server that may be asked for; none if not given."""
    audiences: Annotated[list[Audience], Field(max_length=32), Distinct()] = Field(default_factory=list)
    """Audiences of spec.identity.tokens that may be asked for, exactly as they are written there."""
    max_token_seconds: TokenSeconds = MAX_TOKEN_SECONDS
    """Seconds at most of the tokens of spec.identity.tokens."""


class VaultCeiling(Model):
    """Paths of one issuer of type vault that may be asked for."""

    issuer: IssuerName
    """Name of the issuer."""
    paths: Annotated[list[VaultPathCeiling], Field(min_length=1, max_length=32), Distinct()]
    """Paths that may be asked for: each exactly, or with /* at its end for everything below."""


class PostgresCeiling(Model):
    """Template roles of one issuer of type postgres that may be asked for."""

    issuer: IssuerName
    """Name of the issuer."""
    roles: Annotated[list[PostgresRole], Field(min_length=1, max_length=32), Distinct()]
    """Template roles that may be asked for."""


class SecretCeiling(Model):
    """A Secret of which a copy may be asked for."""

    namespace: NamespaceName
    """Namespace of the Secret."""
    name: DnsName
    """Name of the Secret."""
    keys: Annotated[list[SecretKey], Field(max_length=32), Distinct()] = Field(default_factory=list)
    """Keys that may be asked for; all of them if empty."""


class CustomCeiling(Model):
    """What may be asked of an issuer that is not part of Bulkhead."""

    issuer: IssuerName
    """Name of the issuer."""
    parameters: Annotated[
        dict[
            ParameterName,
            Annotated[list[AcceptedValue], Field(min_length=1, max_length=16, json_schema_extra=ATOMIC)],
        ],
        Field(max_length=MAX_PARAMETERS),
    ] = Field(default_factory=dict)
    """Accepted values of each parameter. A parameter that is not named is refused; a named one may be left out."""

    RULES = (PARAMETER_NAME_RULE,)


class CredentialsCeiling(Model):
    """What agents may ask for in spec.credentials. What is not named here may not be asked for."""

    max_ttl_seconds: Annotated[TtlSeconds, Field(alias="maxTTLSeconds")] = 3600
    """Seconds at most of a credential's ttlSeconds."""
    vault: Annotated[list[VaultCeiling], Field(max_length=32), Keyed("issuer")] = Field(default_factory=list)
    """Paths of issuers of type vault."""
    postgres: Annotated[list[PostgresCeiling], Field(max_length=32), Keyed("issuer")] = Field(default_factory=list)
    """Template roles of issuers of type postgres."""
    secrets: Annotated[list[SecretCeiling], Field(max_length=32), Keyed("namespace", "name")] = Field(
        default_factory=list
    )
    """Secrets of which a copy may be asked for."""
    custom: Annotated[list[CustomCeiling], Field(max_length=32, json_schema_extra=ATOMIC)] = Field(default_factory=list)
    """Issuers that are not part of Bulkhead. An issuer may stand here several times: one entry must accept all
    parameters of a credential."""


class MaxResources(Model):
    """The most that one replica may have as limits."""

    cpu: Cpu | None = None
    """CPU, in cores."""
    memory: Memory | None = None
    """Memory, in bytes."""
    ephemeral_storage: Storage | None = None
    """Bytes on the node's disk."""


class WorkloadCeiling(Model):
    """What agents may ask for as a workload. What is not given is not bounded by this policy."""

    registries: Annotated[list[RegistryPrefix], Field(min_length=1, max_length=64), Distinct()] | None = None
    """Beginnings of image references; an image must begin with one, up to a '/' or to the end of its name."""
    require_digest: bool = False
    """Whether an image must be given by digest."""
    max_replicas: Annotated[int, Field(ge=0, le=100)] | None = None
    """Replicas at most."""
    max_resources: MaxResources | None = None
    """The most that one replica may have as limits."""
    runtime_classes: Annotated[list[DnsName], Field(min_length=1, max_length=16), Distinct()] | None = None
    """RuntimeClasses of which an agent must name one."""
    required_node_labels: LabelMap = Field(default_factory=dict)
    """Labels of nodes that agents run on; added to the node selector of every pod."""
    tolerations: Annotated[list[LabelKey], Field(max_length=16), Distinct()] | None = None
    """Keys of taints that may be tolerated; with an empty list, none."""

    RULES = label_map_rules("requiredNodeLabels", "required_node_labels")


class IsolationSettings(Model):
    """How isolation is proven."""

    mode: Literal["Continuous", "AtStart"] = "Continuous"
    """Continuous goes on proving it as long as the agent runs, AtStart proves it before the agent starts only."""
    interval_seconds: Annotated[int, Field(ge=5, le=300)] = 10
    """Seconds between two rounds of the continuous proof."""


class SandboxPolicySpec(Model):
    """What is production, and what agents may ask for."""

    namespace_selector: LabelSelector = LabelSelector()
    """Sandbox namespaces that the policy applies to, by their labels; {} is every one."""
    production: Production = Production()
    """What no agent may reach."""
    network: NetworkCeiling = NetworkCeiling()
    """What agents may ask for in spec.network. What is not named may not be asked for."""
    workload: WorkloadCeiling = WorkloadCeiling()
    """What agents may ask for as a workload. What is not given is not bounded by this policy."""
    identity: IdentityCeiling = IdentityCeiling()
    """What agents may ask for in spec.identity. What is not named may not be asked for."""
    credentials: CredentialsCeiling = CredentialsCeiling()
    """What agents may ask for in spec.credentials. What is not named may not be asked for."""
    isolation: IsolationSettings = IsolationSettings()
    """How isolation is proven."""
    circuit_breaker: CircuitBreakerPolicy = CircuitBreakerPolicy()
    """What opens the circuit breakers of agents, and how they close again. Agents can only tighten it."""


def parse_policy(raw: Any, *, name: str) -> SandboxPolicySpec:
    """Reads the spec of a SandboxPolicy as the API server stores it.

    Everything that the CRD checks is checked again, the name too: the object may have been stored before a rule
    existed.

    Args:
        raw: `spec` of the object; anything that JSON can hold.
        name: `metadata.name` of the object.

    Raises:
        InvalidSpec: with a sentence for each problem.
    """
    return validated(SandboxPolicySpec, raw, name=name, name_rule=NAME_RULE)
