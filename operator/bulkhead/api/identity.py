"""The part of an AgentDeployment's spec that says who the agent is: rights in the API server, tokens for others.

A rule is what `rbac.authorization.k8s.io/v1` PolicyRule is, without nonResourceURLs (they belong to no namespace) and
without the spellings that RBAC takes and that name nothing, or something else than they seem to. Whether a rule may be
asked for at all is decided by `plan.access`.
"""

from typing import Annotated, Final

from pydantic import Field

from bulkhead.api.fields import ATOMIC, DNS_NAME_PATTERN, Keyed, Model, Text, lacks, matches

MIN_TOKEN_SECONDS: Final = 600
"""The least that a TokenRequest takes."""
MAX_TOKEN_SECONDS: Final = 3600
"""An hour. 3607 is beyond it, which is well: the API server signs a token for its own audience that asks for exactly
that many seconds for a whole year (--service-account-extend-token-expiration)."""
MAX_API_RULES: Final = 32
MAX_TOKENS: Final = 8

_RESOURCE = "[a-z0-9]([a-z0-9.-]*[a-z0-9])?"

ApiGroup = Annotated[
    str,
    Text(
        253,
        shortest=0,
        rules=(
            matches(
                rf"\*?|{DNS_NAME_PATTERN}",
                "accepted is the name of an API group without a version, such as apps; '' is the core group, '*' is "
                "every group",
            ),
        ),
    ),
]
ApiResource = Annotated[
    str,
    Text(
        127,
        rules=(
            # RBAC takes pods/* for a resource of that name, of which there is none: it would look like a right, or in
            # a policy like a bound, and be neither.
            matches(
                rf"\*|(\*|{_RESOURCE})(/{_RESOURCE})?",
                "accepted is a resource in the plural and lower case, such as pods or pods/log, '*/SUBRESOURCE' or "
                "'*'; subresources are named one by one, 'pods/*' means nothing in RBAC",
            ),
        ),
    ),
]
ResourceName = Annotated[
    str,
    # An empty name would match every request that has none in its path, as list and create have.
    Text(
        253,
        rules=(
            matches(
                r"[^\x00-\x20\x7f/%*]+",
                "accepted is the exact name of an object; '*' is no wildcard here, for every name leave resourceNames "
                "out",
            ),
        ),
    ),
]
Verb = Annotated[
    str,
    Text(
        64,
        rules=(
            matches(
                r"\*|[a-z][a-z:-]*",
                "accepted is a verb in lower case, such as get, list, watch, create, update, patch, delete or "
                "deletecollection; '*' is every verb",
            ),
        ),
    ),
]
Audience = Annotated[
    str,
    Text(256, rules=(matches(r"[^\x00-\x20\x7f]+", "accepted is an audience without spaces, such as vault"),)),
]
TokenSeconds = Annotated[int, Field(ge=MIN_TOKEN_SECONDS, le=MAX_TOKEN_SECONDS)]
FileName = Annotated[
    str,
    Text(
        63,
        rules=(
            matches(r"[A-Za-z0-9._-]+", "accepted is the name of a file: letters, digits, '.', '_' and '-'"),
            # What begins with '..' is the kubelet's own in such a volume.
            lacks(r"^\.\.|^\.$", "accepted is the name of a file that is not '.' and does not begin with '..'"),
        ),
    ),
]


class PolicyRule(Model):
    """Rights in one namespace: every verb, on every resource of every group, for every name."""

    api_groups: Annotated[list[ApiGroup], Field(min_length=1, max_length=16, json_schema_extra=ATOMIC)]
    """API groups, without versions: '' is the core group, that of pods and config maps; '*' is every group."""
    resources: Annotated[list[ApiResource], Field(min_length=1, max_length=32, json_schema_extra=ATOMIC)]
    """Resources in the plural, such as configmaps or pods/log; '*' is every resource and subresource."""
    resource_names: Annotated[list[ResourceName], Field(max_length=32, json_schema_extra=ATOMIC)] = Field(
        default_factory=list
    )
    """Names of the objects; every object if empty. With names, list and watch need a field selector on
    metadata.name, and create and deletecollection are never allowed: their requests carry no name."""
    verbs: Annotated[list[Verb], Field(min_length=1, max_length=16, json_schema_extra=ATOMIC)]
    """What may be done, such as get, list, watch, create, update, patch or delete; '*' is everything."""


class KubernetesApi(Model):
    """Rights in the agent's own namespace, and the token and route that go with them."""

    rules: Annotated[list[PolicyRule], Field(min_length=1, max_length=MAX_API_RULES, json_schema_extra=ATOMIC)]
    """Rules of a Role in the agent's namespace, each inside of what the policies allow. Secrets, exec, RBAC, tokens
    and a few more are never allowed, whatever a policy says."""
    token_seconds: TokenSeconds = MIN_TOKEN_SECONDS
    """Seconds for which a token is valid. It is renewed while the agent runs, and dies with its pod."""


class Token(Model):
    """A token by which another system knows the agent."""

    audience: Audience
    """For whom the token is, for example vault or https://gateway.example; one of those that the policies name. The
    API server itself is none."""
    expiration_seconds: TokenSeconds = MIN_TOKEN_SECONDS
    """Seconds for which it is valid. It is renewed at 80 % of them; who only checks its signature takes it until its
    end, suspended or not."""
    path: FileName
    """Name of its file in /var/run/bulkhead/tokens."""


class Identity(Model):
    """Who the agent is to the API server and to others."""

    kubernetes_api: KubernetesApi | None = None
    """Rights in the API server. Not given: no token in the pod and no route to the API server."""
    tokens: Annotated[list[Token], Field(max_length=MAX_TOKENS), Keyed("path")] = Field(default_factory=list)
    """Tokens for other audiences, each as a file in /var/run/bulkhead/tokens that the agent must read again."""
