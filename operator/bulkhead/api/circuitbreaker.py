"""What opens an agent's circuit breaker and how it closes again: the policies' part, and the agent's own.

The trips of every policy that applies and those of the agent are put together and each is judged by itself, so that an
agent can only tighten. `plan.breaker` is the state machine and `plan.trips` judges the evidence. Lost isolation always
trips; there is no field for it.
"""

from typing import Annotated, Final, Literal

from pydantic import Field

from bulkhead.api.container import Command
from bulkhead.api.fields import DNS_LABEL_PATTERN, Distinct, Keyed, Model, Rule, Text, lacks, matches

MAX_QUERIES: Final = 32
"""Queries of one policy."""
MAX_TIGHTENED: Final = 16
"""Queries that one agent tightens."""
MAX_QUERY: Final = 2048
"""Characters of a query."""
MAX_DECIMAL: Final = 32
EVERY_ALERT: Final = "*"

_YEAR = "20[0-9]{2}"
_DAY = (
    rf"({_YEAR}-(0[13578]|1[02])-(0[1-9]|[12][0-9]|3[01])|{_YEAR}-(0[469]|11)-(0[1-9]|[12][0-9]|30)"
    rf"|{_YEAR}-02-(0[1-9]|1[0-9]|2[0-8])|20([02468][048]|[13579][26])-02-29)"
)
# In this century every fourth year is a leap year, so that a pattern tells what is a day. CEL's timestamp() would
# answer a day that is none with an error of its own instead of the message.
_TIME = rf"{_DAY}T([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\.[0-9]{{1,9}})?(Z|[+-]([01][0-9]|2[0-3]):[0-5][0-9])"

QueryName = Annotated[
    str,
    Text(
        63,
        rules=(
            matches(
                DNS_LABEL_PATTERN,
                "accepted are lower case letters, digits and '-', beginning and ending with a letter or digit, as in "
                "tool-calls",
            ),
        ),
    ),
]
Query = Annotated[
    str,
    Text(
        MAX_QUERY,
        rules=(
            lacks(r"^[\x00-\x20\x7f]*$", "accepted is a query in PromQL, not blank"),
            lacks(
                r"[\x00-\x08\x0b-\x1f\x7f-\x9f]",
                "accepted is text without control characters; line breaks and tabs are accepted",
            ),
        ),
    ),
]
"""PromQL. Whether it parses only Prometheus can say; what it said is in the status of the policy."""
Decimal = Annotated[
    str,
    Text(
        MAX_DECIMAL,
        rules=(
            matches(
                r"-?[0-9]{1,15}(\.[0-9]{1,9})?",
                'accepted is a decimal number in quotes, such as "100" or "0.25", with up to 15 digits before the '
                "point and 9 after it",
            ),
        ),
    ),
]
Times = Annotated[
    str,
    Text(
        MAX_DECIMAL,
        rules=(
            matches(
                r"[1-9][0-9]{0,5}(\.[0-9]{1,3})?",
                'accepted is a decimal number in quotes from "1" to "999999.999", such as "10" or "2.5": below 1 what '
                "is normal would trip",
            ),
        ),
    ),
]
ResetTime = Annotated[
    str,
    Text(
        64,
        rules=(
            matches(
                _TIME,
                "accepted is a time of RFC 3339 with a zone, such as 2026-01-31T12:00:00Z, in the years 2000 to 2099",
            ),
        ),
    ),
]
AlertName = Annotated[
    str,
    Text(
        256,
        rules=(
            matches(
                r"\*|[^\x00-\x20\x7f-\x9f*]([^\x00-\x1f\x7f-\x9f*]*[^\x00-\x20\x7f-\x9f*])?",
                "accepted is the value of the label alertname exactly, or '*' alone for every alert: there are no "
                "patterns",
            ),
        ),
    ),
]
WindowSeconds = Annotated[int, Field(ge=10, le=86_400)]
WaitSeconds = Annotated[int, Field(ge=10, le=86_400)]
Attempts = Annotated[int, Field(ge=0, le=100)]


class Count(Model):
    """So many in a sliding window."""

    count: Annotated[int, Field(ge=1, le=100)]
    """How many of them open the breaker. They are added up over all of the agent's replicas."""
    window_seconds: WindowSeconds = 600
    """Seconds of the window in which they are counted. It is not emptied when the operator restarts."""


class TightenedQuery(Model):
    """A query of the policies with a bound of the agent's own beside theirs."""

    name: QueryName
    """Name of the query, in each policy that applies and has one of that name."""
    threshold: Decimal | None = None
    """Bound for a query with above or below: a decimal number in quotes. What is looser than the policy's changes
    nothing."""
    times_normal: Times | None = None
    """Bound for a query with a baseline: how many times its own normal is too much. What is looser than the policy's
    changes nothing."""

    RULES = (
        Rule(
            "has(self.threshold) != has(self.timesNormal)",
            "accepted is exactly one of threshold and timesNormal",
            lambda query: (query.threshold is None) != (query.times_normal is None),
        ),
    )


class Recovery(Model):
    """How the breaker closes again, where the agent wants to be more careful than the policies."""

    mode: Literal["Automatic", "Manual"] | None = None
    """Manual waits for resetAt. Automatic tries again after the cool-down, unless a policy says Manual. What the
    policies say if not given."""
    cool_down_seconds: WaitSeconds | None = None
    """Seconds before the first try. They double with each further one. The longest that anybody names counts."""
    max_attempts: Attempts | None = None
    """Tries before only resetAt closes the breaker. The fewest that anybody names count."""
    trial_seconds: WaitSeconds | None = None
    """Seconds that the agent must behave after a try before the breaker closes. The longest that anybody names
    count."""


class CircuitBreaker(Model):
    """What opens the agent's breaker in addition to what the policies say, and how it closes again."""

    restarts: Count | None = None
    """Restarts of the agent's container; only what the policies say if not given."""
    out_of_memory: Count | None = None
    """Ends of the agent's container for want of memory; only what the policies say if not given."""
    cannot_start_seconds: WaitSeconds | None = None
    """Seconds for which a pod may not get to run; only what the policies say if not given."""
    queries: Annotated[list[TightenedQuery], Field(max_length=MAX_TIGHTENED), Keyed("name")] = Field(
        default_factory=list
    )
    """Queries of the policies with tighter bounds. A name that no policy has is not accepted."""
    recovery: Recovery = Field(default_factory=Recovery)
    """How the breaker closes again. It can only be more careful than the policies."""
    reset_at: ResetTime | None = None
    """A time of RFC 3339, such as 2026-01-31T12:00:00Z. What tripped before it is forgiven: the breaker closes and the
    attempts are counted anew. A time in the future does nothing until then."""


class PreStop(Model):
    """A command that runs in the agent's container before SIGTERM."""

    command: Command
    """The command and its arguments. No shell is involved unless it is named. It runs inside of suspendGraceSeconds,
    which it shares with what the agent does on SIGTERM, and when the agent is suspended without network."""


class Baseline(Model):
    """A bound that is relative: so many times what is normal for the agent itself."""

    query: Query
    """Query in PromQL that gives what is normal, such as the same rate over a day. Its series carry the labels
    namespace and agent."""
    times: Times
    """How many times its normal is too much: a decimal number in quotes."""
    at_least: Decimal
    """What the value must be at least to be too much, however low the normal is: a decimal number in quotes."""


_BOUNDS: Final = ("above", "below", "baseline")


class PolicyQuery(Model):
    """A query to Prometheus for all agents at once, and what is too much."""

    name: QueryName
    """Name of the query, by which agents tighten it and status shows it."""
    query: Query
    """Query in PromQL, for all agents at once: its series carry the labels namespace and agent, and no two series have
    the same."""
    interval_seconds: Annotated[int, Field(ge=5, le=3600)] = 15
    """Seconds between two evaluations."""
    above: Decimal | None = None
    """Trips when the value is greater: a decimal number in quotes."""
    below: Decimal | None = None
    """Trips when the value is smaller: a decimal number in quotes."""
    baseline: Baseline | None = None
    """Trips when the value is many times what is normal for the agent itself."""
    for_seconds: Annotated[int, Field(ge=0, le=3600)] = 0
    """Seconds for which it must hold on."""

    RULES = (
        Rule(
            f"[{', '.join(f'has(self.{bound})' for bound in _BOUNDS)}].filter(given, given).size() == 1",
            "accepted is exactly one of above, below and baseline",
            lambda query: sum(getattr(query, bound) is not None for bound in _BOUNDS) == 1,
        ),
    )


class AlertTrips(Model):
    """Alerts of Alertmanager that open the breaker of the agent that their labels namespace and agent name."""

    names: Annotated[list[AlertName], Field(max_length=64), Distinct()] = Field(default_factory=list)
    """Values of the label alertname, exactly; '*' is every alert that names an agent. None if empty."""


class Blind(Model):
    """What is done while the breaker cannot see: a query fails, or has no series of an agent that had one."""

    action: Literal["Open", "Wait"] = "Open"
    """Open opens the breaker after the patience. Wait only says Unknown in the condition CircuitClosed."""
    patience_seconds: Annotated[int, Field(ge=0, le=86_400)] = 300
    """Seconds that the breaker stays closed while it cannot see."""


class PolicyRecovery(Model):
    """How the breakers of agents close again."""

    mode: Literal["Automatic", "Manual"] = "Automatic"
    """Automatic tries again after the cool-down, Manual waits for the agent's resetAt."""
    cool_down_seconds: WaitSeconds = 30
    """Seconds before the first try. They double with each further one, up to an hour, and up to a fifth is added, so
    that agents that tripped together do not come back together."""
    max_attempts: Attempts = 5
    """Tries before only resetAt closes the breaker."""
    trial_seconds: WaitSeconds = 300
    """Seconds that an agent must behave after a try before the breaker closes. The first restart opens it again."""


class CircuitBreakerPolicy(Model):
    """What opens the breakers of agents and how they close again. Agents can tighten all of it and loosen none."""

    restarts: Count = Count(count=5)
    """Restarts of the agent's container."""
    out_of_memory: Count = Count(count=3)
    """Ends of the agent's container for want of memory."""
    cannot_start_seconds: WaitSeconds = 600
    """Seconds for which a pod may not get to run, for example because its image cannot be pulled."""
    queries: Annotated[list[PolicyQuery], Field(max_length=MAX_QUERIES), Keyed("name")] = Field(default_factory=list)
    """Queries to Prometheus, each for all agents at once."""
    alerts: AlertTrips = Field(default_factory=AlertTrips)
    """Alerts that open the breaker. None if not given."""
    blind: Blind = Blind()
    """What is done while a query has no answer."""
    recovery: PolicyRecovery = PolicyRecovery()
    """How the breaker closes again."""
