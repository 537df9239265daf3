"""The identity section of AgentDeployments: named cases of what is refused and accepted, and strategies.

As with tests/specs.py, the same cases are put to the parser (tests/unit) and to the API server (tests/apiserver): both
must agree.
"""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from tests.specs import Refused, Spec, minimal


def rule(**fields: Any) -> Spec:
    """A rule that may be asked for anywhere, and these fields."""
    return {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get"], **fields}


def identity(**fields: Any) -> Spec:
    """The least spec with this identity section."""
    return minimal(identity=fields)


def api(*rules: Spec, **fields: Any) -> Spec:
    """The least spec with these rights in the API server."""
    return identity(kubernetesApi={"rules": list(rules), **fields})


def token(**fields: Any) -> Spec:
    """The least spec with one token for another audience."""
    return identity(tokens=[{"audience": "vault", "path": "vault", **fields}])


RULE = "spec.identity.kubernetesApi.rules[0]"
TOKEN = "spec.identity.tokens[0]"
_GROUP = "name of an API group without a version"
_RESOURCE = "accepted is a resource in the plural"
_NAME = "exact name of an object"
_VERB = "accepted is a verb in lower case"
_FILE = "accepted is the name of a file"

BAD_RULES: dict[str, tuple[Spec, str, str | None]] = {
    "no API group": ({"apiGroups": []}, "apiGroups", None),
    "17 API groups": ({"apiGroups": [f"g{n}.example" for n in range(17)]}, "apiGroups", None),
    "an API group with a version": ({"apiGroups": ["apps/v1"]}, "apiGroups[0]", _GROUP),
    "an API group in upper case": ({"apiGroups": ["Apps"]}, "apiGroups[0]", _GROUP),
    "an API group with a wildcard in it": ({"apiGroups": ["*.example"]}, "apiGroups[0]", _GROUP),
    "an API group with a space": ({"apiGroups": [" "]}, "apiGroups[0]", _GROUP),
    "no resource": ({"resources": []}, "resources", None),
    "33 resources": ({"resources": [f"r{n}" for n in range(33)]}, "resources", None),
    "an empty resource": ({"resources": [""]}, "resources[0]", None),
    "a kind for a resource": ({"resources": ["ConfigMap"]}, "resources[0]", _RESOURCE),
    "all subresources of pods": ({"resources": ["pods/*"]}, "resources[0]", "'pods/*' means nothing in RBAC"),
    "all subresources of everything": ({"resources": ["*/*"]}, "resources[0]", _RESOURCE),
    "a wildcard in a resource": ({"resources": ["config*"]}, "resources[0]", _RESOURCE),
    "a resource with two subresources": ({"resources": ["pods/exec/x"]}, "resources[0]", _RESOURCE),
    "a resource with an empty subresource": ({"resources": ["pods/"]}, "resources[0]", _RESOURCE),
    "a subresource alone": ({"resources": ["/exec"]}, "resources[0]", _RESOURCE),
    "a resource with a line break at its end": ({"resources": ["pods\n"]}, "resources[0]", _RESOURCE),
    "33 names": ({"resourceNames": [f"n{n}" for n in range(33)]}, "resourceNames", None),
    "an empty name, which list and create have too": ({"resourceNames": [""]}, "resourceNames[0]", None),
    "a wildcard for a name": ({"resourceNames": ["*"]}, "resourceNames[0]", "no wildcard here"),
    "a wildcard in a name": ({"resourceNames": ["app-*"]}, "resourceNames[0]", _NAME),
    "a name with its namespace": ({"resourceNames": ["other/name"]}, "resourceNames[0]", _NAME),
    "a name with an escape": ({"resourceNames": ["a%2fb"]}, "resourceNames[0]", _NAME),
    "no verb": ({"verbs": []}, "verbs", None),
    "17 verbs": ({"verbs": [f"verb{'x' * n}" for n in range(17)]}, "verbs", None),
    "an empty verb": ({"verbs": [""]}, "verbs[0]", None),
    "a verb in upper case": ({"verbs": ["GET"]}, "verbs[0]", _VERB),
    "a verb as Go spells it": ({"verbs": ["deleteCollection"]}, "verbs[0]", _VERB),
    "a verb with a wildcard in it": ({"verbs": ["get*"]}, "verbs[0]", _VERB),
    "verbs as one text": ({"verbs": ["get,list"]}, "verbs[0]", _VERB),
    "verbs that are no list": ({"verbs": "get"}, "verbs", None),
}
"""Rules that are refused by their form, with the field at fault and a part of what is said; in policies too."""

GOOD_RULES: dict[str, Spec] = {
    "of the core group": rule(),
    "of a group with a domain": rule(apiGroups=["networking.k8s.io"], resources=["networkpolicies"]),
    "with wildcards": rule(apiGroups=["*"], resources=["*"], verbs=["*"]),
    "of a subresource": rule(resources=["pods/log"]),
    "of a subresource of everything": rule(resources=["*/scale"]),
    "with names": rule(resourceNames=["settings", "system:leader", "Upper_case.and~more", "ünïcode"]),
    "with no names written out": rule(resourceNames=[]),
    "with the same verb twice": rule(verbs=["get", "get"]),
    "with every ordinary verb": rule(
        verbs=["get", "list", "watch", "create", "update", "patch", "delete", "deletecollection"]
    ),
    "with verbs that only the floor refuses": rule(verbs=["impersonate", "escalate", "impersonate-on:user-info:get"]),
    "of several groups at once": rule(apiGroups=["", "apps", "batch"], resources=["pods", "deployments", "jobs"]),
}
"""Rules that the form of a rule lets pass. Whether they may be asked for is another question."""

REFUSED: dict[str, Refused] = {
    **{
        f"a rule with {name}": Refused(api(rule(**fields)), f"{RULE}.{path}", says)
        for name, (fields, path, says) in BAD_RULES.items()
    },
    "a rule without API groups": Refused(api({"resources": ["pods"], "verbs": ["get"]}), f"{RULE}.apiGroups", None),
    "a rule without resources": Refused(api({"apiGroups": [""], "verbs": ["get"]}), f"{RULE}.resources", None),
    "a rule without verbs": Refused(api({"apiGroups": [""], "resources": ["pods"]}), f"{RULE}.verbs", None),
    "rights without a rule": Refused(api(), "spec.identity.kubernetesApi.rules", None),
    "rights without rules": Refused(
        identity(kubernetesApi={"tokenSeconds": 600}), "spec.identity.kubernetesApi.rules", None
    ),
    "33 rules": Refused(api(*[rule()] * 33), "spec.identity.kubernetesApi.rules", None),
    "a token of 599 seconds": Refused(api(rule(), tokenSeconds=599), "spec.identity.kubernetesApi.tokenSeconds", None),
    "a token of the 3607 seconds that make a year": Refused(
        api(rule(), tokenSeconds=3607), "spec.identity.kubernetesApi.tokenSeconds", None
    ),
    "seconds of a token as a text": Refused(
        api(rule(), tokenSeconds="600"), "spec.identity.kubernetesApi.tokenSeconds", None
    ),
    "a token of another audience of 599 seconds": Refused(
        token(expirationSeconds=599), f"{TOKEN}.expirationSeconds", None
    ),
    "a token of another audience of 3607 seconds": Refused(
        token(expirationSeconds=3607), f"{TOKEN}.expirationSeconds", None
    ),
    "a token without an audience": Refused(identity(tokens=[{"path": "a"}]), f"{TOKEN}.audience", None),
    "a token without a path": Refused(identity(tokens=[{"audience": "a"}]), f"{TOKEN}.path", None),
    "an empty audience": Refused(token(audience=""), f"{TOKEN}.audience", None),
    "an audience with a space": Refused(token(audience="a b"), f"{TOKEN}.audience", "without spaces"),
    "an audience with a line break at its end": Refused(token(audience="vault\n"), f"{TOKEN}.audience", "spaces"),
    "an audience of 257 characters": Refused(token(audience="a" * 257), f"{TOKEN}.audience", None),
    "a path to another folder": Refused(token(path="../credentials/a"), f"{TOKEN}.path", _FILE),
    "a path in a folder": Refused(token(path="a/b"), f"{TOKEN}.path", _FILE),
    "an absolute path": Refused(token(path="/etc/passwd"), f"{TOKEN}.path", _FILE),
    "an empty path": Refused(token(path=""), f"{TOKEN}.path", None),
    "the folder itself for a path": Refused(token(path="."), f"{TOKEN}.path", _FILE),
    "the folder above for a path": Refused(token(path=".."), f"{TOKEN}.path", _FILE),
    "a path that the kubelet keeps for itself": Refused(token(path="..data"), f"{TOKEN}.path", _FILE),
    "a path with a line break at its end": Refused(token(path="a\n"), f"{TOKEN}.path", _FILE),
    "a path of 64 characters": Refused(token(path="p" * 64), f"{TOKEN}.path", None),
    "two tokens in one file": Refused(
        identity(tokens=[{"audience": "a", "path": "p"}, {"audience": "b", "path": "p"}]), "spec.identity.tokens", None
    ),
    "9 tokens": Refused(
        identity(tokens=[{"audience": "a", "path": f"p{n}"} for n in range(9)]), "spec.identity.tokens", None
    ),
}

UNKNOWN_FIELDS: dict[str, tuple[Spec, str]] = {
    "of paths outside of namespaces": (api(rule(nonResourceURLs=["/metrics"])), f"{RULE}.nonResourceURLs"),
    "of a service account of choice": (identity(serviceAccountName="admin"), "spec.identity.serviceAccountName"),
    "of a cluster role": (
        identity(kubernetesApi={"rules": [rule()], "clusterRole": "view"}),
        "spec.identity.kubernetesApi.clusterRole",
    ),
    "of another namespace": (api(rule(namespaces=["default"])), f"{RULE}.namespaces"),
    "of a token's account": (token(serviceAccountName="admin"), f"{TOKEN}.serviceAccountName"),
}

ACCEPTED: dict[str, Spec] = {
    "an empty identity section": identity(),
    **{f"a rule {name}": api(good) for name, good in GOOD_RULES.items()},
    "the least seconds of a token": api(rule(), tokenSeconds=600),
    "the most seconds of a token": api(rule(), tokenSeconds=3600),
    "a token for another audience": token(),
    "a token for an address": token(audience="https://gateway.example:8443/a?b", expirationSeconds=3600),
    "two tokens of one audience": identity(
        tokens=[{"audience": "a", "path": "p"}, {"audience": "a", "path": "q", "expirationSeconds": 601}]
    ),
    "paths that begin with a dot, end with one or have two": identity(
        tokens=[{"audience": "a", "path": path} for path in (".token", "token.", "a..b", "_", "-", "A.jwt")]
    ),
    "the most of each bound of an identity": identity(
        kubernetesApi={
            "rules": [
                {
                    "apiGroups": [f"{'g' * 61}{n:02}.{'e' * 63}.{'x' * 63}.{'y' * 61}" for n in range(16)],
                    "resources": [f"{'r' * 61}{n:02}/{'s' * 63}" for n in range(32)],
                    "resourceNames": [f"{'n' * 251}{n:02}" for n in range(32)],
                    "verbs": [f"{'v' * 62}:{chr(97 + n)}" for n in range(16)],
                }
            ]
            * 32,
        },
        tokens=[{"audience": "a" * 256, "path": f"{'p' * 62}{n}", "expirationSeconds": 3600} for n in range(8)],
    ),
}


# Strategies.

_names = st.from_regex(r"\A[a-z0-9]([a-z0-9-]{0,6}[a-z0-9])?\Z")
_groups = st.one_of(st.sampled_from(["", "*", "apps", "batch", "networking.k8s.io"]), _names)
_resources = st.one_of(
    st.sampled_from(["*", "*/scale", "pods", "pods/log", "configmaps"]),
    _names,
    st.builds("{}/{}".format, _names, _names),
)
_verbs = st.sampled_from(["*", "get", "list", "watch", "create", "update", "patch", "delete", "use", "a:b-c"])


def rules() -> st.SearchStrategy[Spec]:
    """Rules that are accepted by their form."""
    return st.fixed_dictionaries(
        {
            "apiGroups": st.lists(_groups, min_size=1, max_size=3),
            "resources": st.lists(_resources, min_size=1, max_size=3),
            "verbs": st.lists(_verbs, min_size=1, max_size=3),
        },
        optional={"resourceNames": st.lists(_names, max_size=3)},
    )


_seconds = st.integers(600, 3600)
_paths = st.from_regex(r"\A[A-Za-z0-9_-][A-Za-z0-9._-]{0,8}\Z")


def identities() -> st.SearchStrategy[Spec]:
    """Identity sections that are accepted."""
    api_access = st.fixed_dictionaries(
        {"rules": st.lists(rules(), min_size=1, max_size=3)}, optional={"tokenSeconds": _seconds}
    )
    one = st.fixed_dictionaries(
        {"audience": st.sampled_from(["vault", "https://gateway.example"]), "path": _paths},
        optional={"expirationSeconds": _seconds},
    )
    tokens = st.lists(one, max_size=3, unique_by=lambda entry: str(entry["path"]))
    return st.fixed_dictionaries({}, optional={"kubernetesApi": api_access, "tokens": tokens})


def specs_with_identities() -> st.SearchStrategy[Spec]:
    """Specs with an identity section and, beside it, the least."""
    return identities().map(lambda section: minimal(identity=section))
