"""Tells Prometheus which pods of agents there are, as its own Kubernetes discovery does: Debian's is built without it.

Runs in Prometheus' pod, with the standard library alone: asks the API server twice a second and writes the file that
`file_sd_configs` reads. The labels are those of `kubernetes_sd_configs` with `role: pod` (Prometheus' configuration
reference), so that the same relabelling goes for both.
"""

from __future__ import annotations

import json
import os
import re
import ssl
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

LABEL = "bulkhead.dev/agent"
SECONDS = 0.5

_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")


def targets(pods: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Give an entry of the file for each port of each container of each pod that has an address."""
    found = []
    for pod in pods:
        metadata, address = pod["metadata"], pod.get("status", {}).get("podIP")
        if not address:
            continue
        host = f"[{address}]" if ":" in address else address
        labels = {"__meta_kubernetes_namespace": metadata["namespace"], "__meta_kubernetes_pod_name": metadata["name"]}
        for name, value in (metadata.get("labels") or {}).items():
            known = re.sub(r"[^a-zA-Z0-9_]", "_", name)
            labels[f"__meta_kubernetes_pod_label_{known}"] = value
            labels[f"__meta_kubernetes_pod_labelpresent_{known}"] = "true"
        for container in pod["spec"]["containers"]:
            for port in container.get("ports", ()):
                named = {"__meta_kubernetes_pod_container_port_name": port.get("name", "")}
                found.append({"targets": [f"{host}:{port['containerPort']}"], "labels": {**labels, **named}})
    return found


def main() -> None:
    """Write the file that the first argument names, again and again."""
    file = Path(sys.argv[1])
    host, port = os.environ["KUBERNETES_SERVICE_HOST"], os.environ["KUBERNETES_SERVICE_PORT"]
    url = f"https://{f'[{host}]' if ':' in host else host}:{port}/api/v1/pods?labelSelector={LABEL}"
    trusted = ssl.create_default_context(cafile=str(_ACCOUNT / "ca.crt"))
    written = None
    while True:
        request = urllib.request.Request(url)
        request.add_header("Authorization", f"Bearer {(_ACCOUNT / 'token').read_text()}")
        try:
            with urllib.request.urlopen(request, timeout=5, context=trusted) as answer:  # noqa: S310 (https)
                text = json.dumps(targets(json.load(answer)["items"]))
        except OSError as error:
            print(f"the API server cannot be asked: {error}", flush=True)
        else:
            if text != written:
                part = file.with_suffix(".part")
                part.write_text(text)
                part.rename(file)
                written = text
        time.sleep(SECONDS)


if __name__ == "__main__":
    main()
