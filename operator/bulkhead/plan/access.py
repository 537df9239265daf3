"""What an agent may be let do on the Kubernetes API, by the rules of its Role.

Two questions are answered here, both as Kubernetes' own RBAC reads a rule (`rbac.authorization.k8s.io/v1`,
`plugin/pkg/auth/authorizer/rbac` and `ruleCovers` in `component-helpers/auth/rbac/validation`): whether a rule could
match anything that no agent ever gets (the floor, `plan.accessfloor`), and whether all that it matches lies inside of
what a policy offers.

A rule is a product: every one of its groups with every resource, verb and name. `*` stands for every group, resource or
verb, `*/scale` for a subresource of every resource, and no names for every name. Nothing else is a wildcard.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache, reduce
from itertools import product
from operator import and_
from typing import Final

from bulkhead.api.identity import PolicyRule
from bulkhead.plan.accessfloor import FLOOR, VERBS, Closed
from bulkhead.plan.refusals import listed

ALL: Final = "*"
MISSING_SHOWN: Final = 16
"""Atoms outside of a ceiling that are told at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One rule of a Role."""

    groups: tuple[str, ...]
    resources: tuple[str, ...]
    verbs: tuple[str, ...]
    names: tuple[str, ...] = ()
    """Names of objects; empty for all of them."""

    @classmethod
    def of(cls, asked: PolicyRule) -> Rule:
        """Takes a rule over from the API's model, which has refused every spelling that names nothing."""
        return cls(
            groups=tuple(asked.api_groups),
            resources=tuple(asked.resources),
            verbs=tuple(asked.verbs),
            names=tuple(asked.resource_names),
        )

    def plain(self) -> dict[str, list[str]]:
        """Returns the rule as a Role holds it."""
        return {
            "apiGroups": list(self.groups),
            "resources": list(self.resources),
            **({"resourceNames": list(self.names)} if self.names else {}),
            "verbs": list(self.verbs),
        }


@dataclass(frozen=True, slots=True)
class Atom:
    """The smallest part of a rule: one group, one resource, one verb and one name."""

    group: str
    resource: str
    verb: str
    name: str = ""
    """Name of the object; empty for every one."""

    def __str__(self) -> str:
        """Gives the atom in words, as in `get pods/log of the core group, named web`."""
        group = {"": "of the core group", ALL: "of every group"}.get(self.group, f"of {self.group}")
        return f"{self.verb} {self.resource} {group}{f', named {self.name}' if self.name else ''}"


@dataclass(frozen=True, slots=True)
class Refused:
    """One part of a rule that no agent gets, whatever a policy says."""

    field: str
    """Path of what is refused inside of the rules, as in `[0].verbs`."""
    why: str
    """What was refused, why, and what would be accepted; a clause without an end stop."""


def refused(rules: Sequence[Rule]) -> tuple[Refused, ...]:
    """Returns what of an agent's rules the floor refuses, rule by rule; nothing where all of it may be asked for.

    A rule is refused if anything that it could match is on the floor: a wildcard counts as all that it stands for.

    Args:
        rules: of the agent.
    """
    return tuple(one for index, rule in enumerate(rules) for one in _refused(rule, f"[{index}]"))


def covered(asked: Sequence[Rule], ceiling: Sequence[Rule]) -> tuple[Atom, ...]:
    """Returns what of the asked rules lies outside of the ceiling; nothing if all of it is inside.

    As in Kubernetes, each atom must lie inside of one rule of the ceiling. A wildcard is inside of the same wildcard
    only, as nobody knows all that it stands for; a rule without names is inside of a rule without names only. Of what
    is missing the first `MISSING_SHOWN` atoms are returned.

    Args:
        asked: the rules that are asked for.
        ceiling: the rules that are offered.
    """
    found: list[Atom] = []
    for rule in asked:
        found += _missing(rule, tuple(ceiling))
        if len(found) >= MISSING_SHOWN:
            break
    return tuple(found[:MISSING_SHOWN])


def _refused(rule: Rule, where: str) -> Iterator[Refused]:
    verbs = [verb for verb in rule.verbs if verb not in VERBS]
    if verbs:
        yield Refused(
            f"{where}.verbs",
            f"{listed(map(_quoted, verbs))} may never be asked for: {_beyond(verbs)}; accepted are {listed(VERBS)}",
        )
    if ALL in rule.groups:
        yield Refused(
            f"{where}.apiGroups",
            "'*' may never be asked for: it stands for rbac.authorization.k8s.io and bulkhead.dev too; accepted are "
            "groups by name, '' for the core group",
        )
        return
    for closed in FLOOR:
        if hit := _hit(rule, closed):
            yield Refused(
                f"{where}.resources", f"{hit} may never be asked for: {closed.why}; accepted is {closed.accepted}"
            )


def _beyond(verbs: Sequence[str]) -> str:
    if ALL in verbs:
        return "it stands for escalate, bind and impersonate too"
    return "a verb beyond reading and writing is a right of its own kind"


def _hit(rule: Rule, closed: Closed) -> str:
    """Says which of a part of the floor a rule could match, in words; empty if none of it."""
    groups = [group for group in rule.groups if group in closed.groups]
    verbs = [_quoted(verb) if verb == ALL else verb for verb in rule.verbs if verb in closed.verbs or verb == ALL]
    resources = [one for one in rule.resources if _could_match(one, closed.resources)]
    if not (groups and verbs and resources):
        return ""
    return f"{listed(verbs)} of {listed(_stands_for(one, closed.resources) for one in resources)} in " + listed(
        group or "the core group" for group in groups
    )


def _could_match(resource: str, closed: tuple[str, ...]) -> bool:
    if closed == (ALL,) or resource == ALL:
        return True
    if resource.startswith("*/"):
        return any(one.endswith(resource[1:]) for one in closed)
    return resource in closed


def _stands_for(resource: str, closed: tuple[str, ...]) -> str:
    """Names a resource, and for a wildcard what of the floor is in it."""
    if not resource.startswith(ALL):
        return resource
    within = [] if closed == (ALL,) else [one for one in closed if resource == ALL or one.endswith(resource[1:])]
    return f"{_quoted(resource)} ({listed(within, most=3)})" if within else _quoted(resource)


def _quoted(text: str) -> str:
    return f"'{text}'"


@lru_cache(maxsize=1024)
def _missing(rule: Rule, ceiling: tuple[Rule, ...]) -> tuple[Atom, ...]:
    """Returns the first atoms of a rule that no rule of the ceiling has.

    Each part of the rule gets the set of those rules of the ceiling, as bits, that have that part; an atom is covered
    if the sets of its four parts have a rule in common. A rule may have 16 x 32 x 16 x 32 atoms, against 32 rules.
    """
    names = rule.names or ("",)
    by_group = {one: _bits(ALL in rich.groups or one in rich.groups for rich in ceiling) for one in rule.groups}
    by_resource = {one: _bits(_resource_in(one, rich.resources) for rich in ceiling) for one in rule.resources}
    by_verb = {one: _bits(ALL in rich.verbs or one in rich.verbs for rich in ceiling) for one in rule.verbs}
    by_name = {one: _bits(not rich.names or one in rich.names for rich in ceiling) for one in names}
    every_name = _common(by_name.values())
    found: list[Atom] = []
    for group, resource, verb in product(by_group, by_resource, by_verb):
        holders = by_group[group] & by_resource[resource] & by_verb[verb]
        if holders & every_name:
            continue
        found += [Atom(group, resource, verb, name) for name in by_name if not holders & by_name[name]]
        if len(found) >= MISSING_SHOWN:
            break
    return tuple(found[:MISSING_SHOWN])


def _resource_in(resource: str, offered: tuple[str, ...]) -> bool:
    if ALL in offered or resource in offered:
        return True
    _, slash, subresource = resource.partition("/")
    return bool(slash) and f"*/{subresource}" in offered


def _bits(flags: Iterable[bool]) -> int:
    return sum(1 << index for index, flag in enumerate(flags) if flag)


def _common(sets: Iterable[int]) -> int:
    return reduce(and_, sets)
