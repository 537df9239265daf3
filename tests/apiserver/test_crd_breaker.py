"""Circuit breakers and commands before SIGTERM as the API server checks and stores them."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bulkhead.api.agentdeployment import parse_spec
from bulkhead.api.sandboxpolicy import InvalidSpec, parse_policy
from bulkhead.plan.circuit import Circuit, Counted, Occurrence, State, Trip, TripType, write
from devcluster.api import RunningCluster
from tests import breaker_policy_specs, breaker_specs, specs
from tests.apiserver.dryrun import accepts, agent, dry_run
from tests.apiserver.rest import AGENTS, APPLY, Rest
from tests.policy_specs import NEAR_MISSES, mutated

POLICIES = "/apis/bulkhead.dev/v1alpha1/sandboxpolicies"
TRIES = settings(max_examples=80)


def policy(spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "bulkhead.dev/v1alpha1",
        "kind": "SandboxPolicy",
        "metadata": {"name": "policy"},
        "spec": spec,
    }


@pytest.mark.parametrize("case", breaker_specs.REFUSED.values(), ids=breaker_specs.REFUSED.keys())
def test_a_bad_breaker_is_refused_with_what_would_be_accepted(rest: Rest, case: specs.Refused) -> None:
    answer = dry_run(rest, case.spec)
    assert answer.status == 422, answer.message
    assert case.path in answer.message
    assert case.says is None or case.says in answer.message


@pytest.mark.parametrize("spec", breaker_specs.ACCEPTED.values(), ids=breaker_specs.ACCEPTED.keys())
def test_a_good_breaker_is_accepted_without_a_warning(rest: Rest, spec: specs.Spec) -> None:
    answer = dry_run(rest, spec)
    assert answer.ok, answer.message
    assert answer.warnings == ()


@pytest.mark.parametrize("spec, path", breaker_specs.UNKNOWN_FIELDS.values(), ids=breaker_specs.UNKNOWN_FIELDS.keys())
def test_an_unknown_field_of_a_breaker_is_refused_by_name(rest: Rest, spec: specs.Spec, path: str) -> None:
    answer = dry_run(rest, spec)
    assert answer.status == 400
    assert f'unknown field "{path}"' in answer.message


def test_nothing_is_written_into_a_breaker_that_leaves_all_to_the_policies(rest: Rest) -> None:
    assert "circuitBreaker" not in dry_run(rest, specs.minimal()).body["spec"]
    spec = breaker_specs.breaker(restarts={"count": 3}, recovery={})
    assert dry_run(rest, spec).body["spec"]["circuitBreaker"] == {
        "restarts": {"count": 3, "windowSeconds": 600},
        "recovery": {},
    }


@TRIES
@given(breaker_specs.specs_with_breakers())
def test_the_defaults_of_the_models_are_those_of_the_crd(rest: Rest, spec: specs.Spec) -> None:
    stored = dry_run(rest, spec)
    assert stored.ok, stored.message
    assert parse_spec(stored.body["spec"], name="agent") == parse_spec(spec, name="agent")


@TRIES
@given(mutated(breaker_specs.specs_with_breakers(), NEAR_MISSES))
def test_the_api_server_and_the_parser_refuse_the_same(rest: Rest, spec: specs.Spec) -> None:
    answer = dry_run(rest, spec)
    assert answer.ok == accepts(answer.body["spec"] if answer.ok else spec), (answer.message, json.dumps(spec))


@TRIES
@given(
    st.one_of(
        st.from_regex(r"\A20[0-9]{2}-[0-9]{2}-[0-9]{2}T[0-2][0-9]:00:00(Z|[+-][0-2][0-9]:00)\Z").filter(str.isascii),
        st.text("0123456789-+:.TZtz ", max_size=24),
    )
)
def test_the_api_server_and_the_parser_take_the_same_for_a_time(rest: Rest, text: str) -> None:
    answer = dry_run(rest, breaker_specs.reset(text))
    assert answer.ok is accepts(breaker_specs.reset(text)), answer.message


@TRIES
@given(st.text("0123456789.-+eENaI ", max_size=20))
def test_the_api_server_and_the_parser_take_the_same_for_a_decimal(rest: Rest, text: str) -> None:
    for spec in (breaker_specs.tightened(threshold=text), breaker_specs.tightened(timesNormal=text)):
        answer = dry_run(rest, spec)
        assert answer.ok is accepts(spec), answer.message


@TRIES
@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=8))
def test_the_api_server_and_the_parser_take_the_same_for_queries_and_alerts(rest: Rest, text: str) -> None:
    # One that is all right beside it, so that both rules are asked for.
    for spec in (breaker_policy_specs.query(query=text, above="1"), breaker_policy_specs.alerts("A", text)):
        answer = rest.post(POLICIES, policy(spec), dryRun="All", fieldValidation="Strict")
        try:
            parse_policy(spec, name="policy")
            refused = ""
        except InvalidSpec as error:
            refused = str(error)
        assert answer.ok is (not refused), (answer.message, refused)


def test_the_largest_breaker_can_be_stored_and_reset(rest: Rest, sandbox: str) -> None:
    # The API server counts the cost of rules again when they run, and on a change it compares old and new.
    path = AGENTS.format(namespace=sandbox)
    created = rest.post(path, agent(breaker_specs.ACCEPTED["the most of each bound of a circuit breaker"]))
    assert created.ok, created.message
    change = {"spec": {"circuitBreaker": {"resetAt": "2026-01-31T12:00:00Z"}}}
    assert rest.patch(f"{path}/agent", change).ok


def test_a_reset_by_patch_leaves_the_rest_of_the_breaker(rest: Rest, sandbox: str) -> None:
    path = AGENTS.format(namespace=sandbox)
    assert rest.post(path, agent(breaker_specs.breaker(restarts={"count": 2}))).ok
    assert rest.patch(f"{path}/agent", {"spec": {"circuitBreaker": {"resetAt": "2026-01-31T12:00:00Z"}}}).ok
    assert rest.get(f"{path}/agent").body["spec"]["circuitBreaker"] == {
        "restarts": {"count": 2, "windowSeconds": 600},
        "resetAt": "2026-01-31T12:00:00Z",
    }


def test_two_managers_own_different_queries_of_the_same_agent(rest: Rest, sandbox: str) -> None:
    path = f"{AGENTS.format(namespace=sandbox)}/agent"
    for manager, name in (("one", "a"), ("two", "b")):
        wanted = agent(breaker_specs.breaker(queries=[{"name": name, "threshold": "1"}]))
        answer = rest.patch(path, wanted, content_type=APPLY, fieldManager=manager, force="true")
        assert answer.ok, answer.message
    stored = rest.get(path).body["spec"]["circuitBreaker"]["queries"]
    assert [query["name"] for query in stored] == ["a", "b"]


_MOMENT = datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC)
_FULL = Circuit(
    state=State.OPEN,
    since=_MOMENT,
    trips=(Trip(type=TripType.QUERY, name="n" * 300, at=_MOMENT, message="m" * 2000, query="q" * 3000),) * 20,
    attempts=100,
    retry_at=_MOMENT,
    trial_ends_at=_MOMENT,
    reset_at=_MOMENT,
    window=(Occurrence(at=_MOMENT, type=TripType.RESTARTS, pod_uid="u" * 36, container="c" * 63),) * 200,
    seen=tuple(f"{'p' * 63}/{'q' * 60}{number:03}" for number in range(200)),
    blind_since=_MOMENT,
    counted=(Counted(pod_uid="u" * 36, container="c" * 63, oom_at=_MOMENT),) * 200,
)
MEMORIES = {
    "closed": Circuit(since=_MOMENT),
    "a trip with its least": Circuit(
        state=State.OPEN, since=_MOMENT, trips=(Trip(type=TripType.ISOLATION_LOST, at=_MOMENT, message=""),), attempts=1
    ),
    "more than there is room for": _FULL,
}


@pytest.mark.parametrize("circuit", MEMORIES.values(), ids=MEMORIES.keys())
def test_what_the_operator_writes_about_a_breaker_is_stored_as_it_is(
    rest: Rest, sandbox: str, circuit: Circuit
) -> None:
    # It writes again whenever it finds something else than it would write.
    path = f"{AGENTS.format(namespace=sandbox)}/agent"
    assert rest.post(AGENTS.format(namespace=sandbox), agent(specs.minimal())).ok
    written = write(circuit)
    answer = rest.patch(f"{path}/status", {"status": {"circuit": written}}, fieldValidation="Strict")
    assert answer.ok, answer.message
    assert answer.body["status"]["circuit"] == written


@pytest.mark.parametrize(
    "path, words",
    [
        ("agentdeployment.spec.preStop.command", "inside of suspendGraceSeconds"),
        ("agentdeployment.spec.circuitBreaker", "in addition to what the policies say"),
        ("agentdeployment.spec.circuitBreaker.resetAt", "What tripped before it is forgiven"),
        ("agentdeployment.spec.circuitBreaker.queries.timesNormal", "how many times its own normal is too much"),
        ("agentdeployment.status.circuit.state", "HalfOpen lets it run on trial"),
        ("agentdeployment.status.circuit.trips.value", "What was counted or measured"),
        ("agentdeployment.status.lastExits.exitCode", "128 and the number of the signal"),
        ("sandboxpolicy.spec.circuitBreaker.queries.query", "carry the labels namespace and agent"),
        ("sandboxpolicy.spec.circuitBreaker.queries.baseline.times", "How many times its normal is too much"),
        ("sandboxpolicy.spec.circuitBreaker.blind.action", "Unknown in the condition CircuitClosed"),
    ],
)
def test_kubectl_explains_breakers_in_their_own_words(apiserver: RunningCluster, path: str, words: str) -> None:
    assert words in " ".join(apiserver.kubectl("explain", path).split())
