"""The file of signals: what it may say, and what people are told who wrote something else."""

from __future__ import annotations

from pathlib import Path

import pytest

from bulkhead.signals import settings
from bulkhead.signals.settings import SettingsError, SignalsSettings

WHOLE = """
prometheus: {url: "https://prometheus.monitoring:9090/prom/", tokenFile: /t/prometheus, caFile: /t/ca.crt, timeoutSeconds: 5}
alertmanager: {port: 9999, tokenFile: /t/alertmanager, maxAgeSeconds: 600}
notifications:
- {url: "https://events.example/bulkhead?team=agents", tokenFile: /t/events}
- {url: "http://sink.monitoring"}
"""  # noqa: E501 (a file that somebody wrote)

PASSWORD = "hunter2hunter2"

REFUSED = {
    "no YAML": ("prometheus: {", "The file of signals is not YAML"),
    "a list": ("[]", "the file of signals: accepted is a map."),
    "a misspelt part": ("prometeus: {}", "prometeus is not a setting; perhaps prometheus was meant."),
    "a misspelt setting": ("prometheus: {url: 'http://p', tokenFiles: x}", "perhaps tokenFile was meant"),
    "a misspelt setting of Alertmanager's": ("alertmanager: {token: /t}", "perhaps tokenFile was meant"),
    "no URL": ("prometheus: {}", "prometheus.url is required and was not given."),
    "a host alone": ("prometheus: {url: 'prometheus:9090'}", "prometheus.url: accepted is http:// or https://"),
    "a user in the URL": (f"prometheus: {{url: 'https://me:{PASSWORD}@p'}}", "must hold no user and no password"),
    "a query in the API's URL": ("prometheus: {url: 'https://p?x=y'}", "prometheus.url: the API's own paths"),
    "a token over plain http": (
        "prometheus: {url: 'http://prometheus.monitoring:9090', tokenFile: /t}",
        "http:// would show the token to the network; accepted with a tokenFile is https://",
    ),
    "no patience at all": ("prometheus: {url: 'http://p', timeoutSeconds: 0}", "prometheus.timeoutSeconds"),
    "an hour of patience": ("prometheus: {url: 'http://p', timeoutSeconds: 3600}", "prometheus.timeoutSeconds"),
    "alerts from anybody": ("alertmanager: {port: 8083}", "alertmanager.tokenFile is required"),
    "a port that is none": ("alertmanager: {port: 0, tokenFile: /t}", "alertmanager.port"),
    "a port as text": ("alertmanager: {port: '8083', tokenFile: /t}", "alertmanager.port: accepted is a whole number"),
    "everybody is told": ("notifications: [" + "{url: 'http://a'}," * 17 + "]", "notifications"),
}


def read(tmp_path: Path, text: str) -> SignalsSettings:
    file = tmp_path / "signals.yaml"
    file.write_text(text)
    return settings.read(file)


def test_without_a_file_there_are_no_signals_from_outside() -> None:
    assert settings.read(None) == SignalsSettings()


def test_an_empty_file_says_the_same(tmp_path: Path) -> None:
    assert read(tmp_path, "") == SignalsSettings()


def test_a_file_is_read_with_all_that_it_says(tmp_path: Path) -> None:
    found = read(tmp_path, WHOLE)
    assert found.prometheus is not None and found.alertmanager is not None
    assert found.prometheus.url == "https://prometheus.monitoring:9090/prom"
    assert found.prometheus.token_file == Path("/t/prometheus")
    assert found.prometheus.timeout_seconds == 5
    assert (found.alertmanager.port, found.alertmanager.max_age_seconds) == (9999, 600)
    assert [one.url for one in found.notifications] == [
        "https://events.example/bulkhead?team=agents",
        "http://sink.monitoring",
    ]


def test_what_is_not_said_has_its_default(tmp_path: Path) -> None:
    found = read(tmp_path, "prometheus: {url: 'http://p'}\nalertmanager: {tokenFile: /t}")
    assert found.prometheus is not None and found.alertmanager is not None
    assert found.prometheus.timeout_seconds == 10
    assert (found.alertmanager.port, found.alertmanager.max_age_seconds) == (8083, 3600)


@pytest.mark.parametrize("host", ["127.0.0.1:9090", "[::1]:9090", "localhost"])
def test_a_token_may_go_to_loopback_in_plain_http(tmp_path: Path, host: str) -> None:
    found = read(tmp_path, f"prometheus: {{url: 'http://{host}', tokenFile: /t}}")
    assert found.prometheus is not None


@pytest.mark.parametrize(("text", "told"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_used_is_refused_with_what_would_be(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(SettingsError) as caught:
        read(tmp_path, text)
    assert told in str(caught.value)
    assert PASSWORD not in str(caught.value)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"The file of signals cannot be read: .*absent: FileNotFoundError"):
        settings.read(tmp_path / "absent")
