"""The credentials that an agent asks for, measured against what each policy lets it ask for.

As in `plan.ceilings`, each policy is measured by itself, so the strictest wins. What no policy can offer is an issuer
that the operator does not have, and one of another type than the source: the ceilings are by type, and `custom` could
ask a database for a role that `postgres` may not.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Final

from bulkhead.api.agentdeployment import AgentDeploymentSpec
from bulkhead.api.credentials import (
    SECRET_ISSUER,
    Credential,
    CustomSource,
    PostgresSource,
    SecretSource,
    VaultSource,
)
from bulkhead.api.sandboxpolicy import CredentialsCeiling, CustomCeiling
from bulkhead.plan.refusals import Violation, listed

if TYPE_CHECKING:
    from bulkhead.plan.policy import Bounds

CREDENTIALS: Final = "spec.credentials"
BELOW: Final = "/*"
"""At the end of a path in a ceiling: everything below it, and not the path itself."""
_BUILT_IN: Final = frozenset({"vault", "postgres", SECRET_ISSUER})

_Found = Iterator[tuple[str, str]]
"""Fields of the AgentDeployment, and what is wrong with each in the words that come after the policy's name."""


def credentials(spec: AgentDeploymentSpec, bounds: Bounds, *, issuers: Mapping[str, str]) -> Iterator[Violation]:
    """Yields what of an agent's credentials may not be asked for: what there is none of first, then policy by policy.

    Args:
        spec: what the agent asks for.
        bounds: of its namespace.
        issuers: types of the issuers that the operator has, by name.
    """
    for index, one in enumerate(spec.credentials):
        yield from _missing(f"{CREDENTIALS}[{index}].{one.kind}.issuer", one, issuers)
    for policy in bounds.policies:
        # What cannot be understood is refused as a whole, in bounds.problems.
        if policy.spec is not None:
            for index, one in enumerate(spec.credentials):
                for field, words in _over(one, policy.spec.credentials):
                    path = f"{CREDENTIALS}[{index}].{field}"
                    yield Violation(policy=policy.name, field=path, message=f"SandboxPolicy {policy.name} {words}")


def is_below(path: str, accepted: str) -> bool:
    """Says whether a path is what a ceiling accepts: exactly, or below it where it ends in `/*`."""
    if accepted.endswith(BELOW):
        return path.startswith(accepted.removesuffix("*"))
    return path == accepted


def _missing(field: str, asked: Credential, issuers: Mapping[str, str]) -> Iterator[Violation]:
    if asked.kind == SECRET_ISSUER:
        return
    type_ = issuers.get(asked.issuer)
    if type_ is not None and _fits(asked.kind, type_):
        return
    what = "that is not part of Bulkhead" if asked.kind == "custom" else f"of type {asked.kind}"
    fitting = sorted(name for name, its in issuers.items() if _fits(asked.kind, its))
    accepted = f"accepted is an issuer {what}: {listed(fitting, last='or')}" if fitting else f"there is none {what}"
    found = f"is of type {type_}" if type_ is not None else "is not among the operator's issuers"
    yield Violation(policy="", field=field, message=f"issuer {asked.issuer} {found}; {accepted}")


def _fits(kind: str, type_: str) -> bool:
    return type_ not in _BUILT_IN if kind == "custom" else type_ == kind


def _over(asked: Credential, ceiling: CredentialsCeiling) -> _Found:
    most = ceiling.max_ttl_seconds
    if asked.ttl_seconds > most:
        yield (
            "ttlSeconds",
            f"accepts credentials of up to {most} s (its spec.credentials.maxTTLSeconds), and {asked.ttl_seconds} were "
            "asked for",
        )
    if asked.vault is not None:
        yield from _vault(asked.vault, ceiling)
    if asked.postgres is not None:
        yield from _postgres(asked.postgres, ceiling)
    if asked.secret is not None:
        yield from _secret(asked.secret, ceiling)
    if asked.custom is not None:
        yield from _custom(asked.custom, ceiling)


def _vault(asked: VaultSource, ceiling: CredentialsCeiling) -> _Found:
    offered = [path for one in ceiling.vault if one.issuer == asked.issuer for path in one.paths]
    if not offered:
        yield _no_issuer("vault", asked.issuer, (one.issuer for one in ceiling.vault))
    elif not any(is_below(asked.path, accepted) for accepted in offered):
        yield (
            "vault.path",
            f"does not let agents read {asked.path} of issuer {asked.issuer}; accepted is {listed(offered, last='or')} "
            "(its spec.credentials.vault)",
        )


def _postgres(asked: PostgresSource, ceiling: CredentialsCeiling) -> _Found:
    offered = [role for one in ceiling.postgres if one.issuer == asked.issuer for role in one.roles]
    if not offered:
        yield _no_issuer("postgres", asked.issuer, (one.issuer for one in ceiling.postgres))
    elif asked.role not in offered:
        yield (
            "postgres.role",
            f"does not let agents have the role {asked.role} of issuer {asked.issuer}; accepted is "
            f"{listed(offered, last='or')} (its spec.credentials.postgres)",
        )


def _secret(asked: SecretSource, ceiling: CredentialsCeiling) -> _Found:
    offered = [one for one in ceiling.secrets if (one.namespace, one.name) == (asked.namespace, asked.name)]
    if not offered:
        names = [f"{one.namespace}/{one.name}" for one in ceiling.secrets]
        accepted = f"is {listed(names, last='or')}" if names else "is none at all"
        yield (
            "secret.name",
            f"does not let agents have a copy of Secret {asked.namespace}/{asked.name}; accepted {accepted} "
            "(its spec.credentials.secrets)",
        )
        return
    keys = {key for one in offered for key in one.keys}
    refused = [] if any(not one.keys for one in offered) else [key for key in asked.keys if key not in keys]
    if refused:
        yield (
            "secret.keys",
            f"does not let agents have {listed(refused, last='or')} of Secret {asked.namespace}/{asked.name}; accepted "
            f"is {listed(sorted(keys), last='or')} (its spec.credentials.secrets)",
        )


def _custom(asked: CustomSource, ceiling: CredentialsCeiling) -> _Found:
    offered = [one for one in ceiling.custom if one.issuer == asked.issuer]
    if not offered:
        yield _no_issuer("custom", asked.issuer, (one.issuer for one in ceiling.custom))
        return
    wrong = [_not_accepted(asked, one) for one in offered]
    if all(wrong):
        fewest: list[str] = min(wrong, key=len)
        # One entry must accept all of them: what two entries accept of two parameters was never meant together.
        yield (
            "custom.parameters",
            f"does not let agents ask issuer {asked.issuer} with {listed(fewest)}; accepted is "
            f"{'; or '.join(map(_accepts, offered))} (its spec.credentials.custom)",
        )


def _not_accepted(asked: CustomSource, one: CustomCeiling) -> list[str]:
    return [
        f"{name}={value}"
        for name, value in sorted(asked.parameters.items())
        if value not in one.parameters.get(name, ())
    ]


def _accepts(one: CustomCeiling) -> str:
    if not one.parameters:
        return "no parameter at all"
    return ", ".join(f"{name} of {listed(values, last='or')}" for name, values in sorted(one.parameters.items()))


def _no_issuer(kind: str, issuer: str, offered: Iterable[str]) -> tuple[str, str]:
    names = sorted(set(offered))
    accepted = f"is {listed(names, last='or')}" if names else "is none at all"
    return (
        f"{kind}.issuer",
        f"does not let agents ask issuer {issuer}; accepted {accepted} (its spec.credentials.{kind})",
    )
