"""Kill switches as the end-to-end tests make them and look at them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tests.apiserver.rest import Rest
from tests.operator_process import eventually

Object = dict[str, Any]
SWITCHES = "/apis/bulkhead.dev/v1alpha1/killswitches"


class Panel:
    """The kill switches of a cluster; `clear` takes away those made here."""

    def __init__(self, rest: Rest) -> None:
        self.rest = rest
        self._made: list[str] = []

    def throw(self, name: str, *, reason: str = "a drill", grace: int | None = None, **selector: Any) -> Object:
        """Creates a switch; fails the test when it is refused."""
        spec: Object = {"selector": selector, "reason": reason}
        if grace is not None:
            spec["graceSeconds"] = grace
        body = {"apiVersion": "bulkhead.dev/v1alpha1", "kind": "KillSwitch", "metadata": {"name": name}, "spec": spec}
        answer = self.rest.post(SWITCHES, body)
        assert answer.ok, answer.message
        self._made.append(name)
        return answer.body

    def remove(self, name: str) -> None:
        answer = self.rest.delete(f"{SWITCHES}/{name}")
        assert answer.ok, answer.message
        self._made.remove(name)

    def clear(self) -> None:
        for name in list(self._made):
            self.remove(name)

    def status(self, name: str) -> Object:
        status: Object = self.rest.get(f"{SWITCHES}/{name}").body.get("status") or {}
        return status

    def condition(self, name: str, kind: str) -> Object:
        return next((one for one in self.status(name).get("conditions") or () if one["type"] == kind), {})

    def until(self, name: str, kind: str, status: str = "True", *, within: float = 60.0) -> Object:
        """Waits until a condition has a status; gives the whole status of the switch."""
        eventually(
            lambda: self.condition(name, kind).get("status") == status,
            lambda: f"{kind} of {name} is {status}, but it says {self.status(name)}",
            within=within,
        )
        return self.status(name)


def panel(rest: Rest) -> Iterator[Panel]:
    """A panel whose switches are gone after the test."""
    made = Panel(rest)
    try:
        yield made
    finally:
        made.clear()
