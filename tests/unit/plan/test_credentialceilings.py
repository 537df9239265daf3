"""What credentials may be asked for, measured against each policy and against the issuers that there are."""

from __future__ import annotations

from typing import Any

import pytest

from bulkhead.api.agentdeployment import parse_spec
from bulkhead.plan import policy
from bulkhead.plan.credentialceilings import credentials, is_below
from tests.unit.plan import samples

ISSUERS = {"secret": "secret", "pg": "postgres", "pg-two": "postgres", "safe": "vault", "token": "acme"}
VAULT = {"vault": {"issuer": "safe", "path": "database/creds/reader"}}
POSTGRES = {"postgres": {"issuer": "pg", "role": "reader"}}
SECRET = {"secret": {"namespace": "shared", "name": "mail", "keys": ["user", "password"]}}
CUSTOM = {"custom": {"issuer": "token", "parameters": {"scope": "read", "team": "a"}}}


def refused(*ceilings: dict[str, Any], issuers: dict[str, str] = ISSUERS, **credential: Any) -> list[str]:
    spec = parse_spec(
        {"owner": "a", "image": "example.test/a:1", "credentials": [{"name": "one", **credential}]}, name="scout"
    )
    policies = [
        policy.parse(samples.sandbox_policy(name=f"p{index}", credentials=one)) for index, one in enumerate(ceilings)
    ]
    bounds = policy.bounds(policies, namespace=samples.namespace(), namespaces=())
    return [str(one) for one in credentials(spec, bounds, issuers=issuers)]


ACCEPTED: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "a path exactly": (VAULT, {"vault": [{"issuer": "safe", "paths": ["database/creds/reader"]}]}),
    "a path below another": (VAULT, {"vault": [{"issuer": "safe", "paths": ["aws/*", "database/*"]}]}),
    "a role": (POSTGRES, {"postgres": [{"issuer": "pg", "roles": ["writer", "reader"]}]}),
    "some keys of a Secret": (
        SECRET,
        {"secrets": [{"namespace": "shared", "name": "mail", "keys": ["user", "password", "host"]}]},
    ),
    "all keys of a Secret": (SECRET, {"secrets": [{"namespace": "shared", "name": "mail"}]}),
    "parameters": (CUSTOM, {"custom": [{"issuer": "token", "parameters": {"scope": ["read"], "team": ["a", "b"]}}]}),
    "parameters by the second of two entries": (
        CUSTOM,
        {
            "custom": [
                {"issuer": "token", "parameters": {"scope": ["read"]}},
                {"issuer": "token", "parameters": {"scope": ["read"], "team": ["a"]}},
            ]
        },
    ),
    "fewer parameters than are named": (
        {"custom": {"issuer": "token"}},
        {"custom": [{"issuer": "token", "parameters": {"scope": ["read"]}}]},
    ),
    "the longest time to live": (
        {**POSTGRES, "ttlSeconds": 600},
        {"maxTTLSeconds": 600, "postgres": [{"issuer": "pg", "roles": ["reader"]}]},
    ),
}


@pytest.mark.parametrize("case", ACCEPTED)
def test_accepted(case: str) -> None:
    asked, ceiling = ACCEPTED[case]
    assert refused(ceiling, **asked) == []


PG = {"postgres": [{"issuer": "pg", "roles": ["reader"]}]}
REFUSED: dict[str, tuple[dict[str, Any], dict[str, Any], str, str]] = {
    "without a ceiling, vault": (VAULT, {}, "vault.issuer", "accepted is none at all"),
    "without a ceiling, postgres": (POSTGRES, {}, "postgres.issuer", "accepted is none at all"),
    "without a ceiling, secret": (SECRET, {}, "secret.name", "accepted is none at all"),
    "without a ceiling, custom": (CUSTOM, {}, "custom.issuer", "accepted is none at all"),
    "another issuer": ({"postgres": {"issuer": "pg-two", "role": "reader"}}, PG, "postgres.issuer", "accepted is pg"),
    "another role": ({"postgres": {"issuer": "pg", "role": "owner"}}, PG, "postgres.role", "accepted is reader"),
    "the role of another issuer": (
        {"postgres": {"issuer": "pg-two", "role": "reader"}},
        {"postgres": [*PG["postgres"], {"issuer": "pg-two", "roles": ["writer"]}]},
        "postgres.role",
        "accepted is writer",
    ),
    "a path beside": (
        VAULT,
        {"vault": [{"issuer": "safe", "paths": ["database/creds/read"]}]},
        "vault.path",
        "accepted is database/creds/read",
    ),
    "a path that begins alike": (
        {"vault": {"issuer": "safe", "path": "database-two/creds/reader"}},
        {"vault": [{"issuer": "safe", "paths": ["database/*"]}]},
        "vault.path",
        "accepted is database/*",
    ),
    "the path itself where what is below it is accepted": (
        {"vault": {"issuer": "safe", "path": "database"}},
        {"vault": [{"issuer": "safe", "paths": ["database/*"]}]},
        "vault.path",
        "accepted is database/*",
    ),
    "another Secret": (
        SECRET,
        {"secrets": [{"namespace": "shared", "name": "other"}]},
        "secret.name",
        "accepted is shared/other",
    ),
    "a key too many": (
        SECRET,
        {"secrets": [{"namespace": "shared", "name": "mail", "keys": ["user"]}]},
        "secret.keys",
        "have password of Secret shared/mail; accepted is user",
    ),
    "a parameter that is not named": (
        CUSTOM,
        {"custom": [{"issuer": "token", "parameters": {"scope": ["read"]}}]},
        "custom.parameters",
        "with team=a; accepted is scope of read",
    ),
    "two parameters of which no one entry accepts both": (
        CUSTOM,
        {
            "custom": [
                {"issuer": "token", "parameters": {"scope": ["read"], "team": ["b"]}},
                {"issuer": "token", "parameters": {"scope": ["write"], "team": ["a"]}},
            ]
        },
        "custom.parameters",
        "accepted is scope of read, team of b; or scope of write, team of a",
    ),
    "a time to live over the ceiling": (
        {**POSTGRES, "ttlSeconds": 601},
        {**PG, "maxTTLSeconds": 600},
        "ttlSeconds",
        "accepts credentials of up to 600 s (its spec.credentials.maxTTLSeconds), and 601 were asked for",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused_with_the_policy_the_field_and_what_would_be_accepted(case: str) -> None:
    asked, ceiling, field, words = REFUSED[case]
    (found,) = refused(ceiling, **asked)
    assert found.startswith(f"spec.credentials[0].{field}: SandboxPolicy p0 ")
    assert words in found


def test_each_policy_is_measured_by_itself() -> None:
    both = refused(PG, {"postgres": [{"issuer": "pg", "roles": ["writer"]}]}, **POSTGRES)
    assert [one for one in both if "SandboxPolicy p1 " in one] == both
    assert len(both) == 1


OPEN = {
    "vault": [{"issuer": name, "paths": ["database/*"]} for name in ("safe", "pg", "gone")],
    "postgres": [{"issuer": name, "roles": ["reader"]} for name in ("pg", "safe", "gone")],
    "custom": [{"issuer": name, "parameters": {"scope": ["read"], "team": ["a"]}} for name in ("token", "pg", "gone")],
}
ISSUERS_REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "an issuer that there is none of": (
        {"postgres": {"issuer": "gone", "role": "reader"}},
        "issuer gone is not among the operator's issuers; accepted is an issuer of type postgres: pg or pg-two",
    ),
    "a database asked as a vault": (
        {"vault": {"issuer": "pg", "path": "database/creds/reader"}},
        "issuer pg is of type postgres; accepted is an issuer of type vault: safe",
    ),
    "a vault asked as a database": (
        {"postgres": {"issuer": "safe", "role": "reader"}},
        "issuer safe is of type vault; accepted is an issuer of type postgres: pg or pg-two",
    ),
    "a database asked as something of a third party": (
        {"custom": {"issuer": "pg", "parameters": {"scope": "read"}}},
        "issuer pg is of type postgres; accepted is an issuer that is not part of Bulkhead: token",
    ),
}


@pytest.mark.parametrize("case", ISSUERS_REFUSED)
def test_no_policy_can_offer_an_issuer_that_there_is_none_of_or_one_of_another_type(case: str) -> None:
    asked, words = ISSUERS_REFUSED[case]
    kind = next(iter(asked))
    assert refused(OPEN, **asked) == [f"spec.credentials[0].{kind}.issuer: {words}"]


def test_without_any_issuer_of_a_type_that_is_said() -> None:
    (found,) = refused(OPEN, issuers={}, **POSTGRES)
    assert found.endswith("issuer pg is not among the operator's issuers; there is none of type postgres")


@pytest.mark.parametrize(
    ("path", "accepted", "is_in"),
    [
        ("a", "a", True),
        ("a/b", "a", False),
        ("a/b", "a/*", True),
        ("a/b/c", "a/*", True),
        ("a", "a/*", False),
        ("ab", "a/*", False),
        ("A/b", "a/*", False),
    ],
)
def test_what_is_below_a_path(path: str, accepted: str, is_in: bool) -> None:
    assert is_below(path, accepted) is is_in
