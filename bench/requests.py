"""What the operator asks of the API server."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from bench.audit import Request
from bench.site import by_operator


def count(requests: Iterable[Request], *, agents: int) -> str:
    """Says how many requests of each kind the operator sent for one agent on average, the most frequent first.

    Leases are left out: they come by time.
    """
    counted = Counter(
        f"{one.verb} {one.resource}" + ("" if one.done else f" ({one.code})")
        for one in requests
        if by_operator(one) and one.resource != "leases" and one.verb != "watch"
    )
    return ", ".join(f"{number / agents:.2f} {what}" for what, number in counted.most_common() if number >= agents / 50)
