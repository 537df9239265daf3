"""What is refused, by whom, and how that is told to people."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice
from typing import Final

from bulkhead.plan.addresses import Network, Table

THE_FLOOR: Final = "the floor"
THE_CLUSTER: Final = "the cluster"
SHOWN: Final = 8
"""Names or networks in one sentence at most."""

_NEXT = re.compile(r"; (?=(?:spec|metadata)\.)")
"""Between two violations: each begins with the path of a field."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Forbidden:
    """A network that no agent may be let to.

    Attributes:
        network: the network.
        what: what is there, in words.
        by: who closes it: `SandboxPolicy NAME`, `the floor` or `the cluster`.
    """

    network: Network
    what: str
    by: str

    @property
    def policy(self) -> str:
        """The name of the policy that closes it; empty where none does."""
        kind, _, name = self.by.partition(" ")
        return name if kind == "SandboxPolicy" else ""

    def __str__(self) -> str:
        """Gives the network and what it is, as in `10.0.0.0/8 (production)`."""
        return f"{self.network} ({self.what})"


_last_reserved: tuple[tuple[Forbidden, ...], Table[Forbidden]] = ((), Table(()))


def reserved_table(reserved: tuple[Forbidden, ...]) -> Table[Forbidden]:
    """Returns the table of the reserved addresses, made once for all agents that are looked at with the same tuple.

    They are thousands in a large cluster, where making the table takes ten times as long as all else; even to compare
    them with the last ones would. The tuple is kept, so its identity is enough.
    """
    global _last_reserved
    if _last_reserved[0] is not reserved:
        _last_reserved = (reserved, Table((one.network, one) for one in reserved))
    return _last_reserved[1]


@dataclass(frozen=True, slots=True, kw_only=True)
class Violation:
    """One thing that is refused.

    Attributes:
        policy: name of the SandboxPolicy that refuses it; empty where it is Bulkhead itself.
        field: path of what is refused in the AgentDeployment, as in `spec.network.egress[0].to.cidr`.
        message: what was refused, by which policy and which of its fields, and what would be accepted. A clause
            without an end stop. It names the policy as `SandboxPolicy NAME`.
    """

    policy: str
    field: str
    message: str

    def __str__(self) -> str:
        """Gives the field and the message."""
        return f"{self.field}: {self.message}"


def text(violations: Iterable[Violation]) -> str:
    """Returns violations as the message of a condition."""
    return "; ".join(map(str, violations))


def about(message: str, policy: str) -> str:
    """Returns those violations in a message made by `text` that name a policy; empty if there are none."""
    named = re.compile(rf"\bSandboxPolicy {re.escape(policy)}(?![a-z0-9.-]*[a-z0-9])")
    return "; ".join(one for one in _NEXT.split(message) if named.search(one))


def listed(items: Iterable[object], *, last: str = "and", most: int = SHOWN) -> str:
    """Returns items as `a, b and c`, or as `a, b and 7 more` when they are many.

    Args:
        items: what to list.
        last: the word before the last of them.
        most: how many are shown.
    """
    found = iter(items)
    shown = [str(one) for one in islice(found, most)]
    more = sum(1 for _ in found)
    if more:
        return f"{', '.join(shown)} and {more} more"
    return f" {last} ".join(filter(None, (", ".join(shown[:-1]), *shown[-1:])))
