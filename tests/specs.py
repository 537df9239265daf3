# ruff: noqa: S108 (paths in pods, not on this machine)
"""Specs of AgentDeployments: named cases of what is refused and accepted, and strategies that make valid ones.

The same cases are put to `parse_spec` (tests/unit) and to the API server (tests/apiserver): both must agree.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st

Spec = dict[str, Any]

DIGEST = "sha256:" + "0123456789abcdef" * 4


def minimal(**fields: Any) -> Spec:
    """The least that is a spec, and these fields."""
    return {"owner": "team@example.com", "image": "registry.example/agent:1.0", **fields}


@dataclass(frozen=True)
class Refused:
    """A spec that must be refused.

    Attributes:
        spec: the spec.
        path: of the field that is at fault, or of the list or map that it stands in.
        says: a part of the message that both the API server and `parse_spec` give; None where the schema refuses
            without a rule of ours, in words of its own.
    """

    spec: Spec
    path: str
    says: str | None


def _with_container_port(**port: Any) -> Spec:
    return minimal(ports=[{"containerPort": 8080, **port}])


def _with_mount(path: str) -> Spec:
    return minimal(workspace={"size": "1Gi", "mountPath": path})


def _with_probe(probe: Spec, kind: str = "readiness") -> Spec:
    return minimal(probes={kind: probe})


def _with_toleration(**toleration: Any) -> Spec:
    return minimal(placement={"tolerations": [toleration]})


def _with_selector(**labels: Any) -> Spec:
    return minimal(placement={"nodeSelector": labels})


_LABEL = "accepted are up to 63 letters"
_KEY = "label key"
_IMAGE = "accepted is an image reference"
_OVERLAP = "does not overlap"
_PORT = "accepted is a port number from 1 to 65535"

REFUSED: dict[str, Refused] = {
    "no owner": Refused({"image": "x:1"}, "spec.owner", None),
    "no image": Refused({"owner": "me"}, "spec.image", None),
    "an empty owner": Refused(minimal(owner=""), "spec.owner", None),
    "a blank owner": Refused(minimal(owner="  "), "spec.owner", "one line of text"),
    "an owner of two lines": Refused(minimal(owner="a\nb"), "spec.owner", "one line of text"),
    "an owner that ends in a line break": Refused(minimal(owner="a\n"), "spec.owner", "one line of text"),
    "an owner of 254 characters": Refused(minimal(owner="o" * 254), "spec.owner", None),
    "an owner that is a number": Refused(minimal(owner=7), "spec.owner", None),
    "a tenant that is no label value": Refused(minimal(tenant="a b"), "spec.tenant", _LABEL),
    "a tenant of 64 characters": Refused(minimal(tenant="t" * 64), "spec.tenant", None),
    "a tenant that ends in a dash": Refused(minimal(tenant="a-"), "spec.tenant", _LABEL),
    "a workflow that is no label value": Refused(minimal(workflow="/x"), "spec.workflow", _LABEL),
    "suspend as a string": Refused(minimal(suspend="true"), "spec.suspend", None),
    "a suspend reason of 1025 characters": Refused(minimal(suspendReason="r" * 1025), "spec.suspendReason", None),
    "a negative grace period": Refused(minimal(suspendGraceSeconds=-1), "spec.suspendGraceSeconds", None),
    "a grace period of 31 seconds": Refused(minimal(suspendGraceSeconds=31), "spec.suspendGraceSeconds", None),
    "a grace period of half a second": Refused(minimal(suspendGraceSeconds=0.5), "spec.suspendGraceSeconds", None),
    "negative replicas": Refused(minimal(replicas=-1), "spec.replicas", None),
    "101 replicas": Refused(minimal(replicas=101), "spec.replicas", None),
    "an image with an upper case path": Refused(minimal(image="registry.example/Agent:1"), "spec.image", _IMAGE),
    "an image with a space": Refused(minimal(image="agent :1"), "spec.image", _IMAGE),
    "an image with an empty tag": Refused(minimal(image="agent:"), "spec.image", _IMAGE),
    "an image with a short digest": Refused(minimal(image="agent@sha256:abc"), "spec.image", _IMAGE),
    "an image that is a URL": Refused(minimal(image="https://registry.example/agent"), "spec.image", _IMAGE),
    "an image that ends in a line break": Refused(minimal(image="agent:1\n"), "spec.image", _IMAGE),
    "an image of 513 characters": Refused(minimal(image="a" * 513), "spec.image", None),
    "a command that is a string": Refused(minimal(command="sh -c x"), "spec.command", None),
    "an argument with NUL": Refused(minimal(args=["a\x00b"]), "spec.args", "without NUL"),
    "129 arguments": Refused(minimal(args=["x"] * 129), "spec.args", None),
    "env without a value": Refused(minimal(env=[{"name": "A"}]), "spec.env[0]", "exactly one of value and valueFrom"),
    "env with value and valueFrom": Refused(
        minimal(env=[{"name": "A", "value": "", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}]),
        "spec.env[0]",
        "exactly one of value and valueFrom",
    ),
    "env with NUL": Refused(minimal(env=[{"name": "A", "value": "a\x00b"}]), "spec.env[0].value", "without NUL"),
    "env with a reserved name": Refused(
        minimal(env=[{"name": "BULKHEAD_AGENT_UID", "value": "x"}]), "spec.env[0].name", "reserved"
    ),
    "env with a name that begins with a digit": Refused(
        minimal(env=[{"name": "1A", "value": "x"}]), "spec.env[0].name", "not beginning with a digit"
    ),
    "env with the same name twice": Refused(
        minimal(env=[{"name": "A", "value": "x"}, {"name": "A", "value": "y"}]), "spec.env", None
    ),
    "env from a field that is not offered": Refused(
        minimal(env=[{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "spec.serviceAccountName"}}}]),
        "spec.env[0].valueFrom.fieldRef.fieldPath",
        None,
    ),
    "port 0": Refused(minimal(ports=[{"containerPort": 0}]), "spec.ports[0].containerPort", None),
    "port 65536": Refused(minimal(ports=[{"containerPort": 65536}]), "spec.ports[0].containerPort", None),
    "a port name without a letter": Refused(
        _with_container_port(name="80"), "spec.ports[0].name", "at least one letter"
    ),
    "a port name with a double dash": Refused(_with_container_port(name="a--b"), "spec.ports[0].name", "single '-'"),
    "a port name of 16 characters": Refused(_with_container_port(name="p" * 16), "spec.ports[0].name", None),
    "an unknown protocol": Refused(_with_container_port(protocol="ICMP"), "spec.ports[0].protocol", None),
    "the same port twice": Refused(minimal(ports=[{"containerPort": 80, "protocol": "TCP"}] * 2), "spec.ports", None),
    "the same port name twice": Refused(
        minimal(ports=[{"containerPort": 80, "name": "a"}, {"containerPort": 81, "name": "a"}]),
        "spec",
        "ports with different names",
    ),
    "no CPU": Refused(
        minimal(resources={"limits": {"cpu": "0"}}), "spec.resources.limits.cpu", "accepted is 1m to 1024"
    ),
    "CPU finer than a thousandth": Refused(
        minimal(resources={"limits": {"cpu": "0.0001"}}), "spec.resources.limits.cpu", "accepted is 1m to 1024"
    ),
    "2000 cores": Refused(
        minimal(resources={"limits": {"cpu": "2000"}}), "spec.resources.limits.cpu", "accepted is 1m to 1024"
    ),
    "memory in thousandths of bytes": Refused(
        minimal(resources={"limits": {"memory": "512m"}}), "spec.resources.limits.memory", "accepted is 8Mi to 16Ti"
    ),
    "memory of 1 byte": Refused(
        minimal(resources={"limits": {"memory": "1"}}), "spec.resources.limits.memory", "accepted is 8Mi to 16Ti"
    ),
    "memory of an exabyte": Refused(
        minimal(resources={"limits": {"memory": "1024Pi"}}), "spec.resources.limits.memory", "accepted is 8Mi to 16Ti"
    ),
    "memory that is not whole bytes": Refused(
        minimal(resources={"limits": {"memory": "16777216.5"}}), "spec.resources.limits.memory", "whole bytes"
    ),
    "memory of a fraction of 1024 that is not whole": Refused(
        minimal(resources={"limits": {"memory": "1.3Gi"}}), "spec.resources.limits.memory", "whole bytes"
    ),
    "negative memory": Refused(
        minimal(resources={"limits": {"memory": "-1Gi"}}), "spec.resources.limits.memory", "accepted is 8Mi to 16Ti"
    ),
    "a CPU request over the default limit": Refused(
        minimal(resources={"requests": {"cpu": "501m"}}), "spec.resources", "at most the cpu limit"
    ),
    "a memory request over the limit": Refused(
        minimal(resources={"limits": {"memory": "64Mi"}, "requests": {"memory": "65Mi"}}),
        "spec.resources",
        "at most the memory limit",
    ),
    "an ephemeral storage request over the limit": Refused(
        minimal(resources={"requests": {"ephemeral-storage": "2Gi"}}),
        "spec.resources",
        "at most the ephemeral-storage limit",
    ),
    "a probe without an action": Refused(_with_probe({}), "spec.probes.readiness", "exactly one of exec"),
    "a probe with two actions": Refused(
        _with_probe({"tcpSocket": {"port": 80}, "grpc": {"port": 80}}), "spec.probes.readiness", "exactly one of exec"
    ),
    "a probe of port 0": Refused(
        _with_probe({"tcpSocket": {"port": 0}}), "spec.probes.readiness.tcpSocket.port", _PORT
    ),
    "a probe of a port with an impossible name": Refused(
        _with_probe({"httpGet": {"port": "HTTP"}}), "spec.probes.readiness.httpGet.port", _PORT
    ),
    "a probe of a port name that is not declared": Refused(
        _with_probe({"httpGet": {"port": "http"}}), "spec", "names of ports in spec.ports"
    ),
    "a probe of a relative path": Refused(
        _with_probe({"httpGet": {"port": 80, "path": "healthz"}}),
        "spec.probes.readiness.httpGet.path",
        "begins with '/'",
    ),
    "a probe header with a line break": Refused(
        _with_probe({"httpGet": {"port": 80, "httpHeaders": [{"name": "X", "value": "a\r\nb"}]}}),
        "spec.probes.readiness.httpGet.httpHeaders[0].value",
        "on one line",
    ),
    "a probe every 0 seconds": Refused(
        _with_probe({"tcpSocket": {"port": 80}, "periodSeconds": 0}), "spec.probes.readiness.periodSeconds", None
    ),
    "a liveness probe that must succeed twice": Refused(
        _with_probe({"tcpSocket": {"port": 80}, "successThreshold": 2}, "liveness"),
        "spec.probes",
        "successThreshold of 1",
    ),
    "a startup probe that must succeed twice": Refused(
        _with_probe({"tcpSocket": {"port": 80}, "successThreshold": 2}, "startup"),
        "spec.probes",
        "successThreshold of 1",
    ),
    "a workspace without a size": Refused(minimal(workspace={}), "spec.workspace.size", None),
    "a workspace of size 0": Refused(
        minimal(workspace={"size": "0"}), "spec.workspace.size", "accepted is 1Mi to 64Ti"
    ),
    "a workspace of a zettabyte": Refused(
        minimal(workspace={"size": "1000000P"}), "spec.workspace.size", "accepted is 1Mi to 64Ti"
    ),
    "a workspace whose size is no quantity": Refused(
        minimal(workspace={"size": "big"}), "spec.workspace.size", "accepted is 1Mi to 64Ti"
    ),
    "a workspace at /": Refused(_with_mount("/"), "spec.workspace.mountPath", "absolute path"),
    "a workspace at a relative path": Refused(_with_mount("work"), "spec.workspace.mountPath", "absolute path"),
    "a workspace at a path with a colon": Refused(_with_mount("/a:b"), "spec.workspace.mountPath", "absolute path"),
    "a workspace at a path that ends in /": Refused(_with_mount("/a/"), "spec.workspace.mountPath", "absolute path"),
    "a workspace at a path with ..": Refused(
        _with_mount("/a/../tmp"), "spec.workspace.mountPath", "without '.' and '..'"
    ),
    "a workspace at a path with .": Refused(_with_mount("/./tmp"), "spec.workspace.mountPath", "without '.' and '..'"),
    "a workspace at /tmp": Refused(_with_mount("/tmp"), "spec.workspace.mountPath", _OVERLAP),
    "a workspace below /tmp": Refused(_with_mount("/tmp/x"), "spec.workspace.mountPath", _OVERLAP),
    "a workspace below /proc": Refused(_with_mount("/proc/self"), "spec.workspace.mountPath", _OVERLAP),
    "a workspace below /var/run": Refused(_with_mount("/var/run/secrets"), "spec.workspace.mountPath", _OVERLAP),
    "a workspace above /var/run": Refused(_with_mount("/var"), "spec.workspace.mountPath", _OVERLAP),
    "a storage class that is no DNS name": Refused(
        minimal(workspace={"size": "1Gi", "storageClassName": "Fast"}), "spec.workspace.storageClassName", "lower case"
    ),
    "an unknown onDelete": Refused(
        minimal(workspace={"size": "1Gi", "onDelete": "Recycle"}), "spec.workspace.onDelete", None
    ),
    "no scratch": Refused(minimal(scratch="0"), "spec.scratch", "accepted is 1Mi to 64Ti"),
    "a huge scratch": Refused(minimal(scratch="65Ti"), "spec.scratch", "accepted is 1Mi to 64Ti"),
    "a runtime class that is no DNS name": Refused(
        minimal(runtimeClassName="g_visor"), "spec.runtimeClassName", "lower case"
    ),
    "a node selector with a key that is none": Refused(_with_selector(**{"a b": "c"}), "spec.placement", _KEY),
    "a node selector with a name of 64 characters": Refused(
        _with_selector(**{"example.com/" + "n" * 64: "c"}), "spec.placement", _KEY
    ),
    "a node selector with a value that is none": Refused(_with_selector(a="b c"), "spec.placement", _LABEL),
    "a toleration without a key": Refused(
        _with_toleration(operator="Exists"), "spec.placement.tolerations[0].key", None
    ),
    "a toleration with an empty key": Refused(
        _with_toleration(key="", operator="Exists"), "spec.placement.tolerations[0].key", None
    ),
    "a toleration of any value with a value": Refused(
        _with_toleration(key="a", operator="Exists", value="b"), "spec.placement.tolerations[0]", "is no value"
    ),
    "a toleration for a time without NoExecute": Refused(
        _with_toleration(key="a", value="b", effect="NoSchedule", tolerationSeconds=5),
        "spec.placement.tolerations[0]",
        "effect NoExecute",
    ),
    "the same spread twice": Refused(
        minimal(placement={"topologySpread": [{"topologyKey": "zone", "whenUnsatisfiable": "ScheduleAnyway"}] * 2}),
        "spec.placement.topologySpread",
        None,
    ),
    "a spread with a skew of 0": Refused(
        minimal(placement={"topologySpread": [{"topologyKey": "zone", "maxSkew": 0}]}),
        "spec.placement.topologySpread[0].maxSkew",
        None,
    ),
    "a lifetime of 0 seconds": Refused(minimal(lifetime={"maxSeconds": 0}), "spec.lifetime.maxSeconds", None),
    "a lifetime of over a year": Refused(
        minimal(lifetime={"maxSeconds": 31_536_001}), "spec.lifetime.maxSeconds", None
    ),
    "a lifetime without seconds": Refused(minimal(lifetime={}), "spec.lifetime.maxSeconds", None),
}

UNKNOWN_FIELDS: dict[str, tuple[Spec, str]] = {
    "in the spec": (minimal(hostNetwork=True), "spec.hostNetwork"),
    "of a pod that the schema does not offer": (minimal(serviceAccountName="admin"), "spec.serviceAccountName"),
    "in env": (minimal(env=[{"name": "A", "value": "x", "secret": "y"}]), "spec.env[0].secret"),
    "of a secret reference": (
        minimal(env=[{"name": "A", "value": "", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}]),
        "spec.env[0].valueFrom.secretKeyRef",
    ),
    "host of a probe": (
        minimal(probes={"readiness": {"httpGet": {"port": 80, "host": "169.254.169.254"}}}),
        "spec.probes.readiness.httpGet.host",
    ),
    "in snake case": (minimal(suspend_reason="x"), "spec.suspend_reason"),
}

ACCEPTED: dict[str, Spec] = {
    "the least": minimal(),
    "the least of each bound": minimal(
        owner="o",
        tenant="t",
        workflow="w",
        suspendReason="",
        suspendGraceSeconds=0,
        replicas=0,
        image="a",
        resources={"limits": {"cpu": "1m", "memory": "8Mi", "ephemeral-storage": "1Mi"}, "requests": {}},
        scratch="1Mi",
        lifetime={"maxSeconds": 1},
    ),
    "the most of each bound": minimal(
        owner="o" * 253,
        tenant="t" * 63,
        workflow="w" * 63,
        suspendReason="r" * 1024,
        suspendGraceSeconds=30,
        replicas=100,
        resources={"limits": {"cpu": "1024", "memory": "16Ti", "ephemeral-storage": "64Ti"}},
        scratch="64Ti",
        lifetime={"maxSeconds": 31_536_000, "onExpiry": "Delete"},
        env=[{"name": f"V{number}", "value": "x"} for number in range(128)],
        ports=[{"containerPort": number, "protocol": "UDP"} for number in range(1, 33)],
    ),
    "an owner in other scripts": minimal(owner="команда 団"),
    "an image by port and digest": minimal(image=f"registry.example:5000/a/b_c/d--e:V1.0@{DIGEST}"),
    "an image of an IPv6 registry": minimal(image="[2001:db8::1]:5000/agent:1"),
    "an empty value": minimal(env=[{"name": "A", "value": ""}]),
    "a field of the pod": minimal(env=[{"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}]),
    "quantities in other spellings": minimal(
        resources={
            "limits": {"cpu": "1.5", "memory": "1.5Gi", "ephemeral-storage": "2000M"},
            "requests": {"cpu": "1500m", "memory": "1536Mi", "ephemeral-storage": "2G"},
        },
        scratch="1024Mi",
        workspace={"size": "0.5Gi"},
    ),
    "the same port by two protocols": minimal(ports=[{"containerPort": 53}, {"containerPort": 53, "protocol": "UDP"}]),
    "probes of each kind": minimal(
        ports=[{"containerPort": 8080, "name": "http"}],
        probes={
            "startup": {"exec": {"command": ["true"]}, "failureThreshold": 60, "periodSeconds": 1},
            "readiness": {
                "httpGet": {"port": "http", "path": "/ready?x=1", "httpHeaders": [{"name": "X-A", "value": ""}]},
                "successThreshold": 2,
            },
            "liveness": {"grpc": {"port": 9000, "service": "health"}, "initialDelaySeconds": 5},
        },
    ),
    "a workspace beside the reserved paths": minimal(
        workspace={
            "size": "1Gi",
            "mountPath": "/var/lib/tmp/..data",
            "storageClassName": "fast.example",
            "onDelete": "Delete",
        }
    ),
    "a workspace whose name begins like a reserved path": minimal(workspace={"size": "1Gi", "mountPath": "/tmpfoo"}),
    "placement of each kind": minimal(
        runtimeClassName="gvisor",
        placement={
            "nodeSelector": {"topology.kubernetes.io/region": "eu-1", "empty": ""},
            "tolerations": [
                {"key": "sandbox", "value": "agents", "effect": "NoSchedule"},
                {
                    "key": "node.kubernetes.io/unreachable",
                    "operator": "Exists",
                    "effect": "NoExecute",
                    "tolerationSeconds": 30,
                },
                {"key": "any-effect", "operator": "Exists"},
            ],
            "topologySpread": [
                {"topologyKey": "topology.kubernetes.io/zone"},
                {"topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": "ScheduleAnyway", "maxSkew": 2},
            ],
        },
    ),
    "a long lookup prefix": minimal(placement={"nodeSelector": {f"{'p' * 253}/{'n' * 63}": "v"}}),
}

REFUSED_NAMES: dict[str, str] = {
    "53 characters": "n" * 53,
    "253 characters": "n" * 253,
    "a dot": "a.b",
    "upper case": "Agent",
    "a dash at its end": "agent-",
    "nothing": "",
}


# Strategies. They make what the schema accepts, with small sizes so that many are tried.

_labels = st.from_regex(r"\A[A-Za-z0-9]([A-Za-z0-9._-]{0,10}[A-Za-z0-9])?\Z")
_dns = st.from_regex(r"\A[a-z0-9]([a-z0-9-]{0,6}[a-z0-9])?(\.[a-z]{1,4}){0,2}\Z")
_keys = st.one_of(_labels, st.builds("{}/{}".format, _dns, _labels))
_texts = st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"]), max_size=12)
_arguments = st.lists(_texts, max_size=3)
_bytes = st.builds("{}{}".format, st.integers(8, 1023), st.sampled_from(["Mi", "Gi", "M", "G"]))
_fractions = st.sampled_from(["8.5Mi", "1.250Gi", "16777216", "20000k", "0.5Ti", "9.375Mi", "8388.609k"])
_memory = st.one_of(st.integers(9, 1023).map("{}Mi".format), _bytes.filter(lambda text: text != "8M"), _fractions)
_cpu = st.one_of(
    st.integers(1, 1_024_000).map("{}m".format),
    st.integers(1, 1024).map(str),
    st.sampled_from(["0.5", "1.25", "0.001", "007", "1.000", "1.250"]),
)


def names() -> st.SearchStrategy[str]:
    """Names that an AgentDeployment may have."""
    return st.from_regex(r"\A[a-z0-9]([a-z0-9-]{0,50}[a-z0-9])?\Z")


@st.composite
def _resources(draw: st.DrawFn) -> Spec:
    limits = {"cpu": draw(_cpu), "memory": draw(_memory), "ephemeral-storage": draw(_memory)}
    requests = {"cpu": "1m", "memory": "8Mi", "ephemeral-storage": "1Mi"}
    chosen = draw(st.sets(st.sampled_from(sorted(requests))))
    same = draw(st.booleans())
    return {"limits": limits, "requests": {key: limits[key] if same else requests[key] for key in sorted(chosen)}}


def _probes(port_names: list[str]) -> st.SearchStrategy[Spec]:
    ports = st.integers(1, 65535) if not port_names else st.one_of(st.integers(1, 65535), st.sampled_from(port_names))
    headers = st.lists(st.fixed_dictionaries({"name": st.just("X-A"), "value": _labels}), max_size=2)
    actions = st.one_of(
        st.fixed_dictionaries({"exec": st.fixed_dictionaries({"command": st.lists(_texts, min_size=1, max_size=3)})}),
        st.fixed_dictionaries(
            {
                "httpGet": st.fixed_dictionaries(
                    {"port": ports},
                    optional={
                        "path": st.sampled_from(["/", "/health", "/a?b=c"]),
                        "scheme": st.sampled_from(["HTTP", "HTTPS"]),
                        "httpHeaders": headers,
                    },
                )
            }
        ),
        st.fixed_dictionaries({"tcpSocket": st.fixed_dictionaries({"port": ports})}),
        st.fixed_dictionaries(
            {"grpc": st.fixed_dictionaries({"port": st.integers(1, 65535)}, optional={"service": _labels})}
        ),
    )
    timing = st.fixed_dictionaries(
        {},
        optional={
            "initialDelaySeconds": st.integers(0, 3600),
            "periodSeconds": st.integers(1, 3600),
            "timeoutSeconds": st.integers(1, 600),
            "failureThreshold": st.integers(1, 1000),
        },
    )
    probe = st.builds(lambda action, times: {**action, **times}, actions, timing)
    return st.fixed_dictionaries({}, optional={"startup": probe, "readiness": probe, "liveness": probe})


@st.composite
def _ports(draw: st.DrawFn) -> list[Spec]:
    numbers = draw(st.lists(st.integers(1, 65535), unique=True, max_size=4))
    ports: list[Spec] = []
    for index, number in enumerate(numbers):
        port: Spec = {"containerPort": number}
        if draw(st.booleans()):
            port["name"] = f"port-{index}"
        if draw(st.booleans()):
            port["protocol"] = draw(st.sampled_from(["TCP", "UDP", "SCTP"]))
        ports.append(port)
    return ports


@st.composite
def _environment(draw: st.DrawFn) -> list[Spec]:
    chosen = draw(st.lists(st.from_regex(r"\A[-._A-Za-z][-._A-Za-z0-9]{0,8}\Z"), unique=True, max_size=4))
    fields = ["metadata.name", "metadata.namespace", "metadata.uid", "spec.nodeName", "status.podIP", "status.podIPs"]
    value = st.fixed_dictionaries({"value": _texts})
    field = st.sampled_from(fields).map(lambda path: {"valueFrom": {"fieldRef": {"fieldPath": path}}})
    return [{"name": name, **draw(st.one_of(value, field))} for name in chosen]


@st.composite
def _placement(draw: st.DrawFn) -> Spec:
    tolerations = st.one_of(
        st.fixed_dictionaries(
            {"key": _keys}, optional={"value": _labels, "effect": st.sampled_from(["NoSchedule", "PreferNoSchedule"])}
        ),
        st.fixed_dictionaries(
            {"key": _keys, "operator": st.just("Exists"), "effect": st.just("NoExecute")},
            optional={"tolerationSeconds": st.integers(0, 86400)},
        ),
    )
    spread_keys = draw(st.lists(_keys, unique=True, max_size=2))
    optional = {
        "maxSkew": st.integers(1, 100),
        "whenUnsatisfiable": st.sampled_from(["DoNotSchedule", "ScheduleAnyway"]),
    }
    return {
        "nodeSelector": draw(st.dictionaries(_keys, _labels, max_size=3)),
        "tolerations": draw(st.lists(tolerations, max_size=3)),
        "topologySpread": [
            {"topologyKey": key, **draw(st.fixed_dictionaries({}, optional=optional))} for key in spread_keys
        ],
    }


_images = st.one_of(
    st.sampled_from(
        ["agent", "agent:latest", f"agent@{DIGEST}", f"r.example:5000/a/b:latest@{DIGEST}", "r.example/a:1"]
    ),
    st.builds(
        "{}/{}:{}".format, _dns, st.from_regex(r"\A[a-z0-9]{1,6}([._-][a-z0-9]{1,4})?\Z"), _labels.map(str.lower)
    ),
)
_workspaces = st.fixed_dictionaries(
    {"size": _memory},
    optional={
        "mountPath": st.sampled_from(["/workspace", "/home/agent", "/var/lib/x", "/data"]),
        "storageClassName": _dns,
        "onDelete": st.sampled_from(["Retain", "Delete"]),
    },
)


@st.composite
def valid_specs(draw: st.DrawFn) -> Spec:
    """Specs that are accepted, with every field in many of them."""
    ports = draw(_ports())
    port_names = [port["name"] for port in ports if "name" in port]
    optional: dict[str, st.SearchStrategy[Any]] = {
        "tenant": _labels,
        "workflow": _labels,
        "suspend": st.booleans(),
        "suspendReason": _texts,
        "suspendGraceSeconds": st.integers(0, 30),
        "replicas": st.integers(0, 100),
        "command": _arguments,
        "args": _arguments,
        "env": _environment(),
        "ports": st.just(ports),
        "resources": _resources(),
        "workspace": _workspaces,
        "scratch": _memory,
        "runtimeClassName": _dns,
        "placement": _placement(),
        "lifetime": st.fixed_dictionaries(
            {"maxSeconds": st.integers(1, 31_536_000)}, optional={"onExpiry": st.sampled_from(["Suspend", "Delete"])}
        ),
    }
    spec: Spec = draw(st.fixed_dictionaries({"owner": _labels, "image": _images}, optional=optional))
    if draw(st.booleans()):
        # Probes may name only ports that are there.
        spec["probes"] = draw(_probes(port_names if "ports" in spec else []))
    return spec


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=12), inner, max_size=3),
    max_leaves=8,
)
"""Anything that JSON can hold."""


def paths(value: Any, prefix: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    """All places in a JSON value, the value itself included."""
    found = [prefix]
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for step, below in inner:
        found += paths(below, (*prefix, step))
    return found


def replaced(value: Any, path: tuple[str | int, ...], new: Any) -> Any:
    """A copy of a JSON value with something else at one place."""
    if not path:
        return new
    step, rest = path[0], path[1:]
    if isinstance(value, dict):
        return {key: replaced(below, rest, new) if key == step else below for key, below in value.items()}
    return [replaced(below, rest, new) if index == step else below for index, below in enumerate(value)]


@st.composite
def mutated_specs(draw: st.DrawFn) -> Spec:
    """Specs with something else in one place: some stay valid, most do not."""
    spec = draw(valid_specs())
    path = draw(st.sampled_from(paths(spec)[1:]))
    near = st.sampled_from(
        ["", "0", "-1", "a b", "A", "1Gi", "1m", "/tmp", "x" * 300, "\n", "é", -1, 0, 1, 70000, True]
    )
    changed: Spec = replaced(spec, path, draw(st.one_of(near, json_values)))
    return changed
