"""The network of the tier `cluster`: a node and what is around it, each in a network namespace, in both families.

    host ── bulkhead0 ── node ─┬─ production   10.200.0.10        fd00:10:200::10     a PostgreSQL
                               ├─ metadata     169.254.169.254    fd00:ec2::254       as clouds have it
                               └─ outside      203.0.113.10, .200 2001:db8:113::10    somebody else's servers

The host reaches the node, by IPv4 only, and the node and its pods reach the other three, over veth pairs. There is no
way out: no namespace has a default route and nothing is masqueraded, so a packet to any other address is refused by
the routing table of the namespace it is sent in.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from devcluster import resources
from devcluster.commands import run
from devcluster.errors import DevclusterError
from devcluster.paths import Cluster

NODE = "bulkhead-node"
"""Network namespace (below /run/netns) of the control plane, the node's programs and, as its routers, the pods."""

PRODUCTION = "bulkhead-production"
"""Network namespace of what agents must never reach."""

METADATA = "bulkhead-metadata"
"""Network namespace of the metadata service."""

OUTSIDE = "bulkhead-outside"
"""Network namespace of servers outside of the cluster that are nobody's production: an agent may be granted them."""

HOST_LINK = "bulkhead0"
"""The host's end of the pair that leads to the node."""

NODE_LINK = "host0"
"""The node's end of that pair: the node's network device as far as Kubernetes is concerned."""

# RFC 2544 reserves 198.18.0.0/15 for benchmarks, so no network that the host is in uses it. All other ranges are seen
# in the namespaces only.
HOST_ADDRESS = "198.18.77.1"
NODE_ADDRESS = "198.18.77.2"
PRODUCTION_CIDR = "10.200.0.0/24"
PRODUCTION_ADDRESS = "10.200.0.10"
METADATA_ADDRESS = "169.254.169.254"
OUTSIDE_CIDR = "203.0.113.0/24"  # RFC 5737: for documentation
OUTSIDE_ADDRESSES = ("203.0.113.10", "203.0.113.200")
POD_CIDR = "10.244.0.0/16"
SERVICE_CIDR = "10.96.0.0/16"
API_SERVICE_ADDRESS = "10.96.0.1"  # of the Service default/kubernetes: the first address of the range
DNS_ADDRESS = "10.96.0.10"  # of the Service kube-system/kube-dns
DOMAIN = "cluster.local"

NODE_ADDRESS_6 = "fd00:77::2"
PRODUCTION_CIDR_6 = "fd00:10:200::/64"
PRODUCTION_ADDRESS_6 = "fd00:10:200::10"
METADATA_ADDRESS_6 = "fd00:ec2::254"
OUTSIDE_CIDR_6 = "2001:db8:113::/64"  # RFC 3849: for documentation
OUTSIDE_ADDRESS_6 = "2001:db8:113::10"
POD_CIDR_6 = "fd00:10:244::/56"
SERVICE_CIDR_6 = "fd00:10:96::/112"

IPV6 = Path("/proc/sys/net/ipv6").exists()
"""Whether this kernel knows IPv6. Without it the cluster has IPv4 only."""


@dataclass(frozen=True)
class _Neighbour:
    """A namespace beside the node's: its link there, its addresses, and the node's addresses on that link."""

    namespace: str
    link: str
    addresses: tuple[str, ...]
    node: str
    node_6: str


_NEIGHBOURS = (
    _Neighbour(
        PRODUCTION,
        "production0",
        (f"{PRODUCTION_ADDRESS}/24", f"{PRODUCTION_ADDRESS_6}/64"),
        "10.200.0.1/24",
        "fd00:10:200::1/64",
    ),
    _Neighbour(
        METADATA,
        "metadata0",
        (f"{METADATA_ADDRESS}/30", f"{METADATA_ADDRESS_6}/64"),
        "169.254.169.253/30",
        "fd00:ec2::1/64",
    ),
    _Neighbour(
        OUTSIDE,
        "outside0",
        (*(f"{address}/24" for address in OUTSIDE_ADDRESSES), f"{OUTSIDE_ADDRESS_6}/64"),
        "203.0.113.1/24",
        "2001:db8:113::1/64",
    ),
)
NAMESPACES = (NODE, *(neighbour.namespace for neighbour in _NEIGHBOURS))
"""All network namespaces of the tier, the pods' own excepted."""


def both(ipv4: str, ipv6: str) -> str:
    """A dual-stack setting, as Kubernetes' programs take it: one value for each family there is, with a comma."""
    return f"{ipv4},{ipv6}" if IPV6 else ipv4


def create(cluster: Cluster) -> None:
    """Make the namespaces, the pairs between them, their addresses and routes, each noted in the ledger first.

    Raises:
        DevclusterError: a namespace or the link is there already: another cluster of this tier runs on the machine.
    """
    with _alone_on_this_machine():
        # What is noted in the ledger is undone later, so nothing of somebody else's may get into it.
        _refuse_a_second_one()
        for name in NAMESPACES:
            _create_namespace(cluster, name)
        resources.record(cluster, "link", HOST_LINK)
        _ip("link", "add", HOST_LINK, "type", "veth", "peer", "name", NODE_LINK, "netns", NODE)
    # The host and the node know each other by IPv4 only: a link-local address would be a second way to the host.
    _write_sysctl(f"ipv6/conf/{HOST_LINK}/disable_ipv6", "1")
    # Not by turning IPv6 off there, which Cilium's agent undoes for all devices of its namespace.
    _ip("link", "set", NODE_LINK, "addrgenmode", "none", namespace=NODE)
    # The host's only way back to a pod is its default route: without this check it would answer pods to the outside.
    _write_sysctl(f"ipv4/conf/{HOST_LINK}/rp_filter", "1")
    _ip("address", "add", f"{HOST_ADDRESS}/30", "dev", HOST_LINK)
    _ip("link", "set", HOST_LINK, "up")
    _set_up(NODE, NODE_LINK, f"{NODE_ADDRESS}/30")
    _add_address(NODE, "lo", f"{NODE_ADDRESS_6}/128")
    for neighbour in _NEIGHBOURS:
        _connect(neighbour)


@contextmanager
def _alone_on_this_machine() -> Iterator[None]:
    """Keep another `up` out, also one with another state root. The lock is on a folder that exists anyway."""
    descriptor = os.open("/run", os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _refuse_a_second_one() -> None:
    present = [path for name in NAMESPACES if (path := Path("/run/netns", name)).exists()]
    present += [path] if (path := Path("/sys/class/net", HOST_LINK)).exists() else []
    if present:
        raise DevclusterError(
            f"{', '.join(map(str, present))} exists already: a machine can have one cluster of tier `cluster`. "
            "Take the other one down first, with the BULKHEAD_STATE it was brought up with"
        )


def make_namespace(name: str) -> None:
    """Make a network namespace that `ip netns delete` takes away.

    Not by `ip netns add`: that also turns /run/netns into a mount which nothing takes away again, and which lies over
    the namespaces that are there already, so that these cannot be entered or deleted any more.
    """
    handle = Path("/run/netns", name)
    handle.parent.mkdir(exist_ok=True)
    handle.touch(exist_ok=False)
    run("unshare", f"--net={handle}", "true")


def _create_namespace(cluster: Cluster, name: str) -> None:
    resources.record(cluster, "netns", name)
    make_namespace(name)
    for scope in ("all", "default"):
        # Nobody else is on these links: an address need not wait a second to see whether somebody has it already.
        _write_sysctl(f"ipv6/conf/{scope}/accept_dad", "0", namespace=name)
        _write_sysctl(f"ipv6/conf/{scope}/accept_ra", "0", namespace=name)
        # Cilium's programs take short cuts: packets come in on other devices than the route back would use.
        _write_sysctl(f"ipv4/conf/{scope}/rp_filter", "0", namespace=name)
    forwards = "1" if name == NODE else "0"
    _write_sysctl("ipv4/ip_forward", forwards, namespace=name)
    _write_sysctl("ipv6/conf/all/forwarding", forwards, namespace=name)
    _ip("link", "set", "lo", "up", namespace=name)


def _connect(neighbour: _Neighbour) -> None:
    """Join a namespace to the node's; it learns the way back to the pods and nothing else."""
    namespace, link = neighbour.namespace, neighbour.link
    _ip("link", "add", link, "type", "veth", "peer", "name", "eth0", "netns", namespace, namespace=NODE)
    _set_up(NODE, link, neighbour.node, neighbour.node_6)
    _set_up(namespace, "eth0", *neighbour.addresses)
    _ip("route", "add", POD_CIDR, "via", neighbour.node.partition("/")[0], namespace=namespace)
    if IPV6:
        _ip("route", "add", POD_CIDR_6, "via", neighbour.node_6.partition("/")[0], namespace=namespace)


def _set_up(namespace: str, link: str, *addresses: str) -> None:
    for address in addresses:
        _add_address(namespace, link, address)
    _ip("link", "set", link, "up", namespace=namespace)


def _add_address(namespace: str, link: str, address: str) -> None:
    if IPV6 or ":" not in address:
        _ip("address", "add", address, "dev", link, namespace=namespace)


def _write_sysctl(name: str, value: str, *, namespace: str | None = None) -> None:
    """Set a variable below net/ in one network namespace. /proc/sys/net shows each process those of its own."""
    enter = ["nsenter", f"--net=/run/netns/{namespace}"] if namespace else []
    path = f"/proc/sys/net/{name}"
    if name.startswith("ipv6/") and not IPV6:
        return  # a kernel without IPv6 has nothing to set
    run(*enter, "sh", "-c", 'printf %s "$2" > "$1"', "sh", path, value)


def _ip(*arguments: str, namespace: str | None = None) -> None:
    run("ip", *(("-netns", namespace) if namespace else ()), *arguments)
