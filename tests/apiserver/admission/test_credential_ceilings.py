"""Credentials that agents ask for, against what SandboxPolicies offer: admission says what the plan says."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.apiserver.admission.cluster import Guarded, Object, Request, refused_by, sandbox_policy
from tests.apiserver.admission.objects import AGENTS, agent
from tests.apiserver.rest import Answer
from tests.operator_process import eventually

OFFERED: Object = {
    "maxTTLSeconds": 1200,
    "vault": [{"issuer": "hashi", "paths": ["database/creds/reader", "aws/creds/*"]}],
    "postgres": [{"issuer": "stock", "roles": ["reader", "writer"]}],
    "secrets": [
        {"namespace": "shared", "name": "mail", "keys": ["user", "password"]},
        {"namespace": "shared", "name": "maps"},
    ],
    "custom": [
        {"issuer": "desk", "parameters": {"queue": ["low", "mid"], "region": ["eu"]}},
        {"issuer": "desk", "parameters": {"queue": ["high"]}},
        {"issuer": "bare"},
    ],
}
# What is refused below is refused for what OFFERED lacks: of several policies that refuse, any may be named.
EVERYTHING: Object = {
    "maxTTLSeconds": 86400,
    "vault": [
        {"issuer": "hashi", "paths": ["database/*", "aws/*", "gcp/*"]},
        {"issuer": "other", "paths": ["a/*", "database/*"]},
    ],
    "postgres": [{"issuer": "stock", "roles": ["reader", "writer", "owner"]}, {"issuer": "other", "roles": ["reader"]}],
    "secrets": [
        *({"namespace": "shared", "name": name} for name in ("mail", "maps", "root")),
        {"namespace": "kube-system", "name": "maps"},
    ],
    "custom": [
        {"issuer": "desk", "parameters": {"queue": ["low", "mid", "high", "urgent"], "region": ["eu"]}},
        {"issuer": "bare", "parameters": {"anything": ["x"]}},
        {"issuer": "stock", "parameters": {"role": ["reader"]}},
    ],
}


def credential(name: str = "one", **source: object) -> Object:
    return {"name": name, **source}


def vault(path: str, issuer: str = "hashi") -> Object:
    return credential(vault={"issuer": issuer, "path": path})


def postgres(role: str, issuer: str = "stock") -> Object:
    return credential(postgres={"issuer": issuer, "role": role})


def secret(name: str, *keys: str, namespace: str = "shared") -> Object:
    return credential(secret={"namespace": namespace, "name": name, "keys": list(keys)})


def custom(issuer: str, **parameters: str) -> Object:
    return credential(custom={"issuer": issuer, "parameters": parameters})


WITHIN = {
    "a path": vault("database/creds/reader"),
    "a path below": vault("aws/creds/team/scout"),
    "a role": postgres("writer"),
    "keys": secret("mail", "user", "password"),
    "one key": secret("mail", "user"),
    "any key": secret("maps", "token"),
    "parameters": custom("desk", queue="mid", region="eu"),
    "one parameter": custom("desk", region="eu"),
    "no parameter": custom("desk"),
    "parameters of another entry": custom("desk", queue="high"),
    "an issuer without parameters": custom("bare"),
    "for as long as may be": credential(ttlSeconds=1200, postgres={"issuer": "stock", "role": "reader"}),
}
OVER: dict[str, tuple[Object, str]] = {
    "another path": (
        vault("database/creds/owner"),
        "(credentials.vault) does not accept one path database/creds/owner of issuer hashi; accepted are",
    ),
    "a path that begins alike": (vault("database/creds/reader2"), "(credentials.vault)"),
    "a path below one that is exact": (vault("database/creds/reader/x"), "(credentials.vault)"),
    "the folder itself": (vault("aws/creds"), "(credentials.vault)"),
    "a folder that begins alike": (vault("aws/creds2/x"), "(credentials.vault)"),
    "a path of another issuer": (vault("database/creds/reader", "other"), "of issuer other; accepted are"),
    "another role": (
        postgres("owner"),
        "(credentials.postgres) does not accept one role owner of issuer stock; accepted are reader, writer of issuer",
    ),
    "a role of another issuer": (postgres("reader", "other"), "(credentials.postgres)"),
    "another Secret": (
        secret("root", "password"),
        "(credentials.secrets) does not accept one keys password of Secret shared/root; accepted are user, password of",
    ),
    "another key": (secret("mail", "user", "admin"), "keys user, admin of Secret shared/mail"),
    "a Secret of that name elsewhere": (secret("maps", "token", namespace="kube-system"), "(credentials.secrets)"),
    "another value": (custom("desk", queue="urgent"), "(credentials.custom) does not accept one of issuer desk"),
    "values of two entries": (custom("desk", queue="high", region="eu"), "; of issuer desk queue: high; "),
    "another parameter": (custom("bare", anything="x"), "(credentials.custom)"),
    "another issuer": (custom("stock", role="reader"), "(credentials.custom)"),
    "for too long": (
        credential(ttlSeconds=1201, postgres={"issuer": "stock", "role": "reader"}),
        "(credentials.maxTTLSeconds) does not accept one 1201 s; accepted are up to 1200 s",
    ),
}


@pytest.fixture(scope="module")
def ceiling(guarded: Guarded) -> Iterator[str]:
    """A sandbox namespace under a policy that offers some, one that offers more, and one for others."""
    selector = {"matchLabels": {"credentials": "some"}}
    policies = (
        sandbox_policy("some", namespaceSelector=selector, credentials=OFFERED),
        sandbox_policy("wide", namespaceSelector=selector, credentials=EVERYTHING),
        sandbox_policy("others", namespaceSelector={"matchLabels": {"credentials": "other"}}),
    )
    with guarded.sandbox(credentials="some") as namespace, guarded.policies(*policies):
        eventually(lambda: write(guarded, namespace, postgres("reader")).ok, "the policies are seen")
        eventually(lambda: not write(guarded, namespace, postgres("owner")).ok, "all of them are")
        yield namespace


def write(guarded: Guarded, namespace: str, *credentials: Object, **spec: Any) -> Answer:
    body = agent(credentials=list(credentials), **spec)
    return guarded.send(guarded.admin, Request("POST", AGENTS, body), namespace)


@pytest.mark.parametrize("given", WITHIN.values(), ids=WITHIN)
def test_what_is_offered_is_accepted(guarded: Guarded, ceiling: str, given: Object) -> None:
    answer = write(guarded, ceiling, given)
    assert answer.ok, answer.message


@pytest.mark.parametrize(("given", "told"), OVER.values(), ids=OVER)
def test_what_is_not_offered_is_refused_by_name_and_a_suspended_agent_may_have_it(
    guarded: Guarded, ceiling: str, given: Object, told: str
) -> None:
    answer = write(guarded, ceiling, {**WITHIN["a role"], "name": "fine"}, given)
    assert refused_by(answer) == "agent-credentials", answer.message
    assert "SandboxPolicy some " in answer.message and told in answer.message, answer.message
    assert write(guarded, ceiling, given, suspend=True).ok


@pytest.mark.parametrize("given", [given for given, _ in OVER.values()], ids=OVER)
def test_a_credential_that_was_there_before_is_not_judged_again(guarded: Guarded, ceiling: str, given: Object) -> None:
    collection = AGENTS.replace("{ns}", ceiling)
    guarded.make(collection, agent("old", suspend=True, credentials=[given]))

    def patch(*credentials: Object) -> Answer:
        body = {"spec": {"suspend": False, "credentials": list(credentials)}}
        return guarded.send(guarded.admin, Request("PATCH", f"{AGENTS}/old", body, "merge"), ceiling)

    try:
        assert patch(given).ok and patch({**WITHIN["a role"], "name": "fine"}, given).ok and patch().ok
        assert refused_by(patch({**given, "name": "again"})) == "agent-credentials"
        assert refused_by(patch({**given, "ttlSeconds": 2000})) == "agent-credentials"
    finally:
        guarded.admin.delete(f"{collection}/old")


def test_a_policy_that_offers_nothing_accepts_nothing(guarded: Guarded, sandbox: str) -> None:
    with guarded.policies(sandbox_policy("none")):
        eventually(lambda: not write(guarded, sandbox, postgres("reader")).ok, "the policy is seen")
        for given in WITHIN.values():
            answer = write(guarded, sandbox, given)
            assert refused_by(answer) == "agent-credentials" and "accepted is none" in answer.message, answer.message


def test_as_many_as_can_be_asked_for_under_as_much_as_can_be_offered_stay_within_the_cost_limits(
    guarded: Guarded, sandbox: str
) -> None:
    def path(issuer: int, number: int) -> str:
        return f"database/{issuer:02}/{'p' * 480}/{number:02}"

    offered = {
        "vault": [{"issuer": f"v{i}", "paths": [path(i, n) for n in range(32)]} for i in range(32)],
        "secrets": [
            {"namespace": "shared", "name": f"s{i}", "keys": [f"{'k' * 200}{n}" for n in range(32)]} for i in range(32)
        ],
    }
    with guarded.policies(*(sandbox_policy(f"many-{n}", credentials=offered) for n in range(4))):
        most = [{**vault(path(31, 31), "v31"), "name": f"v{n}"} for n in range(8)]
        most += [{**secret("s31", *(f"{'k' * 200}{n}" for n in range(32))), "name": f"s{n}"} for n in range(8)]
        eventually(lambda: write(guarded, sandbox, *most).ok, "the policies are seen")
        eventually(lambda: not write(guarded, sandbox, postgres("reader")).ok, "and nothing else is accepted")
        assert write(guarded, sandbox, *most).ok
        answer = write(guarded, sandbox, *most[1:], vault(path(31, 32), "v31"))
        assert refused_by(answer) == "agent-credentials" and "SandboxPolicy many-" in answer.message, answer.message
