"""Issuers in the chart: what the operator is told, shown and let to, and where Secrets may be copied from."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from bulkhead.issuers import settings
from bulkhead.main import arguments
from tests.packaging.rendering import Manifest, mounted, of_kind, render, the

EGRESS = {"to": [{"ipBlock": {"cidr": "192.0.2.7/32"}}], "ports": [{"protocol": "TCP", "port": 8200}]}
VALUES: Manifest = {
    "issuers": [
        {
            "name": "hashi",
            "type": "vault",
            "settings": {"address": "https://192.0.2.7:8200", "role": "bulkhead"},
            "configMap": "vault-authority",
            "egress": [EGRESS],
        },
        {"name": "own", "type": "vault", "settings": {"tokenFile": "/elsewhere"}, "audience": "https://vault.example"},
        {"name": "stock", "type": "postgres", "settings": {"host": "192.0.2.8"}, "secret": "stock-issuer"},
        {"name": "desk", "type": "example.com/desk", "secret": "desk-issuer", "configMap": "desk-authority"},
    ],
    "secretSources": ["shared", "more"],
}


@pytest.fixture(scope="module")
def objects(helm: Path) -> list[Manifest]:
    return render(helm, VALUES)


def test_the_operator_reads_the_file_that_the_chart_writes(
    objects: list[Manifest], pod_spec: Manifest, tmp_path: Path
) -> None:
    path = arguments([one for one in pod_spec["containers"][0]["args"] if "$" not in one]).issuers
    volume, part = mounted(pod_spec)[str(path)]
    assert (volume["configMap"]["name"], part) == ("bulkhead-issuers", "issuers.yaml")
    written = tmp_path / "issuers.yaml"
    written.write_text(the(objects, "ConfigMap", "bulkhead-issuers")["data"]["issuers.yaml"])
    read = settings.read(written)
    assert {name: one.type for name, one in read.issuers.items()} == {
        "hashi": "vault",
        "own": "vault",
        "stock": "postgres",
        "desk": "example.com/desk",
    }
    assert read.secret_sources == ("shared", "more")
    assert read.issuers["hashi"].settings["tokenFile"] == "/var/run/bulkhead/operator-tokens/hashi"
    assert read.issuers["own"].settings == {"tokenFile": "/elsewhere"}
    assert read.issuers["stock"].settings["passwordFile"] == "/etc/bulkhead/issuers/stock/password"
    assert read.issuers["desk"].settings == {}


def test_existing_secrets_and_authorities_are_files_beside_it(pod_spec: Manifest) -> None:
    sources = {
        path.rpartition("/")[2]: volume["projected"]["sources"]
        for path, (volume, _) in mounted(pod_spec).items()
        if path.startswith("/etc/bulkhead/issuers/")
    }
    assert sources == {
        "hashi": [{"configMap": {"name": "vault-authority"}}],
        "stock": [{"secret": {"name": "stock-issuer"}}],
        "desk": [{"secret": {"name": "desk-issuer"}}, {"configMap": {"name": "desk-authority"}}],
    }


def test_a_vault_is_shown_a_token_of_minutes_that_nobody_else_takes(pod_spec: Manifest) -> None:
    volume, _ = mounted(pod_spec)["/var/run/bulkhead/operator-tokens"]
    assert [one["serviceAccountToken"] for one in volume["projected"]["sources"]] == [
        {"path": "hashi", "audience": "vault", "expirationSeconds": 600},
        {"path": "own", "audience": "https://vault.example", "expirationSeconds": 600},
    ]


def test_the_operator_is_let_to_what_an_issuer_says(objects: list[Manifest]) -> None:
    rules = the(objects, "NetworkPolicy")["spec"]["egress"]
    assert EGRESS in rules and len(rules) == 3


def test_other_issuers_make_other_pods(helm: Path) -> None:
    def checksum(values: Manifest) -> str | None:
        annotations = the(render(helm, values), "Deployment")["spec"]["template"]["metadata"]["annotations"]
        found: str | None = annotations.get("checksum/issuers")
        return found

    assert checksum({}) is None
    assert checksum(VALUES) == checksum({**VALUES, "logLevel": "debug"})
    assert checksum(VALUES) != checksum({**VALUES, "secretSources": ["shared"]})


def test_secrets_are_read_in_the_namespaces_that_are_named_and_nowhere_else(objects: list[Manifest]) -> None:
    for kind in ("Role", "RoleBinding"):
        found = [one for one in of_kind(objects, kind) if one["metadata"]["name"] == "bulkhead-source"]
        assert [one["metadata"]["namespace"] for one in found] == ["shared", "more"]
    reading = {
        one["metadata"].get("namespace")
        for kind in ("Role", "ClusterRole")
        for one in of_kind(objects, kind)
        for rule in one["rules"]
        if "secrets" in rule["resources"] and {"get", "list", "watch"} & set(rule["verbs"])
    }
    assert reading == {"shared", "more"}


def test_without_issuers_and_sources_there_is_nothing_of_them(default_objects: list[Manifest], pod: Manifest) -> None:
    assert "issuer" not in yaml.safe_dump(pod)
    assert "bulkhead-issuers" not in {one["metadata"]["name"] for one in default_objects}


def test_sources_alone_are_told_too(helm: Path) -> None:
    objects = render(helm, {"secretSources": ["shared"]})
    text = the(objects, "ConfigMap", "bulkhead-issuers")["data"]["issuers.yaml"]
    assert yaml.safe_load(text) == {"issuers": [], "secretSources": ["shared"]}
