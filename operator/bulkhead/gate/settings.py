"""What the gate is told, through the environment in the pod's template: an environment cannot be edited later."""

import _socket as socket

TARGETS = b"BULKHEAD_GATE_TARGETS"
INTERVAL = b"BULKHEAD_GATE_INTERVAL"
MESSAGE_PATH = b"BULKHEAD_GATE_MESSAGE_PATH"
NODE_IPS = b"BULKHEAD_NODE_IPS"

NODE = "node"
"""In place of an address: every address of the node, from the downward API."""
BALANCED = "balanced"
"""After the port: the address may be a load balancer's, which rejects in the name of what is behind it."""

FORM = "accepted is: NAME TCP|UDP ADDRESS PORT, and 'balanced' after it where a load balancer has the address"


class SettingsError(Exception):
    """The environment cannot be understood."""


class Target:
    """One address to try.

    Attributes:
        name: what people call it.
        protocol: `TCP` or `UDP`.
        address: its address, as text that a connection can be made to.
        zone: the same with its interface, where it needs one.
        packed: the same as 4 or 16 bytes.
        port: its port.
        scope: index of the interface, for link-local addresses; 0 otherwise.
        balanced: an ICMP error from the address itself does not mean that the packet arrived.
    """

    __slots__ = ("address", "balanced", "name", "packed", "port", "protocol", "scope", "zone")

    def __init__(
        self,
        name: str,
        protocol: str,
        address: str,
        port: int,
        *,
        zone: str = "",
        scope: int = 0,
        balanced: bool = False,
    ) -> None:
        self.name = name
        self.protocol = protocol
        self.address = address
        self.packed = pack(address)
        self.port = port
        self.zone = zone or address
        self.scope = scope
        self.balanced = balanced

    @property
    def family(self) -> int:
        """The address family."""
        return socket.AF_INET if len(self.packed) == 4 else socket.AF_INET6

    def __str__(self) -> str:
        """Gives `name protocol address port`."""
        return f"{self.name} {self.protocol} {self.zone} {self.port}"


class Settings:
    """Everything that the gate is told.

    Attributes:
        targets: what to try.
        interval: seconds between the rounds of the watch.
        message_path: the file that the kubelet reads when the container has ended.
    """

    __slots__ = ("interval", "message_path", "targets")

    def __init__(self, environment: dict[bytes, bytes]) -> None:
        nodes = [one.strip() for one in _text(environment, NODE_IPS, "").split(",") if one.strip()]
        self.targets = _targets(_text(environment, TARGETS), nodes)
        self.interval = _number(_text(environment, INTERVAL), INTERVAL, 1, 3600)
        self.message_path = _text(environment, MESSAGE_PATH)


def pack(address: str) -> bytes:
    """Returns an IP address as 4 or 16 bytes.

    Raises:
        SettingsError: it is none.
    """
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            return socket.inet_pton(family, address)
        except OSError:
            continue
    raise SettingsError(f"{address!r} is not an IP address; accepted is an IPv4 or IPv6 address, or 'node' in a target")


def _text(environment: dict[bytes, bytes], name: bytes, default: str | None = None) -> str:
    value = environment.get(name)
    if value is not None:
        return value.decode("utf-8", "replace")
    if default is None:
        raise SettingsError(f"{name.decode()} is not set")
    return default


def _number(text: str, name: bytes, least: int, most: int) -> int:
    if not (text.isascii() and text.isdigit() and least <= int(text) <= most):
        raise SettingsError(f"{name.decode()} is {text[:32]!r}; accepted is a whole number from {least} to {most}")
    return int(text)


def _targets(text: str, nodes: list[str]) -> list[Target]:
    found: list[Target] = []
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            found += _target(line.split(), f"line {number} of {TARGETS.decode()}, {line[:128]!r}", nodes)
    if not found:
        raise SettingsError(f"{TARGETS.decode()} names no target, so nothing would be proven; {FORM}")
    return found


def _target(words: list[str], where: str, nodes: list[str]) -> list[Target]:
    if len(words) not in (4, 5) or words[1] not in ("TCP", "UDP") or words[4:] not in ([], [BALANCED]):
        raise SettingsError(f"{where}, is no target; {FORM}")
    name, protocol, address, text = words[:4]
    if not (text.isascii() and text.isdigit() and 1 <= int(text) <= 65535):
        raise SettingsError(f"{where}: {text[:32]!r} is no port; accepted is a number from 1 to 65535")
    if address == NODE and not nodes:
        raise SettingsError(f"{where}, is about the node, but {NODE_IPS.decode()} gives none of its addresses")
    own = {pack(node) for node in nodes}
    return [
        # A node's packet filter, which may be what enforces the policy, rejects in the node's own name.
        Target(name, protocol, one, int(text), balanced=bool(words[4:]) or pack(one) in own)
        for one in (nodes if address == NODE else [address])
    ]
