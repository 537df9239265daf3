"""The spellings of rules, judged by the API server's own authorizer.

For each spelling the agent's Role and RoleBinding are written as the operator writes them, and the rules on offer as a
Role of somebody else. Then the authorizer is asked what each of the two may do. It shares nothing with our reading.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import pytest

from bulkhead.api.agentdeployment import AgentDeploymentSpec, parse_spec
from bulkhead.plan import identity, identityceilings, policy
from bulkhead.plan.refusals import Violation
from tests import specs
from tests.access_spellings import CLOSED, DANGEROUS, INSIDE, MEANINGLESS, OVER, Request, Rule
from tests.apiserver.rest import Rest
from tests.operator_process import eventually

Object = dict[str, Any]

RBAC = "/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace}/{plural}"
REVIEWS = "/apis/authorization.k8s.io/v1/subjectaccessreviews"
MARKER = Request.of("get toys.example markers")


@dataclass(frozen=True)
class Case:
    """One spelling and the two who have its Roles."""

    agent: Object
    asked: tuple[Rule, ...]
    offered: tuple[Rule, ...]

    @property
    def spec(self) -> AgentDeploymentSpec:
        return parse_spec(self.agent["spec"], name=self.agent["metadata"]["name"])

    @property
    def name(self) -> str:
        return str(self.agent["metadata"]["name"])

    @property
    def by_agent(self) -> Object:
        """The agent's ServiceAccount as the subject of a review, with the groups that its tokens have."""
        namespace = self.agent["metadata"]["namespace"]
        groups = ["system:serviceaccounts", f"system:serviceaccounts:{namespace}", "system:authenticated"]
        return {"user": f"system:serviceaccount:{namespace}:agent-{self.name}", "groups": groups}

    @property
    def by_offer(self) -> Object:
        return {"user": f"offer-{self.name}", "groups": ["system:authenticated"]}

    def violations(self) -> list[Violation]:
        """What the plan says, with a policy that offers the rules on offer."""
        offer = {"identity": {"kubernetesApi": {"rules": list(self.offered)}}}
        namespace = {
            "metadata": {"name": self.agent["metadata"]["namespace"], "labels": {"bulkhead.dev/sandbox": "true"}}
        }
        parsed = policy.parse({"metadata": {"name": "offer", "uid": "u", "generation": 1}, "spec": offer})
        assert not parsed.problems
        bounds = policy.bounds([parsed], namespace=namespace, namespaces=[namespace])
        return list(identityceilings.identity(self.spec, bounds, api_audiences=()))


class Authorizer:
    """The API server's authorizer, asked about one namespace."""

    def __init__(self, rest: Rest, namespace: str) -> None:
        self._rest = rest
        self.namespace = namespace

    def allows(self, who: Object, request: Request) -> bool:
        review = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SubjectAccessReview",
            "spec": {**who, "resourceAttributes": request.attributes(self.namespace)},
        }
        answer = self._rest.post(REVIEWS, review)
        assert answer.ok, answer.message
        return bool(answer.body["status"]["allowed"])


@pytest.fixture(scope="module")
def namespace(rest: Rest) -> Iterator[str]:
    made = rest.post(
        "/api/v1/namespaces", {"apiVersion": "v1", "kind": "Namespace", "metadata": {"generateName": "spellings-"}}
    )
    assert made.ok, made.message
    name = str(made.body["metadata"]["name"])
    yield name
    rest.delete(f"/api/v1/namespaces/{name}")


@pytest.fixture(scope="module")
def authorizer(rest: Rest, namespace: str) -> Authorizer:
    return Authorizer(rest, namespace)


@pytest.fixture(scope="module")
def cases(rest: Rest, namespace: str, authorizer: Authorizer) -> dict[str, Case]:
    """Every spelling, with its Roles in force."""
    found: dict[str, Case] = {}
    given = [
        *((name, one.asked, one.offered) for name, one in INSIDE.items()),
        *((name, one.asked, one.offered) for name, one in OVER.items()),
        # Even where all of it is on offer.
        *((name, one.asked, one.asked) for name, one in CLOSED.items()),
    ]
    for number, (name, asked, offered) in enumerate(given):
        agent = {
            "apiVersion": "bulkhead.dev/v1alpha1",
            "kind": "AgentDeployment",
            "metadata": {"name": f"case-{number}", "namespace": namespace, "uid": f"uid-{number}"},
            "spec": specs.minimal(identity={"kubernetesApi": {"rules": list(asked)}}),
        }
        found[name] = Case(agent, asked, offered)
    for case in found.values():
        for built in (identity.role(case.agent, case.spec), identity.role_binding(case.agent, case.spec)):
            assert built is not None
            create(rest, {**built, "metadata": {**built["metadata"], "ownerReferences": []}})
        grant(rest, namespace, f"offer-{case.name}", case.offered)
    in_force(rest, authorizer)
    return found


def create(rest: Rest, obj: Object) -> None:
    plural = {"Role": "roles", "RoleBinding": "rolebindings"}[obj["kind"]]
    answer = rest.post(RBAC.format(namespace=obj["metadata"]["namespace"], plural=plural), obj)
    assert answer.ok, answer.message


def grant(rest: Rest, namespace: str, user: str, rules: Sequence[Rule]) -> None:
    """Gives a user a Role of its own name with these rules."""
    head = {"apiVersion": "rbac.authorization.k8s.io/v1", "metadata": {"name": user, "namespace": namespace}}
    create(rest, {**head, "kind": "Role", "rules": list(rules)})
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": user}
    subject = {"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user}
    create(rest, {**head, "kind": "RoleBinding", "roleRef": role, "subjects": [subject]})


def in_force(rest: Rest, authorizer: Authorizer) -> None:
    """Waits until the authorizer knows a Role and a RoleBinding that are written now; it learns of them in order."""
    user = f"marker-{len(rest.get(RBAC.format(namespace=authorizer.namespace, plural='roles')).body['items'])}"
    marker = {"apiGroups": [MARKER.group], "resources": [MARKER.resource], "verbs": [MARKER.verb]}
    grant(rest, authorizer.namespace, user, [marker])
    eventually(lambda: authorizer.allows({"user": user}, MARKER), "the authorizer knows the newest Role")


def requests_of(rules: Sequence[Rule]) -> list[Request]:
    """Requests that rules could be about: their own words, with each wildcard as words that nobody named."""
    found = []
    for rule in rules:
        groups = ["nobody.example" if one == "*" else one for one in rule["apiGroups"]]
        verbs = ["frob" if one == "*" else one for one in rule["verbs"][:4]]
        names = [*rule.get("resourceNames", ["nobody", ""])[:4], "nobody"]
        for group, resource, verb, name in product(groups, rule["resources"], verbs, dict.fromkeys(names)):
            plain, _, subresource = resource.partition("/")
            found.append(Request(verb, group, "gizmos" if plain == "*" else plain, subresource, name))
    return list(dict.fromkeys(found))


@pytest.mark.parametrize("name", INSIDE)
def test_an_accepted_role_allows_nothing_that_is_not_on_offer_and_nothing_of_the_floor(
    name: str, cases: dict[str, Case], authorizer: Authorizer
) -> None:
    case = cases[name]
    assert case.violations() == []
    allowed = [one for one in requests_of(case.asked) if authorizer.allows(case.by_agent, one)]
    assert allowed
    assert [one for one in allowed if not authorizer.allows(case.by_offer, one)] == []
    assert [one for one in DANGEROUS if authorizer.allows(case.by_agent, Request.of(one))] == []


@pytest.mark.parametrize("name", OVER)
def test_a_role_beyond_the_offer_would_allow_what_is_not_on_offer(
    name: str, cases: dict[str, Case], authorizer: Authorizer
) -> None:
    case, request = cases[name], Request.of(OVER[name].request)
    assert [one.policy for one in case.violations()] == ["offer"]
    assert authorizer.allows(case.by_agent, request)
    assert not authorizer.allows(case.by_offer, request)


@pytest.mark.parametrize("name", CLOSED)
def test_a_role_that_reaches_the_floor_is_refused_though_it_is_on_offer(
    name: str, cases: dict[str, Case], authorizer: Authorizer
) -> None:
    case, request = cases[name], Request.of(CLOSED[name].request)
    found = case.violations()
    assert found
    assert {one.policy for one in found} == {""}
    assert authorizer.allows(case.by_agent, request)


def test_what_only_seems_to_mean_something_allows_nothing(rest: Rest, namespace: str, authorizer: Authorizer) -> None:
    for number, (rule, _) in enumerate(MEANINGLESS.values()):
        grant(rest, namespace, f"meaningless-{number}", [rule])
    in_force(rest, authorizer)
    allowed = [
        name
        for number, (name, (_, request)) in enumerate(MEANINGLESS.items())
        if authorizer.allows({"user": f"meaningless-{number}"}, Request.of(request))
    ]
    assert allowed == []
