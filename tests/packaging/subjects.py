"""What is scanned: everything a user of Bulkhead gets, in sets of objects that stand in one cluster together."""

from __future__ import annotations

from pathlib import Path

from bulkhead.api.agentdeployment import parse_spec
from bulkhead.plan import identity, network, workload
from manifests.render import INSTALL, POLICY
from tests.packaging.rendering import DEMO, EXAMPLES, Manifest, load, of_kind, render

EVERYTHING: Manifest = {
    "replicas": 2,
    "userNamespaces": "always",
    "image": {
        "repository": "registry.example.com/bulkhead/operator",
        "digest": "sha256:" + "0" * 64,
        "pullPolicy": "Always",
    },
    "imagePullSecrets": [{"name": "registry"}],
    "priorityClassName": "system-cluster-critical",
    "nodeSelector": {"kubernetes.io/os": "linux"},
    "tolerations": [{"key": "node-role.kubernetes.io/control-plane", "operator": "Exists", "effect": "NoSchedule"}],
    "topologySpreadConstraints": [
        {
            "maxSkew": 1,
            "topologyKey": "topology.kubernetes.io/zone",
            "whenUnsatisfiable": "ScheduleAnyway",
            "labelSelector": {"matchLabels": {"app.kubernetes.io/name": "bulkhead"}},
        }
    ],
    "podAnnotations": {"example.com/contact": "platform"},
    "podLabels": {"team": "platform"},
    "serviceAccount": {"annotations": {"example.com/contact": "platform"}},
    "networkPolicy": {"apiServerCIDRs": ["192.0.2.1/32"]},
    "issuers": [
        {
            "name": "hashi",
            "type": "vault",
            "settings": {"address": "https://vault.example.com:8200", "role": "bulkhead"},
            "configMap": "vault-authority",
            "egress": [{"to": [{"ipBlock": {"cidr": "192.0.2.7/32"}}], "ports": [{"protocol": "TCP", "port": 8200}]}],
        },
        {
            "name": "stock",
            "type": "postgres",
            "settings": {"host": "192.0.2.8", "database": "stock", "user": "issuer"},
            "secret": "stock-issuer",
        },
    ],
    "secretSources": ["shared-secrets"],
    "signals": {
        "prometheus": {"url": "https://prometheus.example.com:9090", "secret": "prometheus", "configMap": "authority"},
        "alertmanager": {
            "enabled": True,
            "secret": "alertmanager",
            "from": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}],
        },
        "notifications": [{"url": "https://events.example.com/bulkhead", "secret": "events"}],
    },
}
"""Values that turn everything on that is off by default."""


def with_children(objects: list[Manifest]) -> list[Manifest]:
    """A namespace and its agents, as a cluster would hold them, with all that the operator makes of them."""
    stored: list[Manifest] = []
    children: list[Manifest] = []
    for number, item in enumerate(objects):
        uid = f"00000000-0000-4000-8000-{number:012d}"
        stored.append({**item, "metadata": {**item["metadata"], "uid": uid, "generation": 1}})
    for namespace in of_kind(stored, "Namespace"):
        children.append(network.deny_all(namespace))
    for agent in of_kind(stored, "AgentDeployment"):
        spec = parse_spec(agent["spec"], name=agent["metadata"]["name"])
        children.append(identity.service_account(agent, spec))
        children += filter(None, (identity.role(agent, spec), identity.role_binding(agent, spec)))
        children.append(workload.stateful_set(agent, spec))
    return [*objects, *children]


def read(*files: Path) -> list[Manifest]:
    """The objects of several files."""
    return [item for file in files for item in load(file.read_text())]


def sets(helm: Path) -> dict[str, list[Manifest]]:
    """All sets by name."""
    return {
        "chart": render(helm),
        "chart-everything": render(helm, EVERYTHING),
        "install": read(INSTALL, POLICY),
        "examples": with_children(read(*(EXAMPLES / f"{name}.yaml" for name in ("namespace", "minimal", "full")))),
        "demo": with_children(read(DEMO / "namespace.yaml", DEMO / "agent.yaml")),
    }
