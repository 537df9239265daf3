"""Networks and addresses as fields: one spelling for each, so that two that are the same look the same.

The grammar is what CEL's `cidr()` and `ip()` take (Kubernetes CEL libraries for IP addresses and CIDRs, 1.30), narrowed
to the canonical text of RFC 5952. IPv4-mapped IPv6 is no spelling of an IPv4 network: what a network plugin makes of
one is undefined.
"""

import ipaddress
from typing import Annotated, Final

from bulkhead.api.fields import Rule, Text

LONGEST_CIDR: Final = 43
"""Characters: eight groups of four, seven colons, and /128."""
LONGEST_ADDRESS: Final = 39

IpNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network


def _is_canonical_cidr(text: str) -> bool:
    try:
        network = ipaddress.ip_network(text)
    except ValueError:
        return False
    mapped = isinstance(network, ipaddress.IPv6Network) and network.network_address.ipv4_mapped is not None
    return str(network) == text and not mapped and "%" not in text


def _is_canonical_unicast(text: str) -> bool:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return False
    if isinstance(address, ipaddress.IPv6Address) and (address.ipv4_mapped is not None or address.scope_id):
        return False
    special = address.is_unspecified or address.is_loopback or address.is_multicast or address.is_link_local
    return str(address) == text and not special and text != "255.255.255.255"


CIDR_RULE: Final = Rule(
    "isCIDR(self) && string(cidr(self).masked()) == self",
    "accepted is a network such as 10.1.0.0/16 or 2001:db8::/32: with its prefix length, no bit set after it, IPv6 in "
    "its shortest lower case spelling (RFC 5952) and not IPv4-mapped",
    _is_canonical_cidr,
)
ADDRESS_RULE: Final = Rule(
    "isIP(self) && ip.isCanonical(self) && ip(self).isGlobalUnicast()",
    "accepted is one address such as 10.1.0.7 or 2001:db8::7, in its shortest lower case spelling (RFC 5952): not "
    "IPv4-mapped, and no loopback, link-local, multicast, broadcast or unspecified address",
    _is_canonical_unicast,
)

Cidr = Annotated[str, Text(LONGEST_CIDR, rules=(CIDR_RULE,))]
"""A network of either family in canonical text."""
UnicastAddress = Annotated[str, Text(LONGEST_ADDRESS, rules=(ADDRESS_RULE,))]
"""One address of either family in canonical text, of a kind that another machine can have."""


def within(text: str, *outer: str) -> bool:
    """Tells whether a network lies wholly inside one of the others. False if one of the two is no network."""
    if not all(map(_is_canonical_cidr, (text, *outer))):
        return False
    network = ipaddress.ip_network(text)
    return any(_is_subnet(network, ipaddress.ip_network(other)) for other in outer)


def _is_subnet(inner: IpNetwork, outer: IpNetwork) -> bool:
    if isinstance(inner, ipaddress.IPv4Network):
        return isinstance(outer, ipaddress.IPv4Network) and inner.subnet_of(outer)
    return isinstance(outer, ipaddress.IPv6Network) and inner.subnet_of(outer)
