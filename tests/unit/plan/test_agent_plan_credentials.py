"""What credentials and rights on the API server mean for the plan of an agent and for its status."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest

from bulkhead.api import conditions
from bulkhead.api.agentdeployment import parse_spec
from bulkhead.plan import status
from bulkhead.plan.agent import CREDENTIALS, Plan, plan
from bulkhead.plan.books import Attempt, Books, asked
from bulkhead.plan.observed import Cut, Observed, Outcome
from bulkhead.plan.surroundings import Surroundings
from tests.unit.plan import samples
from tests.unit.plan.samples import NOW, agent, lease, observed, pod, role, stateful_set

WAREHOUSE = {"name": "warehouse", "postgres": {"issuer": "postgres", "role": "reader"}}
RULES = [{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get"]}]
IDENTITY = {"kubernetesApi": {"rules": RULES}}


def world(**known: Any) -> Surroundings:
    """A policy that accepts all that is asked for here, and the issuer."""
    allowing = samples.sandbox_policy(
        identity={"kubernetesApi": {"rules": RULES}},
        credentials={"postgres": [{"issuer": "postgres", "roles": ["reader"]}]},
    )
    return samples.surroundings(allowing, issuers={"postgres": "postgres"}, **known)


def seen(of: dict[str, Any], **known: Any) -> Observed:
    return observed(of, **{"surroundings": world(), **known})


def kinds(made: Plan) -> list[str]:
    return [one.object["kind"] for one in made.desired]


def made_status(known: Observed, *, now: datetime = NOW, cut: Cut | None = None) -> dict[str, Any]:
    return status.status(known, plan(known, now=now), Outcome(), cut=cut, now=now)


def test_role_and_binding_are_written_before_anything_that_runs() -> None:
    made = plan(seen(agent(identity=IDENTITY)), now=NOW)
    assert [one.message for one in made.reasons] == []
    assert kinds(made)[-4:] == ["ServiceAccount", "Role", "RoleBinding", "StatefulSet"]


def test_an_agent_without_rules_gets_neither() -> None:
    assert not {"Role", "RoleBinding"} & set(kinds(plan(seen(agent()), now=NOW)))


def test_rights_that_nobody_asks_for_any_more_go_binding_first_while_the_agent_runs_on() -> None:
    of = agent()
    known = seen(of, stateful_set=stateful_set(of), role=role(of), role_binding=role(of, kind="RoleBinding"))
    made = plan(known, now=NOW)
    assert not made.suspends
    assert [(phase.step, one.kind) for phase in made.phases for one in phase.removals] == [
        (CREDENTIALS, "RoleBinding"),
        (CREDENTIALS, "Role"),
    ]


@pytest.mark.parametrize(
    ("books", "built"),
    [
        pytest.param(Books(), False, id="nothing issued yet"),
        pytest.param(Books(leases=(lease(agent()),)), True, id="issued"),
        pytest.param(Books(leases=(lease(agent(), credential="other"),)), False, id="another one issued"),
    ],
)
def test_nothing_runs_before_every_credential_is_there(books: Books, *, built: bool) -> None:
    made = plan(seen(agent(credentials=[WAREHOUSE]), books=books), now=NOW)
    assert not made.suspends
    assert ("StatefulSet" in kinds(made)) is built
    assert bool(made.leases.prepare) is not built


def test_who_waits_for_credentials_says_so_and_why() -> None:
    of = agent(credentials=[WAREHOUSE])
    wish = asked_of(of)
    failed = Attempt(failures=2, next_at=NOW + timedelta(seconds=4), message="issuer postgres: no answer", asked=wish)
    known = seen(of, books=Books(attempts={("issue", "warehouse"): failed}))

    made = made_status(known)

    ready = conditions.find(made["conditions"], "Ready")
    assert ready is not None
    assert ready["reason"] == "WaitingForCredentials"
    assert "no answer" in ready["message"]
    assert made["state"] == "Starting"
    assert [one["name"] for one in made["credentials"]] == ["warehouse"]
    assert plan(known, now=NOW).next_look == timedelta(seconds=4), "what failed is tried again, and not before"


def asked_of(of: dict[str, Any]) -> Any:
    return asked(parse_spec(of["spec"], name="scout").credentials)[0]


def test_a_credential_added_to_a_running_agent_changes_nothing_of_it_until_it_is_issued() -> None:
    of = agent(credentials=[WAREHOUSE])
    made = plan(seen(of, stateful_set=stateful_set(agent()), pods=(pod(ready=True),)), now=NOW)
    assert not made.suspends
    assert "StatefulSet" not in kinds(made)


def test_an_expired_credential_stops_only_what_runs() -> None:
    of = agent(credentials=[WAREHOUSE])
    books = Books(leases=(lease(of, expires_in=-1),))
    assert [one.type for one in plan(seen(of, books=books, stateful_set=stateful_set(of)), now=NOW).reasons] == [
        "CredentialsExpired"
    ]
    assert plan(seen(of, books=books), now=NOW).reasons == ()


@pytest.mark.parametrize(("stopped", "held"), [(None, True), (samples.seconds_ago(1), False)])
def test_a_stop_for_an_expired_credential_is_finished_before_the_agent_starts_again(
    stopped: str | None, *, held: bool
) -> None:
    record = {
        "reasons": [{"type": "CredentialsExpired", "message": "the lease of warehouse ended"}],
        "since": samples.seconds_ago(9),
        **({"stoppedAt": stopped} if stopped else {}),
    }
    of = agent(credentials=[WAREHOUSE], status={"suspension": record})
    made = plan(seen(of, books=Books(leases=(lease(of),))), now=NOW)
    assert made.suspends is held


def test_a_suspension_names_what_is_not_revoked_yet_and_looks_at_it_again() -> None:
    of = agent(suspend=True, credentials=[WAREHOUSE])
    failed = Attempt(failures=3, next_at=NOW + timedelta(seconds=7), message="issuer postgres: no answer")
    known = seen(
        of,
        books=Books(leases=(lease(of),), attempts={("revoke", "abcdefghijkl"): failed}),
        pods_are_live=True,
    )
    made = made_status(known, cut=Cut(since=NOW, network=NOW, processes=NOW, stopped=NOW))
    assert len(made["suspension"]["unrevoked"]) == 1
    assert "no answer" in made["suspension"]["unrevoked"][0]
    assert "credentialsRevokedAt" not in made["suspension"]
    assert plan(known, now=NOW).next_look is not None


def test_an_agent_without_credentials_has_no_condition_about_them() -> None:
    assert conditions.find(made_status(seen(agent()))["conditions"], "CredentialsReady") is None
