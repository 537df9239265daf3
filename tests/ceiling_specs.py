"""What policies say about identity and credentials: named cases of what is refused and accepted, and strategies.

They are a part of the tables of tests/policy_specs.py, which the tests of policies use.
"""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from tests.identity_specs import BAD_RULES, GOOD_RULES, rule, rules
from tests.specs import Refused, Spec


def identity(**fields: Any) -> Spec:
    """A policy with this ceiling of identities."""
    return {"identity": fields}


def api(*offered: Spec, **fields: Any) -> Spec:
    """A policy that offers these rules."""
    return identity(kubernetesApi={"rules": list(offered), **fields})


def credentials(**fields: Any) -> Spec:
    """A policy with this ceiling of credentials."""
    return {"credentials": fields}


def vault(*paths: str, issuer: str = "vault") -> Spec:
    """A policy that offers these paths."""
    return credentials(vault=[{"issuer": issuer, "paths": list(paths)}])


_RULE = "spec.identity.kubernetesApi.rules[0]"
_VAULT = "spec.credentials.vault[0].paths"
_PATH = "accepted is a path such as database/creds/reader"
_KEY = "accepted is a key of a Secret"

REFUSED: dict[str, Refused] = {
    **{
        f"an offered rule with {name}": Refused(api(rule(**fields)), f"{_RULE}.{path}", says)
        for name, (fields, path, says) in BAD_RULES.items()
    },
    "33 offered rules": Refused(api(*[rule()] * 33), "spec.identity.kubernetesApi.rules", None),
    "a ceiling of 599 seconds": Refused(api(maxTokenSeconds=599), "spec.identity.kubernetesApi.maxTokenSeconds", None),
    "a ceiling of 3601 seconds": Refused(
        api(maxTokenSeconds=3601), "spec.identity.kubernetesApi.maxTokenSeconds", None
    ),
    "a ceiling of 599 seconds for other audiences": Refused(
        identity(maxTokenSeconds=599), "spec.identity.maxTokenSeconds", None
    ),
    "an audience that is empty": Refused(identity(audiences=[""]), "spec.identity.audiences[0]", None),
    "an audience with a space": Refused(identity(audiences=["a b"]), "spec.identity.audiences[0]", "without spaces"),
    "the same audience twice": Refused(identity(audiences=["a", "a"]), "spec.identity.audiences", None),
    "33 audiences": Refused(identity(audiences=[f"a{n}" for n in range(33)]), "spec.identity.audiences", None),
    "a ceiling of 59 seconds for credentials": Refused(
        credentials(maxTTLSeconds=59), "spec.credentials.maxTTLSeconds", None
    ),
    "a ceiling of more than a day": Refused(credentials(maxTTLSeconds=86_401), "spec.credentials.maxTTLSeconds", None),
    "offered paths of no issuer": Refused(
        credentials(vault=[{"paths": ["a"]}]), "spec.credentials.vault[0].issuer", None
    ),
    "offered paths of the built-in issuer": Refused(
        vault("a", issuer="secret"), "spec.credentials.vault[0].issuer", "name of another issuer"
    ),
    "offered paths of an issuer that is no name": Refused(
        vault("a", issuer="*"), "spec.credentials.vault[0].issuer", "name of an issuer"
    ),
    "the same issuer twice": Refused(
        credentials(vault=[{"issuer": "v", "paths": ["a"]}] * 2), "spec.credentials.vault", None
    ),
    "33 issuers": Refused(
        credentials(vault=[{"issuer": f"v{n}", "paths": ["a"]} for n in range(33)]), "spec.credentials.vault", None
    ),
    "an issuer of which nothing is offered": Refused(vault(), _VAULT, None),
    "33 offered paths": Refused(vault(*[f"p{n}" for n in range(33)]), _VAULT, None),
    "the same path twice": Refused(vault("a", "a"), _VAULT, None),
    "every path": Refused(vault("*"), f"{_VAULT}[0]", _PATH),
    "every path below the root": Refused(vault("/*"), f"{_VAULT}[0]", _PATH),
    "a wildcard within a path": Refused(vault("database/*/reader"), f"{_VAULT}[0]", _PATH),
    "a wildcard within a part": Refused(vault("database/read*"), f"{_VAULT}[0]", _PATH),
    "a path with a plus sign": Refused(vault("database/+/reader"), f"{_VAULT}[0]", _PATH),
    "an offered path with ..": Refused(vault("database/../*"), f"{_VAULT}[0]", "without '.' and '..'"),
    "an offered path with a '/' at its end": Refused(vault("database/"), f"{_VAULT}[0]", _PATH),
    "an offered path of 515 characters": Refused(vault("p" * 515), f"{_VAULT}[0]", None),
    "an offered role that is none": Refused(
        credentials(postgres=[{"issuer": "w", "roles": ["*"]}]),
        "spec.credentials.postgres[0].roles[0]",
        "name of a database role",
    ),
    "an issuer of which no role is offered": Refused(
        credentials(postgres=[{"issuer": "w", "roles": []}]), "spec.credentials.postgres[0].roles", None
    ),
    "the same database twice": Refused(
        credentials(postgres=[{"issuer": "w", "roles": ["r"]}] * 2), "spec.credentials.postgres", None
    ),
    "the same Secret twice": Refused(
        credentials(secrets=[{"namespace": "n", "name": "m"}] * 2), "spec.credentials.secrets", None
    ),
    "a Secret by a wildcard": Refused(
        credentials(secrets=[{"namespace": "n", "name": "*"}]), "spec.credentials.secrets[0].name", "lower case letters"
    ),
    "a Secret of every namespace": Refused(
        credentials(secrets=[{"namespace": "*", "name": "m"}]),
        "spec.credentials.secrets[0].namespace",
        "name of a namespace",
    ),
    "an offered key that is none": Refused(
        credentials(secrets=[{"namespace": "n", "name": "m", "keys": ["a/b"]}]),
        "spec.credentials.secrets[0].keys[0]",
        _KEY,
    ),
    "an offered key that the kubelet keeps for itself": Refused(
        credentials(secrets=[{"namespace": "n", "name": "m", "keys": ["..data"]}]),
        "spec.credentials.secrets[0].keys[0]",
        "not '.'",
    ),
    "an offered parameter with a name that is none": Refused(
        credentials(custom=[{"issuer": "c", "parameters": {"a b": ["x"]}}]),
        "spec.credentials.custom[0]",
        "names of parameters",
    ),
    "a parameter without an accepted value": Refused(
        credentials(custom=[{"issuer": "c", "parameters": {"a": []}}]),
        "spec.credentials.custom[0].parameters",
        None,
    ),
    "a parameter with one value that is no list": Refused(
        credentials(custom=[{"issuer": "c", "parameters": {"a": "x"}}]),
        "spec.credentials.custom[0].parameters",
        None,
    ),
    "17 values of a parameter": Refused(
        credentials(custom=[{"issuer": "c", "parameters": {"a": [str(n) for n in range(17)]}}]),
        "spec.credentials.custom[0].parameters",
        None,
    ),
}

UNKNOWN_FIELDS: dict[str, tuple[Spec, str]] = {
    "of paths outside of namespaces": (api(rule(nonResourceURLs=["/metrics"])), f"{_RULE}.nonResourceURLs"),
    "in lower case where Kubernetes has capitals": (credentials(maxTtlSeconds=60), "spec.credentials.maxTtlSeconds"),
    "that would open the floor of rights": (identity(allowSecrets=True), "spec.identity.allowSecrets"),
}

ACCEPTED: dict[str, Spec] = {
    "the least of identity and credentials": {"identity": {"kubernetesApi": {}}, "credentials": {}},
    **{f"an offered rule {name}": api(good) for name, good in GOOD_RULES.items()},
    "audiences": identity(audiences=["vault", "https://gateway.example"], maxTokenSeconds=600),
    "paths, exact and with everything below": vault("database/creds/reader", "aws/*", "a", "a/*"),
    "roles": credentials(postgres=[{"issuer": "w", "roles": ["reader", "writer"]}]),
    "Secrets, whole and by key": credentials(
        secrets=[{"namespace": "n", "name": "m"}, {"namespace": "n", "name": "o", "keys": ["tls.crt"]}],
        maxTTLSeconds=60,
    ),
    "an issuer of somebody else with two sets of parameters": credentials(
        custom=[
            {"issuer": "c", "parameters": {"a": ["x", "y"]}},
            {"issuer": "c", "parameters": {"b": [""]}},
            {"issuer": "d"},
        ]
    ),
    "the most of each bound of identity and credentials": {
        "identity": {
            "kubernetesApi": {
                "rules": [
                    {
                        "apiGroups": [f"{'g' * 61}{n:02}.{'e' * 63}.{'x' * 63}" for n in range(16)],
                        "resources": [f"{'r' * 61}{n:02}/{'s' * 63}" for n in range(32)],
                        "resourceNames": [f"{'n' * 100}{n:02}" for n in range(32)],
                        "verbs": [f"{'v' * 30}{chr(97 + n)}" for n in range(16)],
                    }
                ]
                * 32,
                "maxTokenSeconds": 3600,
            },
            "audiences": [f"{'a' * 254}{n:02}" for n in range(32)],
        },
        "credentials": {
            "maxTTLSeconds": 86_400,
            "vault": [
                {"issuer": f"{'i' * 61}{n:02}", "paths": [f"{'p' * 510}{m:02}/*" for m in range(32)]} for n in range(32)
            ],
            "postgres": [
                {"issuer": f"{'i' * 61}{n:02}", "roles": [f"{'r' * 61}{m:02}" for m in range(32)]} for n in range(32)
            ],
            "secrets": [
                {"namespace": "n", "name": f"m{n}", "keys": [f"{'k' * 100}{m:02}" for m in range(32)]}
                for n in range(32)
            ],
            "custom": [{"issuer": "c", "parameters": {f"p{n}": ["v" * 100] * 16 for n in range(16)}}] * 8,
        },
    },
}


# Strategies.

_labels = st.from_regex(r"\A[a-z0-9]([a-z0-9-]{0,6}[a-z0-9])?\Z")
_issuers = _labels.filter(lambda name: name != "secret")
_seconds = st.integers(600, 3600)
_roles = st.from_regex(r"\A[a-z_][a-z0-9_]{0,6}\Z")
_paths = st.builds(
    "{}{}".format,
    st.lists(st.from_regex(r"\A[A-Za-z0-9_-][A-Za-z0-9._-]{0,4}\Z"), min_size=1, max_size=3).map("/".join),
    st.sampled_from(["", "/*"]),
)


def identities() -> st.SearchStrategy[Spec]:
    """Ceilings of identities that are accepted."""
    offered = st.fixed_dictionaries({}, optional={"rules": st.lists(rules(), max_size=3), "maxTokenSeconds": _seconds})
    audiences = st.lists(st.sampled_from(["vault", "https://gateway.example", "sts"]), max_size=3, unique=True)
    return st.fixed_dictionaries(
        {}, optional={"kubernetesApi": offered, "audiences": audiences, "maxTokenSeconds": _seconds}
    )


def _of_issuers(field: str, names: st.SearchStrategy[str]) -> st.SearchStrategy[list[Spec]]:
    entry = st.fixed_dictionaries({"issuer": _issuers, field: st.lists(names, min_size=1, max_size=3, unique=True)})
    return st.lists(entry, max_size=3, unique_by=lambda one: str(one["issuer"]))


def credential_ceilings() -> st.SearchStrategy[Spec]:
    """Ceilings of credentials that are accepted."""
    secret = st.fixed_dictionaries(
        {"namespace": _labels, "name": _labels}, optional={"keys": st.lists(_labels, max_size=3, unique=True)}
    )
    custom = st.fixed_dictionaries(
        {"issuer": _issuers},
        optional={
            "parameters": st.dictionaries(
                st.from_regex(r"\A[A-Za-z][A-Za-z0-9._-]{0,4}\Z"),
                st.lists(st.text(max_size=4).filter(str.isprintable), min_size=1, max_size=3),
                max_size=3,
            )
        },
    )
    return st.fixed_dictionaries(
        {},
        optional={
            "maxTTLSeconds": st.integers(60, 86_400),
            "vault": _of_issuers("paths", _paths),
            "postgres": _of_issuers("roles", _roles),
            "secrets": st.lists(secret, max_size=3, unique_by=lambda one: (one["namespace"], one["name"])),
            "custom": st.lists(custom, max_size=3),
        },
    )
