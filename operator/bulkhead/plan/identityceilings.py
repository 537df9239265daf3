"""What an agent asks for as its identity, measured against what each policy lets it ask for.

As in `plan.ceilings`, each policy is measured by itself, so the strictest wins. Two things no policy can offer: what is
on the floor of `plan.access`, and a token among `identity.tokens` that the API server would take as its own: such a
token is asked for by rules, or not at all.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING, Final

from bulkhead.api.agentdeployment import AgentDeploymentSpec
from bulkhead.api.sandboxpolicy import IdentityCeiling
from bulkhead.plan import access
from bulkhead.plan import identity as identities
from bulkhead.plan.access import Rule
from bulkhead.plan.refusals import Violation, listed

if TYPE_CHECKING:
    from bulkhead.plan.policy import Bounds

API: Final = "spec.identity.kubernetesApi"
TOKENS: Final = "spec.identity.tokens"

API_AUDIENCES: Final = (
    "api",
    "kubernetes",
    "kubernetes.default",
    "kubernetes.default.svc",
    "kubernetes.default.svc.cluster.local",
    "kubernetes.svc.default.svc.cluster.local",
)
"""What API servers are told to call themselves (`--api-audiences`, by default the issuer), where it is not known."""

_Found = Iterator[tuple[str, str]]
"""Fields of the AgentDeployment, and what is wrong with each in the words that come after the policy's name."""


def identity(spec: AgentDeploymentSpec, bounds: Bounds, *, api_audiences: Collection[str]) -> Iterator[Violation]:
    """Yields what of an agent's identity may not be asked for: the floor first, then policy by policy.

    Args:
        spec: what the agent asks for.
        bounds: of its namespace.
        api_audiences: audiences that the API server takes as its own, as far as they are known.
    """
    yield from _floor(spec, api_audiences)
    for policy in bounds.policies:
        # What cannot be understood is refused as a whole, in bounds.problems.
        if policy.spec is not None:
            for field, words in _over(spec, policy.spec.identity):
                yield Violation(policy=policy.name, field=field, message=f"SandboxPolicy {policy.name} {words}")


def _floor(spec: AgentDeploymentSpec, api_audiences: Collection[str]) -> Iterator[Violation]:
    for one in access.refused(identities.rules(spec)):
        yield Violation(policy="", field=f"{API}.rules{one.field}", message=one.why)
    own = {_host(audience) for audience in (*api_audiences, *API_AUDIENCES)}
    for index, token in enumerate(spec.identity.tokens):
        if _host(token.audience) in own:
            yield Violation(
                policy="",
                field=f"{TOKENS}[{index}].audience",
                message=f"{token.audience} is the API server itself, which would take the token as one of its own; "
                f"accepted is the audience of another service, or rules in {API} for a token of the API server",
            )


def _host(audience: str) -> str:
    """Returns an audience without what spellings of one address differ in: its scheme, its case, a port or `/`."""
    text = audience.strip().lower()
    text = text.partition("://")[2] or text
    for end in ("/", ".", ":443", ":6443"):
        text = text.removesuffix(end)
    return text


def _over(spec: AgentDeploymentSpec, ceiling: IdentityCeiling) -> _Found:
    yield from _rules(spec, ceiling)
    yield from _tokens(spec, ceiling)


def _rules(spec: AgentDeploymentSpec, ceiling: IdentityCeiling) -> _Found:
    asked = spec.identity.kubernetes_api
    if asked is None:
        return
    offers = ceiling.kubernetes_api
    offered = tuple(map(Rule.of, offers.rules)) if offers is not None else ()
    for index, rule in enumerate(identities.rules(spec)):
        missing = access.covered([rule], offered)
        if missing:
            words = "what one of its rules has in full" if offered else "no rule at all"
            yield (
                f"{API}.rules[{index}]",
                f"does not let agents {listed(missing, last='or', most=4)}; accepted is {words} "
                "(its spec.identity.kubernetesApi.rules)",
            )
    if offers is not None and asked.token_seconds > offers.max_token_seconds:
        yield (
            f"{API}.tokenSeconds",
            f"accepts tokens of up to {offers.max_token_seconds} s (its spec.identity.kubernetesApi.maxTokenSeconds), "
            f"and {asked.token_seconds} were asked for",
        )


def _tokens(spec: AgentDeploymentSpec, ceiling: IdentityCeiling) -> _Found:
    for index, token in enumerate(spec.identity.tokens):
        if token.audience not in ceiling.audiences:
            accepted = f"is {listed(ceiling.audiences, last='or')}" if ceiling.audiences else "is no token at all"
            yield (
                f"{TOKENS}[{index}].audience",
                f"does not let agents have tokens for {token.audience}; accepted {accepted} "
                "(its spec.identity.audiences)",
            )
        if token.expiration_seconds > ceiling.max_token_seconds:
            yield (
                f"{TOKENS}[{index}].expirationSeconds",
                f"accepts tokens of up to {ceiling.max_token_seconds} s (its spec.identity.maxTokenSeconds), and "
                f"{token.expiration_seconds} were asked for",
            )
