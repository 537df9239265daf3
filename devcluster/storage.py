"""The default StorageClass: local-path-provisioner, run as a program of the node. A volume is a folder of the node.

It has a helper pod make and remove each folder. That pod runs as root and mounts the node's files, hence a namespace of
its own without pod security. Its image is the Debian base, which has a shell.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from devcluster import images, pki, processes, view
from devcluster.paths import Cluster, write_atomically

STORAGE_CLASS = "local-path"
NAMESPACE = "local-path-storage"

_FOLDER = "/var/lib/local-path-provisioner"
_SERVICE_ACCOUNT = "local-path-helper"
_USER = "local-path-provisioner"


def manifests() -> list[dict[str, Any]]:
    """What it needs in the cluster before it is started: its rights, the helper pods' scripts, and the class."""
    metadata = {"name": _USER, "labels": {"app.kubernetes.io/part-of": "devcluster"}}
    return [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}},
        {
            "apiVersion": "v1",
            "kind": "ServiceAccount",
            "metadata": {"name": _SERVICE_ACCOUNT, "namespace": NAMESPACE},
            "automountServiceAccountToken": False,
        },
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRole",
            "metadata": metadata,
            "rules": [
                _rule("", ["nodes", "persistentvolumeclaims", "configmaps"], "get list watch"),
                _rule("", ["persistentvolumes", "pods"], "get list watch create patch update delete"),
                _rule("", ["pods/log"], "get"),
                _rule("", ["events"], "create patch"),
                _rule("storage.k8s.io", ["storageclasses"], "get list watch"),
            ],
        },
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRoleBinding",
            "metadata": metadata,
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": _USER},
            "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": _USER}],
        },
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "local-path-config", "namespace": NAMESPACE},
            # Kubernetes does not apply fsGroup to such a volume (hostPath), and agents are not root: all may write.
            "data": {
                "setup": '#!/bin/sh\nset -eu\nmkdir -m 0777 -p "$VOL_DIR"\n',
                "teardown": '#!/bin/sh\nset -eu\nrm -rf "$VOL_DIR"\n',
            },
        },
        {
            "apiVersion": "storage.k8s.io/v1",
            "kind": "StorageClass",
            "metadata": {
                "name": STORAGE_CLASS,
                "annotations": {"storageclass.kubernetes.io/is-default-class": "true"},
            },
            "provisioner": "rancher.io/local-path",
            "volumeBindingMode": "WaitForFirstConsumer",
            "reclaimPolicy": "Delete",
        },
    ]


def start(cluster: Cluster, binaries: Mapping[str, Path], *, server: str) -> None:
    """Start the provisioner; `manifests` are in the cluster."""
    folder = view.node_dir(cluster)
    config = folder / "local-path" / "config.json"
    nodes = [{"node": "DEFAULT_PATH_FOR_NON_LISTED_NODES", "paths": [_FOLDER]}]
    write_atomically(config, json.dumps({"nodePathMap": nodes}))
    helper = folder / "local-path" / "helperPod.yaml"
    write_atomically(helper, yaml.safe_dump(_helper_pod()))
    kubeconfig = pki.client_kubeconfig(cluster, server=server, user=_USER)
    view.start(
        cluster,
        _USER,
        [
            *(binaries["local-path-provisioner"], "start"),
            *("--config", config),
            *("--helper-pod-file", helper),
            *("--service-account-name", _SERVICE_ACCOUNT),
            *("--namespace", NAMESPACE),
            *("--kubeconfig", kubeconfig),
        ],
    )


def is_running(cluster: Cluster) -> bool:
    """Tell whether the provisioner runs."""
    return any(record.component == _USER and processes.is_alive(record) for record in processes.records(cluster))


def _helper_pod() -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "helper-pod"},
        "spec": {
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "dnsPolicy": "Default",
            # It needs no network, and is there sooner where none is made for it.
            "hostNetwork": True,
            "containers": [{"name": "helper-pod", "image": images.BASE, "imagePullPolicy": "Never"}],
        },
    }


def _rule(group: str, kinds: list[str], verbs: str) -> dict[str, Any]:
    return {"apiGroups": [group], "resources": kinds, "verbs": verbs.split()}
