"""What can go wrong between the operator and the API server."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

MESSAGE_LIMIT = 2048
"""Characters of the API server's message that are kept: an Invalid can quote a whole object."""
RETRY_AFTER_LIMIT = 3600.0
"""The longest wait, in seconds, that a server is believed to mean."""


class ClusterError(Exception):
    """A request did not do what it was sent for."""


class Unreachable(ClusterError):  # noqa: N818 - the word says it: nobody answered
    """No complete answer came: whether the request took effect is unknown."""


class NotConfigured(ClusterError):  # noqa: N818 - a state, not a fault
    """Neither a kubeconfig nor a service account was found, or it cannot be used."""


class ApiError(ClusterError):
    """The API server answered, and the answer was no.

    Attributes:
        status: The HTTP status.
        reason: The machine-readable reason of the `Status` object, such as `AlreadyExists`; empty when the answer
            carried none.
        message: The API server's own words, bounded.
        retry_after: Seconds that the server asks to wait, from `Retry-After` or `details.retryAfterSeconds`; None when
            it does not say.
        causes: What was wrong with which field, `field: message`, where the server says so.
    """

    def __init__(
        self,
        status: int,
        reason: str = "",
        message: str = "",
        *,
        retry_after: float | None = None,
        causes: tuple[str, ...] = (),
        request: str = "",
    ) -> None:
        """Keeps the parts; `request` (method and path) only serves the text of the error."""
        self.status = status
        self.reason = reason
        self.message = message[:MESSAGE_LIMIT]
        self.retry_after = retry_after
        self.causes = causes
        head = f"{request}: " if request else ""
        super().__init__(f"{head}{status} {reason}: {self.message}" if reason else f"{head}{status}: {self.message}")

    @property
    def not_found(self) -> bool:
        """Whether the object, or the resource, does not exist."""
        return self.status == 404

    @property
    def conflict(self) -> bool:
        """Whether a precondition (UID, resourceVersion, field ownership) did not hold.

        A patch that carries another UID than the object's is answered as 422, because the field is immutable.
        """
        return (self.status == 409 and self.reason != "AlreadyExists") or self._other_uid

    @property
    def already_exists(self) -> bool:
        """Whether an object of that name exists."""
        return self.status == 409 and self.reason == "AlreadyExists"

    @property
    def invalid(self) -> bool:
        """Whether the object breaks the schema, a validation rule or a CEL rule."""
        return self.status in (400, 422) and not self._other_uid

    @property
    def _other_uid(self) -> bool:
        return self.status == 422 and any(cause.startswith("metadata.uid: ") for cause in self.causes)

    @property
    def forbidden(self) -> bool:
        """Whether RBAC, admission or a quota refused."""
        return self.status == 403

    @property
    def unauthorized(self) -> bool:
        """Whether the credentials were not accepted."""
        return self.status == 401

    @property
    def throttled(self) -> bool:
        """Whether the API server asks for patience (priority and fairness, or an etcd that is behind)."""
        return self.status == 429

    @property
    def gone(self) -> bool:
        """Whether a resourceVersion or a continue token is too old to go on from."""
        return self.status == 410 or self.reason in ("Expired", "Gone")


def api_error(*, status: int, body: bytes, retry_after: str | None = None, request: str = "") -> ApiError:
    """Reads an error answer, which is a `Status` object unless something before the API server gave it.

    Args:
        status: The HTTP status.
        body: The answer's body.
        retry_after: The `Retry-After` header, if there was one.
        request: Method and path, for the text of the error.
    """
    try:
        document = json.loads(body)
    except ValueError:
        document = None
    if not isinstance(document, dict) or document.get("kind") != "Status":
        text = body[:MESSAGE_LIMIT].decode("utf-8", "replace").strip()
        return ApiError(status, message=text, retry_after=_seconds(retry_after), request=request)
    return status_error(document, status=status, retry_after=_seconds(retry_after), request=request)


def status_error(
    document: dict[str, Any], *, status: int | None = None, retry_after: float | None = None, request: str = ""
) -> ApiError:
    """Makes an error of a `Status` object, as error answers and watch events of type ERROR carry it."""
    details = document.get("details")
    details = details if isinstance(details, dict) else {}
    asked, listed = details.get("retryAfterSeconds"), details.get("causes")
    if retry_after is None and isinstance(asked, int | float) and asked > 0:
        retry_after = float(min(asked, RETRY_AFTER_LIMIT))
    causes = tuple(
        f"{cause.get('field') or '(object)'}: {without_value(str(cause.get('message') or ''))[:MESSAGE_LIMIT]}"
        for cause in (listed if isinstance(listed, list) else ())
        if isinstance(cause, dict)
    )
    code = status if status is not None else document.get("code")
    message = str(document.get("message") or "")
    if code == 422 and causes:
        # The API server's own message repeats values, whole objects among them; this goes into logs, events and status.
        subject = " ".join(str(details[part]) for part in ("kind", "name") if details.get(part)) or "the object"
        message = f"{subject} is invalid: " + "; ".join(causes)
    return ApiError(
        code if isinstance(code, int) else 500,
        str(document.get("reason") or ""),
        message,
        retry_after=retry_after,
        causes=causes,
        request=request,
    )


def without_value(cause: str) -> str:
    """Returns a cause of an Invalid without the value that it quotes, which may be a secret.

    The API server writes `Invalid value: VALUE: explanation` (field.Error in apimachinery). A value can have colons and
    quotes of its own, and the explanation comes after it, so only what follows the last colon is kept.
    """
    kind, quoted, rest = cause.partition(" value: ")
    if not quoted:
        return cause
    return f"{kind} value: {rest.rpartition(': ')[2]}" if ": " in rest else f"{kind} value"


def _seconds(header: str | None) -> float | None:
    """Reads `Retry-After`: seconds or an HTTP date (RFC 9110, section 10.2.3)."""
    if not header:
        return None
    try:
        return min(max(0.0, float(header)), RETRY_AFTER_LIMIT)
    except ValueError:
        pass
    try:
        when = parsedate_to_datetime(header)
    except ValueError:
        return None
    if when.tzinfo is None:
        when = when.replace(tzinfo=UTC)
    return min(max(0.0, (when - datetime.now(UTC)).total_seconds()), RETRY_AFTER_LIMIT)
