"""The part of an AgentDeployment's spec that describes its container: image, environment, ports, resources, probes."""

import re
from typing import Annotated, Any, Final, Literal

from pydantic import Field, GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from bulkhead.api import secretformats
from bulkhead.api.fields import (
    ATOMIC,
    PROBLEM,
    Cpu,
    JsonSchema,
    Keyed,
    Memory,
    Model,
    PortNumber,
    Rule,
    Storage,
    Text,
    lacks,
    matches,
    unique,
    validations,
)
from bulkhead.api.quantity import Quantity

RESERVED_ENV_PREFIX: Final = "BULKHEAD_"

_HOST = r"[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?(\.[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?)*"
_PATH = r"[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*"
_IMAGE = (
    rf"(({_HOST}|\[[0-9A-Fa-f:]+\])(:[0-9]{{1,5}})?/)?{_PATH}(/{_PATH})*(:[A-Za-z0-9_][A-Za-z0-9_.-]{{0,127}})?"
    r"(@(sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128}))?"
)
_NO_NUL = "accepted is text without NUL characters"
_NUL = "'\\x00'"
_CONTROL = r"[\x00-\x1f\x7f]"

ImageReference = Annotated[
    str,
    Text(
        512,
        rules=(
            matches(
                _IMAGE, "accepted is an image reference: [HOST[:PORT]/]PATH[:TAG][@DIGEST], the path in lower case"
            ),
        ),
    ),
]
"""The grammar of OCI references (distribution/reference), with the two digest algorithms of the image specification."""

Argument = Annotated[
    str,
    Text(8192, shortest=0, rules=(Rule("", _NO_NUL, lambda text: "\x00" not in text), *secretformats.UNWRITTEN_RULES)),
]
# The rule stands on the list, which the API server does not repeat: an argument may hold what it should not.
_ARGUMENT_LIST: Final[JsonSchema] = {**ATOMIC, **validations((Rule(f"self.all(a, !a.contains({_NUL}))", _NO_NUL),))}
Command = Annotated[list[Argument], Field(min_length=1, max_length=64, json_schema_extra=_ARGUMENT_LIST)]


class FieldRef(Model):
    """A field of the agent's own pod."""

    field_path: Literal[
        "metadata.name", "metadata.namespace", "metadata.uid", "spec.nodeName", "status.podIP", "status.podIPs"
    ]
    """Which field of the pod."""


class EnvSource(Model):
    """Where the value of an environment variable comes from. Secrets and config maps cannot be asked for."""

    field_ref: FieldRef
    """A field of the agent's own pod."""


class EnvVar(Model):
    """One environment variable."""

    name: Annotated[
        str,
        Text(
            253,
            rules=(
                matches(
                    r"[-._A-Za-z][-._A-Za-z0-9]*",
                    "accepted are letters, digits, '_', '-' and '.', not beginning with a digit",
                ),
                lacks(
                    f"^{RESERVED_ENV_PREFIX}",
                    f"names beginning with {RESERVED_ENV_PREFIX} are reserved, accepted is any other",
                ),
            ),
        ),
    ]
    """Name of the variable. Names that begin with BULKHEAD_ are reserved."""
    value: Annotated[str, Text(16384, shortest=0)] | None = None
    """Plain value. Not for secrets, and what looks like one is refused: everyone who may read the AgentDeployment can
    read it. Secrets come by spec.credentials."""
    value_from: EnvSource | None = None
    """Takes the value from a field of the pod instead."""

    RULES = (
        Rule(
            "has(self.value) != has(self.valueFrom)",
            "accepted is exactly one of value and valueFrom",
            lambda var: (var.value is None) != (var.value_from is None),
        ),
        Rule(
            f"!has(self.value) || !self.value.contains({_NUL})",
            _NO_NUL,
            lambda var: "\x00" not in (var.value or ""),
            field="value",
        ),
        *secretformats.rules("value"),
    )


class ContainerPort(Model):
    """A port on which the agent listens."""

    name: (
        Annotated[
            str,
            Text(
                15,
                rules=(
                    matches(
                        r"[a-z0-9]+(-[a-z0-9]+)*",
                        "accepted are lower case letters and digits, with single '-' between them",
                    ),
                    matches(r"[a-z0-9-]*[a-z][a-z0-9-]*", "accepted are names with at least one letter"),
                ),
            ),
        ]
        | None
    ) = None
    """Name by which probes refer to the port (RFC 6335)."""
    container_port: PortNumber
    """Port number in the pod."""
    protocol: Literal["TCP", "UDP", "SCTP"] = "TCP"
    """Transport protocol."""


class Limits(Model):
    """What the container may use at most."""

    cpu: Cpu = "500m"
    """CPU, in cores. Over it the container is throttled."""
    memory: Memory = "512Mi"
    """Memory, in bytes. Over it the container is killed."""
    ephemeral_storage: Annotated[Storage, Field(alias="ephemeral-storage")] = "1Gi"
    """Bytes written to /tmp, to the root file system and to logs. Over it the pod is evicted."""


class Requests(Model):
    """What is set aside for the container. What is not given is as the limit."""

    cpu: Cpu | None = None
    """CPU, in cores."""
    memory: Memory | None = None
    """Memory, in bytes."""
    ephemeral_storage: Annotated[Storage | None, Field(alias="ephemeral-storage")] = None
    """Bytes on the node's disk."""


def _within(request: str | None, limit: str) -> bool:
    return request is None or Quantity.parse(request) <= Quantity.parse(limit)


def _request_rule(field: str, attribute: str, label: str) -> Rule:
    request, limit = f"self.requests.{field}", f"self.limits.{field}"
    return Rule(
        f"!has(self.requests) || !has({request}) || !isQuantity({request}) || !isQuantity({limit})"
        f" || quantity({request}).compareTo(quantity({limit})) <= 0",
        f"accepted is a {label} request of at most the {label} limit: lower requests.{label} or raise limits.{label}",
        lambda res: _within(getattr(res.requests, attribute) if res.requests else None, getattr(res.limits, attribute)),
    )


class Resources(Model):
    """Compute resources of the container."""

    limits: Limits = Limits()
    """What the container may use at most."""
    requests: Requests | None = None
    """What is set aside for the container. What is not given is as the limit."""

    RULES = (
        _request_rule("cpu", "cpu", "cpu"),
        _request_rule("memory", "memory", "memory"),
        _request_rule("ephemeral__dash__storage", "ephemeral_storage", "ephemeral-storage"),
    )


class _PortReference:
    """Annotates a port given by number or by name, which no plain type of the schema can say."""

    MESSAGE = "accepted is a port number from 1 to 65535, or the name of one of spec.ports"
    RULE = Rule(
        "type(self) == int ? self >= 1 && self <= 65535 : self.matches(r'^[a-z0-9-]{1,15}$')",
        MESSAGE,
    )

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(cls._check)

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchema:
        return {"x-kubernetes-int-or-string": True, "maxLength": 15, **validations((cls.RULE,))}

    @classmethod
    def _check(cls, value: Any) -> int | str:
        if type(value) is int and 1 <= value <= 65535:
            return value
        if isinstance(value, str) and re.fullmatch("[a-z0-9-]{1,15}", value):
            return value
        raise PydanticCustomError(PROBLEM, "{summary}", {"summary": cls.MESSAGE, "messages": [cls.MESSAGE]})


PortReference = Annotated[int | str, _PortReference]


class HttpHeader(Model):
    """A header of a probe's request."""

    name: Annotated[str, Text(256, rules=(matches(r"[-A-Za-z0-9]+", "accepted are letters, digits and '-'"),))]
    """Name of the header."""
    value: Annotated[str, Text(1024, shortest=0)]
    """Value of the header. Not for secrets."""

    RULES = (
        Rule(
            rf"!self.value.matches(r'{_CONTROL}')",
            "accepted is text on one line",
            lambda header: re.search(_CONTROL, header.value) is None,
            field="value",
        ),
        *secretformats.rules("value"),
    )


class ExecAction(Model):
    """A command in the container; exit code 0 means success."""

    command: Command
    """The command and its arguments. No shell is involved unless it is named."""


class HttpGetAction(Model):
    """An HTTP request to the pod's own address; an answer from 200 to 399 means success."""

    path: Annotated[
        str, Text(1024, rules=(matches(r"/[^\x00-\x20\x7f]*", "accepted is a path that begins with '/'"),))
    ] = "/"
    """Path of the request."""
    port: PortReference
    """Port by number, or by name of one of spec.ports."""
    scheme: Literal["HTTP", "HTTPS"] = "HTTP"
    """Scheme of the request. Certificates are not verified."""
    http_headers: Annotated[list[HttpHeader], Field(max_length=16, json_schema_extra=ATOMIC)] = Field(
        default_factory=list
    )
    """Headers to set."""


class TcpSocketAction(Model):
    """A TCP connection to the pod's own address; being accepted means success."""

    port: PortReference
    """Port by number, or by name of one of spec.ports."""


class GrpcAction(Model):
    """A call of the gRPC health checking protocol at the pod's own address."""

    port: PortNumber
    """Port by number."""
    service: Annotated[str, Text(253, shortest=0, rules=(matches(r"[^\x00]*", _NO_NUL),))] = ""
    """Service name in the request."""


HANDLERS: Final = ("exec", "httpGet", "tcpSocket", "grpc")


class Probe(Model):
    """A check that the kubelet carries out. It has no host field: a probe reaches the agent's own pod only."""

    exec: ExecAction | None = None
    """Runs a command in the container."""
    http_get: HttpGetAction | None = None
    """Sends an HTTP request to the pod."""
    tcp_socket: TcpSocketAction | None = None
    """Opens a TCP connection to the pod."""
    grpc: GrpcAction | None = None
    """Calls the gRPC health service of the pod."""
    initial_delay_seconds: Annotated[int, Field(ge=0, le=3600)] = 0
    """Seconds from the start of the container to the first check."""
    period_seconds: Annotated[int, Field(ge=1, le=3600)] = 10
    """Seconds between checks."""
    timeout_seconds: Annotated[int, Field(ge=1, le=600)] = 1
    """Seconds after which a check has failed."""
    success_threshold: Annotated[int, Field(ge=1, le=100)] = 1
    """Successes in a row that count as success after a failure. 1 for startup and liveness."""
    failure_threshold: Annotated[int, Field(ge=1, le=1000)] = 3
    """Failures in a row that count as failure."""

    RULES = (
        Rule(
            f"[{', '.join(f'has(self.{handler})' for handler in HANDLERS)}].filter(given, given).size() == 1",
            f"accepted is exactly one of {', '.join(HANDLERS)}",
            lambda probe: sum(h is not None for h in (probe.exec, probe.http_get, probe.tcp_socket, probe.grpc)) == 1,
        ),
    )

    def port_names(self) -> list[str]:
        """Returns the names by which this probe refers to ports."""
        ports = [action.port for action in (self.http_get, self.tcp_socket) if action is not None]
        return [port for port in ports if isinstance(port, str)]


class Probes(Model):
    """Health checks of the container."""

    startup: Probe | None = None
    """Holds the other probes back until the agent has started."""
    readiness: Probe | None = None
    """Decides whether the replica counts as ready."""
    liveness: Probe | None = None
    """Restarts the container when it fails."""

    RULES = (
        Rule(
            "!has(self.startup) || self.startup.successThreshold == 1",
            "accepted is a successThreshold of 1 for the startup probe",
            lambda probes: probes.startup is None or probes.startup.success_threshold == 1,
        ),
        Rule(
            "!has(self.liveness) || self.liveness.successThreshold == 1",
            "accepted is a successThreshold of 1 for the liveness probe",
            lambda probes: probes.liveness is None or probes.liveness.success_threshold == 1,
        ),
    )

    def port_names(self) -> list[str]:
        """Returns the names by which the probes refer to ports."""
        given = [probe for probe in (self.startup, self.readiness, self.liveness) if probe is not None]
        return [name for probe in given for name in probe.port_names()]


def _named_port_is_declared(probe: str, handler: str) -> str:
    action = f"self.probes.{probe}.{handler}"
    return (
        f"(!has(self.probes.{probe}) || !has({action}) || type({action}.port) != string"
        f" || (has(self.ports) && self.ports.exists(p, has(p.name) && p.name == {action}.port)))"
    )


PORT_RULES: Final = (
    Rule(
        "!has(self.ports) || self.ports.all(p, !has(p.name) || "
        "self.ports.exists_one(q, has(q.name) && q.name == p.name))",
        "accepted are ports with different names",
        lambda spec: unique([port for port in spec.ports if port.name is not None], "name"),
    ),
    Rule(
        "!has(self.probes) || ("
        + " && ".join(
            _named_port_is_declared(probe, handler)
            for probe in ("startup", "readiness", "liveness")
            for handler in ("httpGet", "tcpSocket")
        )
        + ")",
        "accepted in a probe are port numbers and the names of ports in spec.ports",
        lambda spec: not spec.probes or set(spec.probes.port_names()) <= {port.name for port in spec.ports},
    ),
)
"""Rules of the spec as a whole: ports are a field of it, and probes refer to them."""

EnvList = Annotated[list[EnvVar], Field(max_length=128), Keyed("name")]
PortList = Annotated[list[ContainerPort], Field(max_length=32), Keyed("container_port", "protocol")]
Arguments = Annotated[list[Argument], Field(max_length=128, json_schema_extra=_ARGUMENT_LIST)]
