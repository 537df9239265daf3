"""The credentials of AgentDeployments, and texts that hold credentials although they should not.

Named cases of what is refused and accepted, and strategies. As with tests/specs.py, the same cases are put to the
parser (tests/unit) and to the API server (tests/apiserver): both must agree, but for `UNWRITTEN`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hypothesis import strategies as st

from tests.specs import DIGEST, Refused, Spec, minimal


def credential(**fields: Any) -> Spec:
    """The least spec with one credential, by default one of Vault."""
    sources = {"vault", "postgres", "secret", "custom"}
    source: Spec = {} if fields.keys() & sources else {"vault": {"issuer": "vault", "path": "database/creds/reader"}}
    return minimal(credentials=[{"name": "warehouse", **source, **fields}])


def vault(path: str) -> Spec:
    """The least spec with a credential of this path."""
    return credential(vault={"issuer": "vault", "path": path})


def postgres(role: str) -> Spec:
    """The least spec with a credential of this template role."""
    return credential(postgres={"issuer": "warehouse", "role": role})


def secret(**fields: Any) -> Spec:
    """The least spec with a copy of a Secret."""
    return credential(secret={"namespace": "shared", "name": "api", "keys": ["key"], **fields})


def custom(parameters: Any) -> Spec:
    """The least spec with a credential of an issuer of somebody else."""
    return credential(custom={"issuer": "badges", "parameters": parameters})


_ONE = "spec.credentials[0]"
_SOURCE = "accepted is exactly one of vault, postgres, secret, custom"
_PATH = "accepted is a path without '/' at its beginning or end"
_DOTS = "accepted is a path without '.' and '..' in it"
_ROLE = "accepted is the name of a database role"
_KEY = "accepted is a key of a Secret"

REFUSED: dict[str, Refused] = {
    "a credential without a name": Refused(
        minimal(credentials=[{"vault": {"issuer": "v", "path": "p"}}]), f"{_ONE}.name", None
    ),
    "a credential with an empty name": Refused(credential(name=""), f"{_ONE}.name", None),
    "a credential with a name in upper case": Refused(credential(name="DB"), f"{_ONE}.name", "lower case letters"),
    "a credential with a dot in its name": Refused(credential(name="a.b"), f"{_ONE}.name", "lower case letters"),
    "a credential with a name that leads out": Refused(credential(name=".."), f"{_ONE}.name", "lower case letters"),
    "a credential with a name of 53 characters": Refused(credential(name="n" * 53), f"{_ONE}.name", None),
    "two credentials of one name": Refused(
        minimal(
            credentials=[
                {"name": "a", "vault": {"issuer": "v", "path": "p"}},
                {"name": "a", "postgres": {"issuer": "w", "role": "r"}},
            ]
        ),
        "spec.credentials",
        None,
    ),
    "17 credentials": Refused(
        minimal(credentials=[{"name": f"c{n}", "vault": {"issuer": "v", "path": "p"}} for n in range(17)]),
        "spec.credentials",
        None,
    ),
    "64 credentials": Refused(
        minimal(credentials=[{"name": f"c{n}", "vault": {"issuer": "v", "path": "p"}} for n in range(64)]),
        "spec.credentials",
        None,
    ),
    "59 seconds": Refused(credential(ttlSeconds=59), f"{_ONE}.ttlSeconds", None),
    "no seconds": Refused(credential(ttlSeconds=0), f"{_ONE}.ttlSeconds", None),
    "negative seconds": Refused(credential(ttlSeconds=-900), f"{_ONE}.ttlSeconds", None),
    "more than a day": Refused(credential(ttlSeconds=86_401), f"{_ONE}.ttlSeconds", None),
    "half seconds": Refused(credential(ttlSeconds=900.5), f"{_ONE}.ttlSeconds", None),
    "seconds as a text": Refused(credential(ttlSeconds="15m"), f"{_ONE}.ttlSeconds", None),
    "no source": Refused(minimal(credentials=[{"name": "a"}]), _ONE, _SOURCE),
    "two sources": Refused(
        credential(vault={"issuer": "v", "path": "p"}, postgres={"issuer": "w", "role": "r"}), _ONE, _SOURCE
    ),
    "all sources": Refused(
        credential(
            vault={"issuer": "v", "path": "p"},
            postgres={"issuer": "w", "role": "r"},
            secret={"namespace": "n", "name": "m", "keys": ["k"]},
            custom={"issuer": "c"},
        ),
        _ONE,
        _SOURCE,
    ),
    "vault without an issuer": Refused(credential(vault={"path": "p"}), f"{_ONE}.vault.issuer", None),
    "vault without a path": Refused(credential(vault={"issuer": "v"}), f"{_ONE}.vault.path", None),
    "an issuer that is no name": Refused(
        credential(vault={"issuer": "https://vault", "path": "p"}), f"{_ONE}.vault.issuer", "name of an issuer"
    ),
    "an issuer with the name of the built-in one": Refused(
        credential(custom={"issuer": "secret"}), f"{_ONE}.custom.issuer", "name of another issuer"
    ),
    "an empty path": Refused(vault(""), f"{_ONE}.vault.path", None),
    "a path with ..": Refused(vault("database/../sys/raw"), f"{_ONE}.vault.path", _DOTS),
    "a path that begins with ..": Refused(vault("../database"), f"{_ONE}.vault.path", _DOTS),
    "a path that ends with ..": Refused(vault("database/.."), f"{_ONE}.vault.path", _DOTS),
    "a path that is ..": Refused(vault(".."), f"{_ONE}.vault.path", _DOTS),
    "a path with . in it": Refused(vault("database/./creds"), f"{_ONE}.vault.path", _DOTS),
    "a path with an escaped ..": Refused(vault("database/%2e%2e/sys"), f"{_ONE}.vault.path", _PATH),
    "a path with a '/' at its beginning": Refused(vault("/database"), f"{_ONE}.vault.path", _PATH),
    "a path with a '/' at its end": Refused(vault("database/"), f"{_ONE}.vault.path", _PATH),
    "a path with two '/'": Refused(vault("database//creds"), f"{_ONE}.vault.path", _PATH),
    "a path with a query": Refused(vault("database/creds?list=true"), f"{_ONE}.vault.path", _PATH),
    "a path with a fragment": Refused(vault("database#x"), f"{_ONE}.vault.path", _PATH),
    "a path with a wildcard": Refused(vault("database/*"), f"{_ONE}.vault.path", _PATH),
    "a path with a backslash": Refused(vault("database\\creds"), f"{_ONE}.vault.path", _PATH),
    "a path with a line break at its end": Refused(vault("database\n"), f"{_ONE}.vault.path", _PATH),
    "a path of 513 characters": Refused(vault("p" * 513), f"{_ONE}.vault.path", None),
    "an empty role": Refused(postgres(""), f"{_ONE}.postgres.role", None),
    "a role in upper case": Refused(postgres("Reader"), f"{_ONE}.postgres.role", _ROLE),
    "a role that begins with a digit": Refused(postgres("1reader"), f"{_ONE}.postgres.role", _ROLE),
    "a role with a quote": Refused(postgres('reader"; drop table x; --'), f"{_ONE}.postgres.role", _ROLE),
    "a role with a line break at its end": Refused(postgres("reader\n"), f"{_ONE}.postgres.role", _ROLE),
    "a role of 64 characters": Refused(postgres("r" * 64), f"{_ONE}.postgres.role", None),
    "a Secret of no namespace": Refused(secret(namespace=""), f"{_ONE}.secret.namespace", None),
    "a Secret of a namespace that is none": Refused(
        secret(namespace="a/b"), f"{_ONE}.secret.namespace", "name of a namespace"
    ),
    "a Secret with a name that is none": Refused(secret(name="a/b"), f"{_ONE}.secret.name", "lower case letters"),
    "a Secret without keys": Refused(secret(keys=[]), f"{_ONE}.secret.keys", None),
    "a Secret with 33 keys": Refused(secret(keys=[f"k{n}" for n in range(33)]), f"{_ONE}.secret.keys", None),
    "a Secret with the same key twice": Refused(secret(keys=["k", "k"]), f"{_ONE}.secret.keys", None),
    "a key that leads out": Refused(secret(keys=["../k"]), f"{_ONE}.secret.keys[0]", _KEY),
    "a key that is ..": Refused(secret(keys=[".."]), f"{_ONE}.secret.keys[0]", "not '.'"),
    "a key that the kubelet keeps for itself": Refused(secret(keys=["..data"]), f"{_ONE}.secret.keys[0]", "not '.'"),
    "a key with a wildcard": Refused(secret(keys=["*"]), f"{_ONE}.secret.keys[0]", _KEY),
    "an empty key": Refused(secret(keys=[""]), f"{_ONE}.secret.keys[0]", None),
    "17 parameters": Refused(custom({f"p{n}": "" for n in range(17)}), f"{_ONE}.custom.parameters", None),
    "a parameter with a name that is none": Refused(custom({"a b": "x"}), f"{_ONE}.custom", "names of parameters"),
    "a parameter with a name of 64 characters": Refused(custom({"p" * 64: "x"}), f"{_ONE}.custom", "parameters"),
    "a parameter that is a number": Refused(custom({"level": 3}), f"{_ONE}.custom.parameters", None),
    "a parameter of two lines": Refused(custom({"a": "b\nc"}), f"{_ONE}.custom", "text on one line"),
    "a parameter of 1025 characters": Refused(custom({"a": "x" * 1025}), f"{_ONE}.custom.parameters", None),
}

UNKNOWN_FIELDS: dict[str, tuple[Spec, str]] = {
    "of a value": (credential(value="x"), f"{_ONE}.value"),
    "of a Secret of its own namespace": (credential(secretRef={"name": "s"}), f"{_ONE}.secretRef"),
    "of a Vault of choice": (
        credential(vault={"issuer": "v", "path": "p", "address": "https://mine.example"}),
        f"{_ONE}.vault.address",
    ),
    "of a role's rights": (credential(postgres={"issuer": "w", "role": "r", "grant": "ALL"}), f"{_ONE}.postgres.grant"),
    "of all keys": (secret(optional=True), f"{_ONE}.secret.optional"),
}

ACCEPTED: dict[str, Spec] = {
    "no credential": minimal(credentials=[]),
    "a credential of Vault": credential(),
    "the shortest path": vault("p"),
    "a path with dots, dashes and underscores in its parts": vault("aws/creds/..a/.b/c..d/e-f_g."),
    "a role with an underscore and digits": postgres("_reader_2"),
    "a copy of a Secret": secret(),
    "keys of each kind": secret(keys=["a", ".dot", "-", "_", "tls.crt", "A..b"]),
    "an issuer of somebody else": credential(custom={"issuer": "badges"}),
    "parameters": custom({"level": "3", "Scope.of_it-x": "", "text": 'any "text" with {braces} and ünïcode'}),
    "the least seconds": credential(ttlSeconds=60),
    "the most seconds": credential(ttlSeconds=86_400),
    "the most of each bound of credentials": minimal(
        credentials=[
            {
                "name": f"{'n' * 50}{n:02}",
                "ttlSeconds": 86_400,
                **(
                    {
                        "secret": {
                            "namespace": "n" * 63,
                            "name": "m" * 253,
                            "keys": [f"{'k' * 251}{k:02}" for k in range(32)],
                        }
                    },
                    {
                        "custom": {
                            "issuer": "i" * 63,
                            "parameters": {f"{'p' * 61}{p:02}": "v" * 1024 for p in range(16)},
                        }
                    },
                    {"vault": {"issuer": "i" * 63, "path": "p" * 512}},
                    {"postgres": {"issuer": "i" * 63, "role": "r" * 63}},
                )[n % 4],
            }
            for n in range(16)
        ]
    ),
}


# Texts that hold credentials. They are put together here, so that no scanner takes this file for a leak.

_ALNUM = "A1b2C3d4E5f6G7h8I9j0K1l2M3n4O5p6Q7r8S9t0"
_PEM = f"-----BEGIN {{}}PRIVATE {'KEY'}-----\nMIIEvQIBADANBgkqhkiG9w0BAQEF\n-----END {{}}PRIVATE {'KEY'}-----\n"
_JWT = ".".join((f"ey{'J'}hbGciOiJSUzI1NiIsImtpZCI6IiJ9", f"ey{'J'}zdWIiOiJhZ2VudCJ9", "c2lnbmF0dXJl"))

CREDENTIALS: dict[str, tuple[str, str]] = {
    "an access key id of AWS": (f"AKI{'A'}IOSFODNN7EXAMPLE", "AWS"),
    "a temporary access key id of AWS": (f"ASI{'A'}IOSFODNN7EXAMPLE", "AWS"),
    "an access key id in a text": (f'{{"aws_access_key_id":"AKI{"A"}IOSFODNN7EXAMPLE"}}', "AWS"),
    **{f"a token of GitHub, gh{kind}_": (f"gh{kind}_{_ALNUM[:36]}", "GitHub") for kind in "pousr"},
    "a fine-grained token of GitHub": (f"github_{'pat'}_11{_ALNUM[:20]}_{_ALNUM}", "GitHub"),
    "a token of GitHub in a header": (f"Authorization: Bearer ghp_{_ALNUM[:36]}", "GitHub"),
    "a token of GitLab": (f"glpat-{_ALNUM[:16]}-_x9", "GitLab"),
    "a token of a Slack bot": (f"xox{'b'}-123456789012-123456789012-{_ALNUM[:24]}", "Slack"),
    "a token of a Slack user": (f"xox{'p'}-1234567890-{_ALNUM[:24]}", "Slack"),
    "a key of OpenAI": (f"sk-{_ALNUM[:20]}T3Blbk{'FJ'}{_ALNUM[:20]}", "OpenAI"),
    "a key of a project at OpenAI": (f"sk-proj-{_ALNUM[:10]}_-{_ALNUM[:10]}T3Blbk{'FJ'}{_ALNUM[:20]}", "OpenAI"),
    "a key of the old form of OpenAI": (f"sk-{_ALNUM}{_ALNUM[:8]}", "OpenAI"),
    "a key of Anthropic": (f"sk-ant-{'api'}03-{_ALNUM}-{_ALNUM}", "Anthropic"),
    "an admin key of Anthropic": (f"sk-ant-{'admin'}01-{_ALNUM}", "Anthropic"),
    "a key of Google": (f"AIz{'a'}Sy{_ALNUM[:20]}-_{_ALNUM[:11]}", "Google"),
    "a key of Stripe": (f"sk_{'live'}_{_ALNUM[:24]}", "Stripe"),
    "a restricted key of Stripe": (f"rk_{'live'}_{_ALNUM[:24]}", "Stripe"),
    "a token of Hugging Face": (f"hf_{_ALNUM[:34]}", "Hugging Face"),
    "a token of Vault": (f"hv{'s'}.{_ALNUM[:12]}-_{_ALNUM}", "Vault"),
    "a batch token of Vault": (f"hv{'b'}.AAAAAQ{_ALNUM}", "Vault"),
    "an old token of Vault": (f"s.{_ALNUM[:24]}", "Vault"),
    "a private key": (_PEM.format("", ""), "a private key"),
    "a private key of RSA": (_PEM.format("RSA ", "RSA "), "a private key"),
    "a private key of OpenSSH": (_PEM.format("OPENSSH ", "OPENSSH "), "a private key"),
    "a private key in JSON": (_PEM.format("", "").replace("\n", "\\n"), "a private key"),
    "a JSON web token": (_JWT, "a JSON web token"),
    "a JSON web token in a header": (f"Authorization: Bearer {_JWT}", "a JSON web token"),
    "a URL with a password": ("postgres://app:hunter22@db.example:5432/app?sslmode=require", "a URL with a password"),
    "a URL with a password alone": ("redis://:hunter22@cache.example", "a URL with a password"),
    "a URL with a password with a colon in it": ("amqp://app:hunter:22@queue.example/", "a URL with a password"),
    "a URL with a token for a password": ("https://oauth2:hunter22@git.example/a.git", "a URL with a password"),
    "a URL with a password in a text": ("see mongodb://app:hunter22@a.example,b.example for more", "a URL with"),
}
"""Texts with the part of the message that names what was found."""

ORDINARY: dict[str, str] = {
    "nothing": "",
    "a word": "debug",
    "a number": "8080",
    "a sentence": "You are a helpful agent. Risk-averse, task-oriented; ask before you act: a@b.example, or call.",
    "an address": "https://gateway.example:8443/v1?mode=fast&to=a@b.example#part",
    "an address with a port and an at sign in its path": "https://registry.example:5000/@scope/name",
    "an address with a query and no path": "http://host:80?to=a@b.example",
    "an address of IPv6": "http://[2001:db8::1]:8080/a@b",
    "an address with a user": "ssh://git@git.example:22/a.git",
    "an address with a placeholder": "postgres://app:$(DB_PASSWORD)@db.example/app",
    "an address with placeholders of other kinds": "a://b:${C}@d a://b:<password>@d a://b:{{c}}@d a://b:***@d",
    "addresses and mail in JSON": '{"url":"http://gateway.example:80","mail":"a:b@c.example"}',
    "addresses and mail in YAML": "url: http://gateway.example\nmail: team:lead@mail.example\n",
    "an image by tag and digest": f"docker-image://alpine:3.20@{DIGEST}",
    "an image": f"registry.example:5000/team/agent:1.0@{DIGEST}",
    "several brokers": "kafka://a.example:9092,b.example:9092",
    "an ARN": "arn:aws:iam::123456789012:role/ASIAN-markets-reader",
    "countries": "SLOVAKIA,MALAYSIA,AUSTRALASIA2024REPORTSOFTHEYEAR",
    "a name with sk-": "task-sk-reader,risk-0123456789abcdef,sk-SK,sk-learn-models-for-everyone-everywhere-all-at-once",
    "a name with _live_": "task_live_view_of_everything,disk_live_",
    "a name with hf_": "shelf_0123456789012345678901234567890123456789",
    "a name with ghs_": "highs_and_lows_of_the_year_that_was_twenty_twenty",
    "a name with glpat": "glpat-rotation",
    "a path of a Secret": "/var/run/bulkhead/credentials/warehouse/password",
    "names of variables": "GITHUB_TOKEN,AWS_ACCESS_KEY_ID,OPENAI_API_KEY",
    "prefixes in prose": "Never print tokens: ghp_, github_pat_, glpat-, xoxb-, sk-ant-, AKIA, hvs. and eyJ.",
    "a domain": "s.example-of-a-long-domain.example,hvs.example",
    "base64": "SGVsbG8sIHdvcmxkISBUaGlzIGlzIG5vIHNlY3JldCBhdCBhbGwu",
    "JSON in base64": f"ey{'J'}tb2RlIjoiZmFzdCIsImxldmVsIjozfQ==",
    "a hash": "0123456789abcdef" * 4,
    "a UUID": "123e4567-e89b-12d3-a456-426614174000",
    "a public key": "-----BEGIN PUBLIC KEY-----\nMIIBIjANBgkqhkiG9w0BAQEFAAOC\n-----END PUBLIC KEY-----\n",
    "a certificate": "-----BEGIN CERTIFICATE-----\nMIIBIjANBgkqhkiG9w0BAQEFAAOC\n-----END CERTIFICATE-----\n",
    "what a private key begins with": "Search for -----BEGIN RSA PRIVATE KEY----- and report what you find.",
    "a pattern that finds private keys": r"-----BEGIN [A-Z ]*PRIVATE KEY-----",
    "a program": 'import os\nprint(os.environ["HOME"], s.split(":"), x.y)\n',
    "a time": "2026-01-02T03:04:05Z",
    "a cron schedule": "*/5 * * * *",
    "a query": "SELECT * FROM stock WHERE name = 'a:b@c'",
    "a long prompt": "Summarise what you read, in plain words, and say where it is from. " * 200,
}
"""Texts without a credential in them, many of them close to one."""


def environment(text: str) -> Spec:
    """The least spec with this value of an environment variable."""
    return minimal(env=[{"name": "SETTING", "value": text}])


def header(text: str) -> Spec:
    """The least spec with this header of a probe's request."""
    return minimal(probes={"readiness": {"httpGet": {"port": 80, "httpHeaders": [{"name": "X-A", "value": text}]}}})


UNWRITTEN: dict[str, Callable[[str], Spec]] = {
    "command": lambda text: minimal(command=["run", text]),
    "args": lambda text: minimal(args=["--setting", text]),
    "exec": lambda text: minimal(probes={"liveness": {"exec": {"command": [text]}}}),
    "parameters": lambda text: custom({"a": text}),
}
"""Where a credential is refused by the parser alone: the API server would refuse the CRD for the cost."""


# Strategies.

_labels = st.from_regex(r"\A[a-z0-9]([a-z0-9-]{0,6}[a-z0-9])?\Z")
_issuers = _labels.filter(lambda name: name != "secret")
_segments = st.from_regex(r"\A[A-Za-z0-9_-][A-Za-z0-9._-]{0,4}\Z")
_sources = st.one_of(
    st.fixed_dictionaries(
        {
            "vault": st.fixed_dictionaries(
                {"issuer": _issuers, "path": st.lists(_segments, min_size=1, max_size=4).map("/".join)}
            )
        }
    ),
    st.fixed_dictionaries(
        {"postgres": st.fixed_dictionaries({"issuer": _issuers, "role": st.from_regex(r"\A[a-z_][a-z0-9_]{0,6}\Z")})}
    ),
    st.fixed_dictionaries(
        {
            "secret": st.fixed_dictionaries(
                {
                    "namespace": _labels,
                    "name": _labels,
                    "keys": st.lists(_segments, min_size=1, max_size=3, unique=True),
                }
            )
        }
    ),
    st.fixed_dictionaries(
        {
            "custom": st.fixed_dictionaries(
                {"issuer": _issuers},
                optional={
                    "parameters": st.dictionaries(
                        st.from_regex(r"\A[A-Za-z][A-Za-z0-9._-]{0,4}\Z"),
                        st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=8),
                        max_size=3,
                    )
                },
            )
        }
    ),
)


def credentials() -> st.SearchStrategy[list[Spec]]:
    """Lists of credentials that are accepted."""
    one = st.builds(
        lambda name, source, rest: {"name": name, **source, **rest},
        _labels,
        _sources,
        st.fixed_dictionaries({}, optional={"ttlSeconds": st.integers(60, 86_400)}),
    )
    return st.lists(one, max_size=3, unique_by=lambda entry: str(entry["name"]))


def specs_with_credentials() -> st.SearchStrategy[Spec]:
    """Specs with credentials and, beside them, the least."""
    return credentials().map(lambda section: minimal(credentials=section))
