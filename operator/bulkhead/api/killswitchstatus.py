"""The status of a KillSwitch: whom it stopped, how far it is, and how long it took. Written by the operator alone."""

from typing import Annotated, Final

from pydantic import Field

from bulkhead.api.fields import ATOMIC, Keyed, Text
from bulkhead.api.status import ConditionStatus, Count, MicroTime, StatusModel

MAX_PENDING: Final = 64


class KillSwitchStatus(StatusModel):
    """Whom it stopped, how far it is, and how long it took. Written by the operator alone."""

    observed_generation: Count | None = None
    """The metadata.generation that this status is about."""
    matched: Count | None = None
    """How many agents it selects."""
    cut_off: Count | None = None
    """How many of these have no network any more."""
    stopped: Count | None = None
    """How many of these have no pod any more, as the API server and not a cache showed."""
    pending: Annotated[list[Annotated[str, Text(317)]], Field(max_length=MAX_PENDING, json_schema_extra=ATOMIC)] = (
        Field(default_factory=list)
    )
    """Agents that are not stopped yet, as NAMESPACE/NAME, sorted; at most 64."""
    started_at: MicroTime | None = None
    """When the operator first saw the kill switch."""
    cut_off_at: MicroTime | None = None
    """When all matched agents were first cut off."""
    stopped_at: MicroTime | None = None
    """When all matched agents were first stopped."""
    seconds: Annotated[str, Text(32)] | None = None
    """Seconds from startedAt to stoppedAt, a decimal number."""
    conditions: Annotated[list[ConditionStatus], Field(max_length=16), Keyed("type")] = Field(default_factory=list)
    """CutOff and Stopped."""
