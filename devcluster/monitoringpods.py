"""What makes Prometheus and Alertmanager pods of the tier `cluster`."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

NAMESPACE = "monitoring"
PROMETHEUS = "prometheus"
ALERTMANAGER = "alertmanager"
"""Each is the name of its Deployment and Service, and the value of the label `app` of its pods."""

IMAGE = "localhost/bulkhead/monitoring:dev"

ADDRESS = "10.96.0.90"
"""Prometheus' ClusterIP: not every cluster of this tier has DNS."""
PORT = 9090
NODE_PORT = 30890
"""Where the machine itself reaches it, at the node's address."""

ALERTMANAGER_ADDRESS = "10.96.0.91"
ALERTMANAGER_PORT = 9093

METRICS_PORT_NAME = "metrics"
SCRAPE_INTERVAL = "1s"

_DISCOVERY = Path(__file__).with_name("discovery.py")
_TARGETS = "/data/targets.json"


def manifests(*, token: str, webhook: str, rules: str) -> list[dict[str, Any]]:
    """All that they need in the cluster; see `monitoring.install`."""
    found = [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}},
        *_rights(),
        *_prometheus(rules, alerts=bool(webhook)),
    ]
    return [*found, *_alertmanager(token, webhook)] if webhook else found


def scraping(targets: str) -> dict[str, Any]:
    """How Prometheus finds agents, and what their series are labelled with.

    Args:
        targets: the file that `discovery` writes.
    """
    return {
        "job_name": "agents",
        "file_sd_configs": [{"files": [targets]}],
        # What an agent says of itself stays beside what Kubernetes says of it, and never takes its place.
        "honor_labels": False,
        "relabel_configs": [
            {
                "action": "keep",
                "source_labels": ["__meta_kubernetes_pod_labelpresent_bulkhead_dev_agent"],
                "regex": "true",
            },
            {
                "action": "keep",
                "source_labels": ["__meta_kubernetes_pod_container_port_name"],
                "regex": METRICS_PORT_NAME,
            },
            {"source_labels": ["__meta_kubernetes_namespace"], "target_label": "namespace"},
            {"source_labels": ["__meta_kubernetes_pod_label_bulkhead_dev_agent"], "target_label": "agent"},
        ],
    }


def _prometheus_config(*, alerts: bool) -> dict[str, Any]:
    config: dict[str, Any] = {
        "global": {
            "scrape_interval": SCRAPE_INTERVAL,
            "scrape_timeout": SCRAPE_INTERVAL,
            "evaluation_interval": SCRAPE_INTERVAL,
        },
        "rule_files": ["/etc/prometheus/rules.yml"],
        "scrape_configs": [scraping(_TARGETS)],
    }
    if alerts:
        target = f"{ALERTMANAGER_ADDRESS}:{ALERTMANAGER_PORT}"
        config["alerting"] = {"alertmanagers": [{"static_configs": [{"targets": [target]}]}]}
    return config


def _alertmanager_config(token: str, webhook: str) -> dict[str, Any]:
    hook = {
        "url": webhook,
        "send_resolved": True,
        "max_alerts": 0,
        "http_config": {"authorization": {"type": "Bearer", "credentials": token}},
    }
    route = {
        "receiver": "bulkhead",
        "group_by": ["..."],  # each alert by itself: a group waits for its interval before it tells of another
        "group_wait": "0s",
        "group_interval": "1s",
        "repeat_interval": "1h",
    }
    return {"route": route, "receivers": [{"name": "bulkhead", "webhook_configs": [hook]}]}


def _prometheus(rules: str, *, alerts: bool) -> list[dict[str, Any]]:
    # JSON is YAML.
    files = {"prometheus.yml": json.dumps(_prometheus_config(alerts=alerts)), "rules.yml": rules or "groups: []"}
    files["discovery.py"] = _DISCOVERY.read_text()
    arguments = [
        "/usr/bin/prometheus",
        "--config.file=/etc/prometheus/prometheus.yml",
        "--storage.tsdb.path=/data",
        f"--web.listen-address=:{PORT}",
        "--query.lookback-delta=10s",
    ]
    return [
        _object("ConfigMap", PROMETHEUS, data=files),
        _service(PROMETHEUS, ADDRESS, {"port": PORT, "nodePort": NODE_PORT}),
        _deployment(PROMETHEUS, files, arguments, PORT, {"configMap": {"name": PROMETHEUS}}),
    ]


def _alertmanager(token: str, webhook: str) -> list[dict[str, Any]]:
    files = {"alertmanager.yml": json.dumps(_alertmanager_config(token, webhook))}
    arguments = [
        "/usr/bin/prometheus-alertmanager",
        "--config.file=/etc/prometheus/alertmanager.yml",
        "--storage.path=/data",
        f"--web.listen-address=:{ALERTMANAGER_PORT}",
        "--cluster.listen-address=",
    ]
    return [
        _object("Secret", ALERTMANAGER, stringData=files),
        _service(ALERTMANAGER, ALERTMANAGER_ADDRESS, {"port": ALERTMANAGER_PORT}),
        _deployment(ALERTMANAGER, files, arguments, ALERTMANAGER_PORT, {"secret": {"secretName": ALERTMANAGER}}),
    ]


def _rights() -> list[dict[str, Any]]:
    rbac = "rbac.authorization.k8s.io"
    name = "devcluster-prometheus"
    return [
        _object("ServiceAccount", PROMETHEUS),
        {
            "apiVersion": f"{rbac}/v1",
            "kind": "ClusterRole",
            "metadata": {"name": name},
            "rules": [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list", "watch"]}],
        },
        {
            "apiVersion": f"{rbac}/v1",
            "kind": "ClusterRoleBinding",
            "metadata": {"name": name},
            "roleRef": {"apiGroup": rbac, "kind": "ClusterRole", "name": name},
            "subjects": [{"kind": "ServiceAccount", "name": PROMETHEUS, "namespace": NAMESPACE}],
        },
    ]


def _object(kind: str, name: str, **content: Any) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": kind, "metadata": {"name": name, "namespace": NAMESPACE}, **content}


def _service(name: str, address: str, port: dict[str, Any]) -> dict[str, Any]:
    kind = "NodePort" if "nodePort" in port else "ClusterIP"
    spec = {"type": kind, "clusterIP": address, "selector": {"app": name}, "ports": [{"name": "http", **port}]}
    return _object("Service", name, spec=spec)


def _deployment(
    name: str, files: dict[str, str], arguments: list[str], port: int, config: dict[str, Any]
) -> dict[str, Any]:
    # Both read their files at the start only, so other files make another pod.
    digest = hashlib.sha256(json.dumps(files, sort_keys=True).encode()).hexdigest()
    pod: dict[str, Any] = {
        "serviceAccountName": PROMETHEUS if name == PROMETHEUS else "default",
        "automountServiceAccountToken": name == PROMETHEUS,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": 1,
        "containers": [
            {
                "name": name,
                "image": IMAGE,
                "imagePullPolicy": "Never",
                "command": arguments,
                "securityContext": {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True},
                "volumeMounts": [
                    {"name": "config", "mountPath": "/etc/prometheus"},
                    {"name": "data", "mountPath": "/data"},
                ],
            }
        ],
        "volumes": [{"name": "config", **config}, {"name": "data", "emptyDir": {}}],
    }
    (server,) = pod["containers"]
    if name == PROMETHEUS:
        discovery = {"name": "discovery", "command": ["python3", "-u", "/etc/prometheus/discovery.py", _TARGETS]}
        pod["containers"].append({**server, **discovery})
    server["readinessProbe"] = {"httpGet": {"path": "/-/ready", "port": port}, "periodSeconds": 1}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {
            "selector": {"matchLabels": {"app": name}},
            "strategy": {"type": "Recreate"},
            "template": {
                "metadata": {"labels": {"app": name}, "annotations": {"devcluster/config": digest}},
                "spec": pod,
            },
        },
    }
