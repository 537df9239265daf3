"""The part of an AgentDeployment's spec that asks for credentials: leases that an issuer gives, renews and revokes.

There is no field for a value, and none that names a Secret of the agent's own namespace.
"""

import re
from typing import Annotated, Any, Final

from pydantic import Field

from bulkhead.api.fields import (
    DNS_LABEL_PATTERN,
    Distinct,
    DnsName,
    Model,
    Rule,
    Text,
    lacks,
    matches,
)
from bulkhead.api.network import NamespaceName
from bulkhead.api.secretformats import UNWRITTEN_RULES

MIN_TTL_SECONDS: Final = 60
MAX_TTL_SECONDS: Final = 86_400
MAX_CREDENTIALS: Final = 16
MAX_NAME: Final = 52
"""Characters of a credential's name, so that `credential-NAME` fits into the name of a volume (63)."""
MAX_PARAMETERS: Final = 16
SECRET_ISSUER: Final = "secret"  # noqa: S105 (a name)
"""The issuer of `secret` sources. It is always there; no other may have its name."""

_DNS_ACCEPTED = (
    "accepted are lower case letters, digits and '-', beginning and ending with a letter or digit, as in warehouse"
)
_VAULT_ACCEPTED = "accepted is a path without '/' at its beginning or end, such as database/creds/reader"
_VAULT_CHARACTERS = "[A-Za-z0-9._-]+"
_ONE_LINE = "accepted is text on one line"
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
PARAMETER_NAME: Final = "[A-Za-z][A-Za-z0-9._-]{0,62}"

VAULT_PATH_RULES: Final = (
    matches(rf"{_VAULT_CHARACTERS}(/{_VAULT_CHARACTERS})*", _VAULT_ACCEPTED),
    lacks(r"(^|/)\.\.?(/|$)", "accepted is a path without '.' and '..' in it"),
)

CredentialName = Annotated[str, Text(MAX_NAME, rules=(matches(DNS_LABEL_PATTERN, _DNS_ACCEPTED),))]
IssuerName = Annotated[
    str,
    Text(
        63,
        rules=(
            matches(DNS_LABEL_PATTERN, "accepted is the name of an issuer: lower case letters, digits and '-'"),
            lacks(
                f"^{SECRET_ISSUER}$", "accepted is the name of another issuer; copies of Secrets have a source 'secret'"
            ),
        ),
    ),
]
VaultPath = Annotated[str, Text(512, rules=VAULT_PATH_RULES)]
ParameterName = Annotated[str, Text(63)]
ParameterValue = Annotated[
    str, Text(1024, shortest=0, rules=(Rule("", _ONE_LINE, lambda text: not _CONTROL.search(text)), *UNWRITTEN_RULES))
]
PostgresRole = Annotated[
    str,
    Text(
        63,
        rules=(
            matches(
                "[a-z_][a-z0-9_]*",
                "accepted is the name of a database role: lower case letters, digits and '_', not beginning with a "
                "digit",
            ),
        ),
    ),
]
SecretKey = Annotated[
    str,
    Text(
        253,
        rules=(
            matches("[-._a-zA-Z0-9]+", "accepted is a key of a Secret: letters, digits, '-', '_' and '.'"),
            lacks(r"^\.\.|^\.$", "accepted is a key that is not '.' and does not begin with '..'"),
        ),
    ),
]
TtlSeconds = Annotated[int, Field(ge=MIN_TTL_SECONDS, le=MAX_TTL_SECONDS)]


PARAMETER_NAME_RULE: Final = Rule(
    f"!has(self.parameters) || self.parameters.all(k, k.matches(r'^{PARAMETER_NAME}$'))",
    "accepted as names of parameters are up to 63 letters, digits, '.', '_' and '-', beginning with a letter",
    lambda model: all(re.fullmatch(PARAMETER_NAME, name, re.ASCII) for name in model.parameters),
)
"""A rule of a model with a map `parameters`: a structural schema has no rules for keys."""


class VaultSource(Model):
    """Credentials of a dynamic secrets engine of Vault or OpenBao."""

    issuer: IssuerName
    """Which of the operator's issuers of type vault."""
    path: VaultPath
    """What is read there, for example database/creds/reader. It must answer with a lease."""


class PostgresSource(Model):
    """A database role of its own, with the rights of a template role."""

    issuer: IssuerName
    """Which of the operator's issuers of type postgres."""
    role: PostgresRole
    """The template role whose rights it gets."""


class SecretSource(Model):
    """A copy of some keys of a Secret in a namespace that agents cannot see."""

    namespace: NamespaceName
    """Namespace of the Secret; one of those that the operator may read, and no sandbox."""
    name: DnsName
    """Name of the Secret."""
    keys: Annotated[list[SecretKey], Field(min_length=1, max_length=32), Distinct()]
    """Keys that are copied, each a file of its name."""


class CustomSource(Model):
    """A credential of an issuer that is not part of Bulkhead."""

    issuer: IssuerName
    """Which of the operator's issuers."""
    parameters: Annotated[dict[ParameterName, ParameterValue], Field(max_length=MAX_PARAMETERS)] = Field(
        default_factory=dict
    )
    """What the issuer is to be told. Not for secrets: everyone who may read the AgentDeployment can read it."""

    RULES = (
        PARAMETER_NAME_RULE,
        # On the source, which the API server does not repeat: a key in PEM has more lines than one.
        Rule(
            f"!has(self.parameters) || self.parameters.all(k, !self.parameters[k].matches(r'{_CONTROL.pattern}'))",
            _ONE_LINE,
        ),
    )


SOURCES: Final = ("vault", "postgres", "secret", "custom")


class Credential(Model):
    """A credential that lives for minutes: issued for this agent, rotated, and revoked when it is suspended."""

    name: CredentialName
    """Name of the credential. Its files are in /var/run/bulkhead/credentials/NAME."""
    ttl_seconds: TtlSeconds = 900
    """Seconds for which it is valid. It is rotated at two thirds of them: the agent must read its files again."""
    vault: VaultSource | None = None
    """Takes it from a dynamic secrets engine of Vault or OpenBao."""
    postgres: PostgresSource | None = None
    """Makes it as a database role of PostgreSQL."""
    secret: SecretSource | None = None
    """Copies it from a Secret in a namespace that agents cannot see."""
    custom: CustomSource | None = None
    """Takes it from an issuer that is not part of Bulkhead."""

    RULES = (
        Rule(
            f"[{', '.join(f'has(self.{source})' for source in SOURCES)}].filter(given, given).size() == 1",
            f"accepted is exactly one of {', '.join(SOURCES)}",
            lambda credential: sum(getattr(credential, source) is not None for source in SOURCES) == 1,
        ),
    )

    @property
    def kind(self) -> str:
        """Which of `SOURCES` it comes from."""
        return next(source for source in SOURCES if getattr(self, source) is not None)

    @property
    def issuer(self) -> str:
        """Name of the issuer; that of `secret` sources is always `SECRET_ISSUER`."""
        name: str = getattr(getattr(self, self.kind), "issuer", SECRET_ISSUER)
        return name

    @property
    def source(self) -> dict[str, Any]:
        """What the issuer is asked for, as plain data: the source without the issuer's name."""
        plain: dict[str, Any] = getattr(self, self.kind).model_dump(by_alias=True, exclude={"issuer"})
        return plain
