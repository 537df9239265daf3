"""Which agents a KillSwitch stops.

A switch is a fact about many agents at once; what it does to each of them is an ordinary suspension (`suspension`).
Everything of an agent is read from the raw object: a spec that cannot be parsed does not hide an agent from a switch.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from bulkhead.api import meta
from bulkhead.api.killswitch import InvalidSpec, KillSwitchSelector, parse_kill_switch
from bulkhead.plan import selectors
from bulkhead.plan.selectors import EVERYTHING, Selector

Object = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Which agents are meant: those that meet all of what is given. The values of one field are alternatives.

    Attributes:
        tenants: accepted values of `spec.tenant`; None where the switch does not ask.
        workflows: accepted values of `spec.workflow`, which is the agent's name where it is not given.
        namespaces: names of namespaces.
        labels: on the AgentDeployment.
    """

    tenants: frozenset[str] | None = None
    workflows: frozenset[str] | None = None
    namespaces: frozenset[str] | None = None
    labels: Selector = EVERYTHING

    def matches(self, agent: Object) -> bool:
        """Says whether an AgentDeployment, as the API server sends it, is meant."""
        data = agent["metadata"]
        return (
            (self.namespaces is None or data["namespace"] in self.namespaces)
            and (self.tenants is None or tenant_of(agent) in self.tenants)
            and (self.workflows is None or workflow_of(agent) in self.workflows)
            and self.labels.matches(meta.labels_of(agent))
        )

    def may_mean(self, pod: Object) -> bool:
        """Says whether a pod may be of an agent that was meant, where the agent is gone: nobody knows its labels."""
        labels = meta.labels_of(pod)
        return (
            (self.namespaces is None or pod["metadata"]["namespace"] in self.namespaces)
            and (self.tenants is None or labels.get(meta.TENANT_LABEL) in self.tenants)
            and (self.workflows is None or labels.get(meta.WORKFLOW_LABEL) in self.workflows)
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Switch:
    """One KillSwitch, read.

    Attributes:
        name: of the object.
        uid: of the object.
        reason: why, in the words of who made it.
        grace_seconds: the most that a stop by this switch allows processes; None leaves it to each agent.
        selection: whom it stops; None where the spec could not be understood, and then it stops nobody.
        problems: why it could not, a sentence each.
    """

    name: str
    uid: str
    reason: str
    grace_seconds: int | None = None
    selection: Selection | None = None
    problems: tuple[str, ...] = ()

    def matches(self, agent: Object) -> bool:
        """Says whether the switch stops this agent."""
        return self.selection is not None and self.selection.matches(agent)


def read(obj: Object) -> Switch:
    """Reads a KillSwitch as the API server sends it; never raises.

    One whose spec the API server would refuse today selects nobody: what it was meant to select cannot be told, and
    everybody would be a guess. It says so in its status.
    """
    data = obj["metadata"]
    try:
        spec = parse_kill_switch(obj.get("spec"), name=data["name"])
    except InvalidSpec as error:
        return Switch(name=data["name"], uid=data["uid"], reason="", problems=error.problems)
    return Switch(
        name=data["name"],
        uid=data["uid"],
        reason=spec.reason,
        grace_seconds=spec.grace_seconds,
        selection=_selection(spec.selector),
    )


def _selection(selector: KillSwitchSelector) -> Selection:
    return Selection(
        tenants=_given(selector.tenants),
        workflows=_given(selector.workflows),
        namespaces=_given(selector.namespaces),
        labels=EVERYTHING if selector.labels is None else selectors.read(selector.labels.plain()),
    )


def _given(values: list[str] | None) -> frozenset[str] | None:
    return None if values is None else frozenset(values)


def matching(switches: Iterable[Switch], agent: Object) -> tuple[Switch, ...]:
    """Returns the switches that stop an agent, by name."""
    return tuple(sorted((one for one in switches if one.matches(agent)), key=lambda one: one.name))


def grace_seconds(own: int, switches: Iterable[Switch]) -> int:
    """Returns the seconds that a stop allows an agent's processes: the least of its own and of what switches say."""
    return min([own, *(one.grace_seconds for one in switches if one.grace_seconds is not None)])


def tenant_of(agent: Object) -> str | None:
    """Returns an agent's tenant; None where it has none, or something that is no name."""
    return _text(agent, "tenant")


def workflow_of(agent: Object) -> str:
    """Returns an agent's workflow: its name, where the spec does not say."""
    return _text(agent, "workflow") or str(agent["metadata"]["name"])


def _text(agent: Object, field: str) -> str | None:
    spec = agent.get("spec")
    value = spec.get(field) if isinstance(spec, dict) else None
    return value if isinstance(value, str) and value else None
