"""The floor: addresses that no policy opens, whatever an agent asks for. Data, with a source for each entry.

The nodes and the API server belong to the floor too; they differ from cluster to cluster and are found at run time.
"""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class FloorEntry:
    """One network of the floor.

    Attributes:
        cidr: the network, in canonical text.
        what: what is there, as words in a sentence.
        source: the document that says so.
        openable: whether policies may open parts of it (`network.openSharedAddressSpace`). What another entry names
            inside of it stays closed.
    """

    cidr: str
    what: str
    source: str
    openable: bool = False


SHARED_ADDRESS_SPACE: Final = "100.64.0.0/10"

FLOOR: Final[tuple[FloorEntry, ...]] = (
    # Linux takes a connection to 0.0.0.0 for one to itself.
    FloorEntry("0.0.0.0/8", "this host on this network", "RFC 1122, section 3.2.1.3"),
    FloorEntry(SHARED_ADDRESS_SPACE, "carrier-grade NAT and services of providers", "RFC 6598", openable=True),
    FloorEntry("100.100.100.200/32", "metadata of Alibaba Cloud", "Alibaba Cloud ECS, View instance metadata"),
    FloorEntry("127.0.0.0/8", "loopback", "RFC 1122, section 3.2.1.3"),
    FloorEntry(
        "168.63.129.16/32", "the host of an Azure VM", "Microsoft Learn, Azure IP address 168.63.129.16 overview"
    ),
    FloorEntry("169.254.0.0/16", "link-local and the metadata of most clouds", "RFC 3927"),
    # 192.0.0.192 is the metadata address of Oracle Cloud's classic machines, 192.0.0.170 and .171 discover NAT64.
    FloorEntry("192.0.0.0/24", "protocol assignments and metadata of Oracle Cloud", "RFC 6890, section 2.1"),
    FloorEntry("224.0.0.0/4", "multicast", "RFC 5771"),
    FloorEntry("240.0.0.0/4", "reserved addresses and broadcast", "RFC 1112, section 4, and RFC 919, section 7"),
    # In one entry because CEL's cidr() takes no IPv4-mapped text, and because the whole of it is reserved.
    FloorEntry(
        "::/8",
        "reserved: unspecified, loopback, IPv4-compatible, IPv4-mapped and IPv4-translated addresses",
        "RFC 4291, sections 2.4 and 2.5.5, and RFC 2765, section 2.1",
    ),
    FloorEntry("64:ff9b::/96", "NAT64, which reaches any IPv4 address", "RFC 6052, section 2.1"),
    FloorEntry("64:ff9b:1::/48", "local-use NAT64, which reaches any IPv4 address", "RFC 8215"),
    FloorEntry("2001::/32", "Teredo, which reaches any IPv4 address", "RFC 4380, section 2.6"),
    FloorEntry("2002::/16", "6to4, which reaches any IPv4 address", "RFC 3056, section 2"),
    FloorEntry("fd00:42::42/128", "metadata of Scaleway", "cloud-init documentation, Scaleway"),
    FloorEntry("fd00:c1::a9fe:a9fe/128", "metadata of Oracle Cloud", "cloud-init, DataSourceOracle"),
    FloorEntry("fd00:100::100:200/128", "metadata of Alibaba Cloud", "cloud-init, DataSourceAliYun"),
    # fd00:ec2::254 is the metadata service, fd00:ec2::23 hands out the credentials of EKS Pod Identity.
    FloorEntry(
        "fd00:ec2::/32",
        "metadata, pod identity and other services of AWS",
        "Amazon EC2 User Guide, Access instance metadata; Amazon EKS User Guide, EKS Pod Identity Agent",
    ),
    FloorEntry("fd00:a9fe:a9fe::1/128", "metadata of Akamai", "cloud-init documentation, Akamai"),
    FloorEntry("fd20:ce::254/128", "metadata of Google Cloud", "Google Cloud, About VM metadata"),
    FloorEntry("fe80::/10", "link-local and the metadata of some clouds", "RFC 4291, section 2.5.6"),
    FloorEntry("fec0::/10", "site-local addresses, withdrawn", "RFC 3879"),
    FloorEntry("ff00::/8", "multicast", "RFC 4291, section 2.7"),
)
"""By family and address."""
