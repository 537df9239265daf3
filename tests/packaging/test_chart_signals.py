"""Signals in the chart: what the operator is told of Prometheus, Alertmanager and who is notified, and let to."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
import yaml

from bulkhead.main import arguments
from bulkhead.signals import settings
from tests.packaging.rendering import Manifest, mounted, of_kind, render, the

PROMETHEUS = {"to": [{"ipBlock": {"cidr": "192.0.2.7/32"}}], "ports": [{"protocol": "TCP", "port": 9090}]}
RECEIVER = {"to": [{"ipBlock": {"cidr": "192.0.2.8/32"}}], "ports": [{"protocol": "TCP", "port": 443}]}
SENDERS = [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}]
SIGNALS: Manifest = {
    "prometheus": {
        "url": "https://192.0.2.7:9090/prometheus",
        "secret": "prometheus-reader",
        "configMap": "prometheus-authority",
        "timeoutSeconds": 5,
        "egress": [PROMETHEUS],
    },
    "alertmanager": {"enabled": True, "secret": "alert-senders", "from": SENDERS, "maxAgeSeconds": 600},
    "notifications": [
        {"url": "http://192.0.2.9/plain"},
        {"url": "https://192.0.2.8/events?source=bulkhead", "secret": "receiver", "egress": [RECEIVER]},
    ],
}
VALUES: Manifest = {"signals": SIGNALS}


@pytest.fixture(scope="module")
def objects(helm: Path) -> list[Manifest]:
    return render(helm, VALUES)


def test_the_operator_reads_the_file_that_the_chart_writes(
    objects: list[Manifest], pod_spec: Manifest, tmp_path: Path
) -> None:
    path = arguments([one for one in pod_spec["containers"][0]["args"] if "$" not in one]).signals
    volume, part = mounted(pod_spec)[str(path)]
    assert (volume["configMap"]["name"], part) == ("bulkhead-signals", "signals.yaml")
    written = tmp_path / "signals.yaml"
    written.write_text(the(objects, "ConfigMap", "bulkhead-signals")["data"]["signals.yaml"])
    folder = Path("/etc/bulkhead/signals")
    assert settings.read(written) == settings.SignalsSettings(
        prometheus=settings.PrometheusSettings(
            url="https://192.0.2.7:9090/prometheus",
            token_file=folder / "prometheus" / "token",
            ca_file=folder / "prometheus" / "ca.crt",
            timeout_seconds=5,
        ),
        alertmanager=settings.AlertmanagerSettings(
            port=8083, token_file=folder / "alertmanager" / "token", max_age_seconds=600
        ),
        notifications=(
            settings.NotificationSettings(url="http://192.0.2.9/plain"),
            settings.NotificationSettings(
                url="https://192.0.2.8/events?source=bulkhead", token_file=folder / "notification-1" / "token"
            ),
        ),
    )


def test_of_secrets_and_authorities_one_key_each_is_a_file_beside_it(pod_spec: Manifest) -> None:
    sources = {
        path.rpartition("/")[2]: volume["projected"]["sources"]
        for path, (volume, _) in mounted(pod_spec).items()
        if path.startswith("/etc/bulkhead/signals/")
    }

    def of(kind: str, name: str, key: str) -> Manifest:
        return {kind: {"name": name, "items": [{"key": key, "path": key}]}}

    assert sources == {
        "prometheus": [
            of("secret", "prometheus-reader", "token"),
            of("configMap", "prometheus-authority", "ca.crt"),
        ],
        "alertmanager": [of("secret", "alert-senders", "token")],
        "notification-1": [of("secret", "receiver", "token")],
    }


def test_alerts_have_a_service_and_come_from_those_who_are_named(objects: list[Manifest], pod_spec: Manifest) -> None:
    service = the(objects, "Service", "bulkhead-alerts")["spec"]
    assert service["selector"] == the(objects, "Deployment")["spec"]["selector"]["matchLabels"]
    assert service["ports"] == [{"name": "alerts", "port": 8083, "targetPort": "alerts", "protocol": "TCP"}]
    assert {"name": "alerts", "containerPort": 8083} in pod_spec["containers"][0]["ports"]
    rules = the(objects, "NetworkPolicy")["spec"]["ingress"]
    assert rules[1:] == [{"from": SENDERS, "ports": [{"protocol": "TCP", "port": "alerts"}]}]


def test_a_receiver_of_alerts_whose_senders_are_not_named_is_open_to_nobody(helm: Path) -> None:
    objects = render(helm, {"signals": {"alertmanager": {"enabled": True, "secret": "x"}}})
    assert [rule["ports"][0]["port"] for rule in the(objects, "NetworkPolicy")["spec"]["ingress"]] == ["canary"]


def test_the_operator_is_let_to_what_prometheus_and_receivers_say(objects: list[Manifest]) -> None:
    rules = the(objects, "NetworkPolicy")["spec"]["egress"]
    assert PROMETHEUS in rules and RECEIVER in rules and len(rules) == 4


def test_other_signals_make_other_pods(helm: Path) -> None:
    def checksum(signals: Manifest) -> str | None:
        annotations = the(render(helm, {"signals": signals}), "Deployment")["spec"]["template"]["metadata"][
            "annotations"
        ]
        found: str | None = annotations.get("checksum/signals")
        return found

    assert checksum({}) is None
    assert checksum(SIGNALS) != checksum({**SIGNALS, "notifications": []})


def test_without_signals_there_is_nothing_of_them(default_objects: list[Manifest], pod: Manifest) -> None:
    assert "signal" not in yaml.safe_dump(pod) and "alert" not in yaml.safe_dump(pod)
    named = {one["metadata"]["name"] for one in default_objects}
    assert not named & {"bulkhead-signals", "bulkhead-alerts"}


def test_each_signal_can_be_there_alone(helm: Path) -> None:
    for name, signals in (
        ("prometheus", {"prometheus": {"url": "http://192.0.2.7:9090"}}),
        ("alertmanager", {"alertmanager": {"enabled": True, "secret": "x"}}),
        ("notifications", {"notifications": [{"url": "http://192.0.2.9"}]}),
    ):
        text = the(render(helm, {"signals": signals}), "ConfigMap", "bulkhead-signals")["data"]["signals.yaml"]
        assert list(yaml.safe_load(text)) == [name]


def test_more_notifications_than_ten_keep_their_files_apart(helm: Path) -> None:
    receivers = [{"url": f"https://192.0.2.9/{number}", "secret": f"s{number}"} for number in range(12)]
    objects = render(helm, {"signals": {"notifications": receivers}})
    written = yaml.safe_load(the(objects, "ConfigMap", "bulkhead-signals")["data"]["signals.yaml"])["notifications"]
    files = mounted(the(objects, "Deployment")["spec"]["template"]["spec"])
    shown = {
        one["url"]: files[one["tokenFile"].rpartition("/")[0]][0]["projected"]["sources"][0]["secret"]["name"]
        for one in written
    }
    assert shown == {one["url"]: one["secret"] for one in receivers}


@pytest.mark.parametrize(
    ("signals", "complaint"),
    [
        pytest.param(
            {"prometheus": {"url": "prometheus:9090"}}, "/signals/prometheus/url", id="an address without http"
        ),
        pytest.param(
            {"prometheus": {"url": "https://a:b@p"}}, "/signals/prometheus/url", id="a password in the address"
        ),
        pytest.param({"prometheus": {"url": "https://:9090"}}, "/signals/prometheus/url", id="a port of nobody"),
        pytest.param({"prometheus": {"url": "https://p:65536"}}, "/signals/prometheus/url", id="a port too high"),
        pytest.param({"prometheus": {"url": "https://p:http"}}, "/signals/prometheus/url", id="a port by name"),
        pytest.param({"prometheus": {"url": "https://[::1"}}, "/signals/prometheus/url", id="an open bracket"),
        pytest.param({"notifications": [{"url": "http://n:99999/x"}]}, "/notifications/0/url", id="its port too high"),
        pytest.param(
            {"prometheus": {"url": "https://p?x=1"}}, "/signals/prometheus/url", id="a query in Prometheus' address"
        ),
        pytest.param({"prometheus": {"token": "x"}}, "'token' not allowed", id="a token among the values"),
        pytest.param({"prometheus": {"egress": [{}]}}, "/signals/prometheus/egress/0", id="egress to all"),
        pytest.param(
            {"prometheus": {"url": "http://p", "secret": "x"}}, "would show its token", id="a token in the clear"
        ),
        pytest.param(
            {"notifications": [{"url": "http://n", "secret": "x"}]}, "would show its token", id="another in the clear"
        ),
        pytest.param({"alertmanager": {"enabled": True}}, "/signals/alertmanager/secret", id="alerts from anybody"),
        pytest.param({"alertmanager": {"from": [{}]}}, "/signals/alertmanager/from/0", id="alerts from everywhere"),
        pytest.param({"notifications": [{"url": ""}]}, "/signals/notifications/0/url", id="a notification to nobody"),
        pytest.param(
            {"notifications": [{"uri": "https://n"}]}, "'uri' not allowed", id="a receiver's misspelt address"
        ),
    ],
)
def test_what_cannot_be_meant_is_refused_by_name(helm: Path, signals: Manifest, complaint: str) -> None:
    with pytest.raises(subprocess.CalledProcessError) as refused:
        render(helm, {"signals": signals})
    assert complaint in str(refused.value.stderr)


def test_the_files_hold_no_secret_and_no_right_to_read_one_comes_with_them(objects: list[Manifest]) -> None:
    for kind in ("Role", "ClusterRole"):
        for role in of_kind(objects, kind):
            for rule in role["rules"]:
                assert "secrets" not in rule["resources"] or not {"get", "list", "watch"} & set(rule["verbs"])
