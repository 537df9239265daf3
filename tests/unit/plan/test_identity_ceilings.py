"""What an agent may ask for as its identity: rules, tokens, and for how long."""

from __future__ import annotations

from typing import Any

import pytest

from bulkhead.plan import identityceilings
from bulkhead.plan.refusals import Violation
from tests.access_spellings import r
from tests.unit.plan.policies import bounds_of, broken_policy, sandbox_policy, spec_of

READ = r("get list", "configmaps")
API_AUDIENCES = ("https://issuer.example/cluster-1",)


def offering(name: str = "default", **identity: Any) -> Any:
    return sandbox_policy(name, identity=identity)


def api(*rules: Any, **fields: Any) -> dict[str, Any]:
    return {"kubernetesApi": {"rules": list(rules), **fields}}


def token(audience: str = "vault", **fields: Any) -> dict[str, Any]:
    return {"tokens": [{"audience": audience, "path": "t", **fields}]}


def refused(identity: dict[str, Any], *policies: Any, **known: Any) -> list[Violation]:
    audiences = known.get("api_audiences", API_AUDIENCES)
    return list(identityceilings.identity(spec_of(identity=identity), bounds_of(*policies), api_audiences=audiences))


ACCEPTED: dict[str, tuple[dict[str, Any], list[Any]]] = {
    "nothing, where nothing is offered": ({}, [offering()]),
    "nothing, without a policy": ({}, []),
    "a rule on offer": (api(READ), [offering(**api(READ))]),
    "a rule on offer of both policies": (
        api(READ),
        [offering("a", **api(READ)), offering("b", **api(r("*", "*", "*")))],
    ),
    "a token of the most seconds": (
        api(READ, tokenSeconds=1200),
        [offering(**api(READ, maxTokenSeconds=1200))],
    ),
    "an audience on offer": (token("vault"), [offering(audiences=["gateway", "vault"])]),
    "an audience that only contains the API server's name": (
        token("https://kubernetes.default.svc.example"),
        [offering(audiences=["https://kubernetes.default.svc.example"])],
    ),
    "an audience below the issuer": (
        token("https://issuer.example/cluster-1/gateway"),
        [offering(audiences=["https://issuer.example/cluster-1/gateway"])],
    ),
    "what a policy that cannot be read refuses as a whole": (api(READ), [broken_policy()]),
}


@pytest.mark.parametrize("case", ACCEPTED)
def test_what_is_on_offer_is_accepted(case: str) -> None:
    identity, policies = ACCEPTED[case]
    assert refused(identity, *policies) == []


RULES, TOKENS = "spec.identity.kubernetesApi", "spec.identity.tokens[0]"

REFUSED: dict[str, tuple[dict[str, Any], list[Any], str, str, str]] = {
    "a rule where none is offered": (
        api(READ),
        [offering()],
        "default",
        f"{RULES}.rules[0]",
        "SandboxPolicy default does not let agents get configmaps of the core group or list configmaps of the core "
        "group; accepted is no rule at all (its spec.identity.kubernetesApi.rules)",
    ),
    "the second rule": (
        api(READ, r("delete", "configmaps", "core", "a")),
        [offering(**api(READ))],
        "default",
        f"{RULES}.rules[1]",
        "SandboxPolicy default does not let agents delete configmaps of the core group, named a; accepted is what one "
        "of its rules has in full (its spec.identity.kubernetesApi.rules)",
    ),
    "a rule that one of two policies offers": (
        api(READ),
        [offering("a", **api(READ)), offering("b", **api(r("get", "configmaps")))],
        "b",
        f"{RULES}.rules[0]",
        "SandboxPolicy b does not let agents list configmaps of the core group; accepted is what one of its rules has "
        "in full (its spec.identity.kubernetesApi.rules)",
    ),
    "a token that is good for too long": (
        api(READ, tokenSeconds=1201),
        [offering(**api(READ, maxTokenSeconds=1200))],
        "default",
        f"{RULES}.tokenSeconds",
        "SandboxPolicy default accepts tokens of up to 1200 s (its spec.identity.kubernetesApi.maxTokenSeconds), and "
        "1201 were asked for",
    ),
    "an audience where none is offered": (
        token("vault"),
        [offering()],
        "default",
        f"{TOKENS}.audience",
        "SandboxPolicy default does not let agents have tokens for vault; accepted is no token at all (its "
        "spec.identity.audiences)",
    ),
    "another audience": (
        token("vault2"),
        [offering(audiences=["gateway", "vault"])],
        "default",
        f"{TOKENS}.audience",
        "SandboxPolicy default does not let agents have tokens for vault2; accepted is gateway or vault (its "
        "spec.identity.audiences)",
    ),
    "an audience in another case": (
        token("Vault"),
        [offering(audiences=["vault"])],
        "default",
        f"{TOKENS}.audience",
        "SandboxPolicy default does not let agents have tokens for Vault; accepted is vault (its "
        "spec.identity.audiences)",
    ),
    "a token for another that is good for too long": (
        token("vault", expirationSeconds=3600),
        [offering(audiences=["vault"], maxTokenSeconds=900)],
        "default",
        f"{TOKENS}.expirationSeconds",
        "SandboxPolicy default accepts tokens of up to 900 s (its spec.identity.maxTokenSeconds), and 3600 were asked "
        "for",
    ),
    "a rule on the floor, though it is on offer": (
        api(READ, r("get", "secrets")),
        [offering(**api(r("*", "*", "*")))],
        "",
        f"{RULES}.rules[1].resources",
        "get of secrets in the core group may never be asked for: Secrets hold what others are trusted with, and the "
        "tokens of service accounts; accepted is a credential in spec.credentials",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_refusal_names_the_policy_the_field_and_what_would_be_accepted(case: str) -> None:
    identity, policies, policy, field, message = REFUSED[case]
    (found,) = refused(identity, *policies)
    assert (found.policy, found.field, found.message) == (policy, field, message)


@pytest.mark.parametrize(
    "audience",
    [
        "https://issuer.example/cluster-1",
        "https://issuer.example/cluster-1/",
        "HTTPS://Issuer.Example/cluster-1",
        "issuer.example/cluster-1",
        "api",
        "kubernetes.default.svc",
        "https://kubernetes.default.svc",
        "https://kubernetes.default.svc.",
        "https://kubernetes.default.svc:443",
        "https://kubernetes.default.svc:443/",
        "https://kubernetes.default.svc.cluster.local",
        "https://kubernetes.default.svc.cluster.local/",
        "https://kubernetes.default",
        "https://KUBERNETES.default.svc",
    ],
)
def test_no_policy_can_offer_a_token_for_the_api_server(audience: str) -> None:
    (found,) = refused(token(audience), offering(audiences=[audience]))
    assert (found.policy, found.field) == ("", f"{TOKENS}.audience")
    assert f"accepted is the audience of another service, or rules in {RULES}" in found.message


def test_the_api_server_s_own_audience_is_what_it_says_and_not_a_guess() -> None:
    asked, offer = token("https://issuer.example/cluster-1"), offering(audiences=["https://issuer.example/cluster-1"])
    assert refused(asked, offer)
    assert refused(asked, offer, api_audiences=("https://issuer.example/cluster-2",)) == []


def test_everything_that_is_wrong_is_told_policy_by_policy() -> None:
    asked = {**api(READ, r("get", "secrets")), **token("vault", expirationSeconds=3600)}
    found = refused(asked, offering("a", maxTokenSeconds=900), offering("b"))
    assert [(one.policy, one.field.removeprefix("spec.identity.")) for one in found] == [
        ("", "kubernetesApi.rules[1].resources"),
        ("a", "kubernetesApi.rules[0]"),
        ("a", "kubernetesApi.rules[1]"),
        ("a", "tokens[0].audience"),
        ("a", "tokens[0].expirationSeconds"),
        ("b", "kubernetesApi.rules[0]"),
        ("b", "kubernetesApi.rules[1]"),
        ("b", "tokens[0].audience"),
    ]
