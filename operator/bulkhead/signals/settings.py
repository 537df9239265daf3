"""The operator's file of signals: which Prometheus it asks, where Alertmanager reaches it, and who is told.

    prometheus: {url: "https://prometheus.monitoring:9090", tokenFile: /var/run/signals/prometheus/token}
    alertmanager: {port: 8083, tokenFile: /var/run/signals/alertmanager/token}
    notifications:
    - url: https://events.example/bulkhead

The file holds no secret: tokens are files of their own that it names, read anew whenever they are needed.
"""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator
from pydantic.alias_generators import to_camel

from bulkhead.api import configfile
from bulkhead.api.configfile import SettingsError

__all__ = [
    "AlertmanagerSettings",
    "NotificationSettings",
    "PrometheusSettings",
    "SettingsError",
    "SignalsSettings",
    "read",
]

MAX_NOTIFICATIONS = 16
DEFAULT_ALERT_PORT = 8083

_WHAT = "the file of signals"
_ACCEPTED = "accepted is http:// or https:// with a host, and perhaps a port and a path"


def _url(value: str) -> str:
    try:
        parts = urlsplit(value)
        _ = parts.port
    except ValueError:
        raise ValueError(_ACCEPTED) from None
    if parts.username or parts.password:
        raise ValueError(f"a URL stands in logs, so it must hold no user and no password; {_ACCEPTED}")
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.fragment:
        raise ValueError(_ACCEPTED)
    return value


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _base(value: str) -> str:
    if urlsplit(value).query:
        raise ValueError(f"the API's own paths are added to it, so it must have no query; {_ACCEPTED}")
    return value.rstrip("/")


_Url = Annotated[str, AfterValidator(_url), Field(max_length=2048)]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, alias_generator=to_camel, populate_by_name=True)


class Client(_Model):
    """What is needed to ask a server.

    Attributes:
        url: of the server.
        token_file: bearer token; None: none is sent. With it, plain http is accepted to loopback only.
        ca_file: PEM bundle that the server's certificate is verified with; the system's by default.
    """

    url: _Url
    token_file: Path | None = None
    ca_file: Path | None = None

    @model_validator(mode="after")
    def _shows_no_token(self) -> Client:
        parts = urlsplit(self.url)
        if self.token_file and parts.scheme == "http" and not _is_loopback(str(parts.hostname)):
            raise ValueError("http:// would show the token to the network; accepted with a tokenFile is https://")
        return self


class PrometheusSettings(Client):
    """The Prometheus, or whatever speaks its HTTP API, that queries are put to.

    Attributes:
        url: below which `/api/v1/query` is.
        timeout_seconds: for one query; a query that takes longer has failed.
    """

    url: Annotated[_Url, AfterValidator(_base)]
    timeout_seconds: Annotated[float, Field(ge=0.1, le=60)] = 10.0


class AlertmanagerSettings(_Model):
    """Where Alertmanager delivers to.

    Attributes:
        port: that the operator listens on.
        token_file: the bearer token that a delivery must carry.
        max_age_seconds: an alert that began longer ago is a replay.
    """

    port: Annotated[int, Field(strict=True, ge=1, le=65535)] = DEFAULT_ALERT_PORT
    token_file: Path
    max_age_seconds: Annotated[int, Field(strict=True, ge=60, le=604_800)] = 3600


class NotificationSettings(Client):
    """One receiver of notifications: CloudEvents are posted to its URL."""


class SignalsSettings(_Model):
    """The file as a whole; what is absent is not used."""

    prometheus: PrometheusSettings | None = None
    alertmanager: AlertmanagerSettings | None = None
    notifications: Annotated[tuple[NotificationSettings, ...], Field(max_length=MAX_NOTIFICATIONS)] = ()


_PARTS: dict[str, type[BaseModel]] = {
    "prometheus": PrometheusSettings,
    "alertmanager": AlertmanagerSettings,
    "notifications": NotificationSettings,
}


def read(path: Path | None) -> SignalsSettings:
    """Reads the file; without one there are no signals from outside.

    Raises:
        SettingsError: it cannot be read, or something in it cannot be used.
    """
    if path is None:
        return SignalsSettings()
    raw = configfile.load(path, what=_WHAT)
    return configfile.validated(SignalsSettings, raw, where="", what=_WHAT, parts=_PARTS)
