"""What informers keep of objects that others own, and what of them counts as a change."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from bulkhead.api import meta
from bulkhead.plan.diversion import EXTERNAL

Object = dict[str, Any]


def metadata_only(obj: Object) -> Object:
    """Keeps of an object who it is and its labels."""
    kept = ("name", "uid", "resourceVersion", "labels", "deletionTimestamp")
    metadata = {key: obj["metadata"][key] for key in kept if key in obj["metadata"]}
    return {"apiVersion": obj["apiVersion"], "kind": obj["kind"], "metadata": metadata}


def addressing_only(service: Object) -> Object:
    """Keeps of a Service what decides where its traffic goes, and the addresses that it has besides its cluster IPs."""
    balanced = ((service.get("status") or {}).get("loadBalancer") or {}).get("ingress") or ()
    claimed = {*(service["spec"].get("externalIPs") or ()), *(one["ip"] for one in balanced if one.get("ip"))}
    external = sorted(claimed)
    kept = ("name", "namespace", "uid", "resourceVersion", "deletionTimestamp")
    fields = (
        "type",
        "clusterIP",
        "clusterIPs",
        "ports",
        "selector",
        "externalIPs",
        "externalName",
        "publishNotReadyAddresses",
    )
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {key: service["metadata"][key] for key in kept if key in service["metadata"]},
        "spec": {key: service["spec"][key] for key in fields if key in service["spec"]},
        **({EXTERNAL: external} if external else {}),
    }


def node_facts(node: Object) -> Object:
    """Keeps of a node its addresses, its pods' networks, and whether pods get user namespaces there (KEP-127)."""
    status = node.get("status") or {}
    default: Object = next((one for one in status.get("runtimeHandlers") or () if not one.get("name")), {})
    kept = ("name", "uid", "resourceVersion")
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {key: node["metadata"][key] for key in kept},
        "userNamespaces": bool((default.get("features") or {}).get("userNamespaces")),
        "addresses": sorted(
            one["address"] for one in status.get("addresses") or () if one["type"] in ("InternalIP", "ExternalIP")
        ),
        "podNetworks": list((node.get("spec") or {}).get("podCIDRs") or ()),
    }


def generation(obj: Object) -> object:
    """What of an object changes with its spec, and with its deletion."""
    return obj["metadata"]["uid"], obj["metadata"].get("generation"), obj["metadata"].get("deletionTimestamp")


def identity(namespace: Object) -> object:
    """What of a namespace decides what holds in it."""
    data = namespace["metadata"]
    return data["uid"], data.get("deletionTimestamp"), data.get("labels")


def content(obj: Object) -> object:
    """What of an object of somebody else decides what it opens, and whose it is."""
    return {key: value for key, value in obj.items() if key not in ("metadata", "status")}, meta.owner_references(obj)


def unchanged(old: Object | None, new: Object | None, telling: Callable[[Object], object]) -> bool:
    """Says whether an object was there before and is there now, and is the same in what counts."""
    return old is not None and new is not None and telling(old) == telling(new)


def service_addresses(service: Object) -> tuple[tuple[str, int], ...]:
    """Returns the cluster IPs of a Service, each with each of its ports."""
    spec = service.get("spec") or {}
    ports = [int(port["port"]) for port in spec.get("ports") or ()]
    return tuple((address, port) for address in spec.get("clusterIPs") or () for port in ports)


def endpoint_addresses(published: Object) -> tuple[tuple[str, int], ...]:
    """Returns the addresses of an EndpointSlice, each with each of its ports, sorted."""
    return tuple(
        sorted(
            (address, int(port["port"]))
            for endpoint in published.get("endpoints") or ()
            for address in endpoint.get("addresses") or ()
            for port in published.get("ports") or ()
            if port.get("port")
        )
    )
