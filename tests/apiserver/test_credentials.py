"""Credentials on a real API server, by an operator that is a process of its own and an issuer of a third party."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from devcluster.api import RunningCluster
from tests.apiserver.agents import PATHS
from tests.apiserver.credentials import ASKED, FINALIZER, LABEL, RECORDS, Agents, Files, allowed
from tests.apiserver.rest import Rest
from tests.operator_process import NAMESPACE, OperatorProcess, eventually, install_rights

PATIENCE = 20
"""Long enough for a status to be written and seen, and for the issuer's return to be noticed, before it ends."""


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    return Files(tmp_path_factory.mktemp("files"))


@pytest.fixture(scope="module")
def operator(
    apiserver: RunningCluster, rest: Rest, files: Files, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[OperatorProcess]:
    folder: Path = tmp_path_factory.mktemp("operator")
    extra = [*files.arguments, f"--revocation-patience={PATIENCE}"]
    kubeconfig = install_rights(apiserver)
    with allowed(rest), OperatorProcess(kubeconfig, folder, extra=extra, packages=[files.packages]) as running:
        yield running


@pytest.fixture
def lab(operator: OperatorProcess, files: Files, rest: Rest, sandbox: str) -> Iterator[Agents]:
    yield Agents(rest, sandbox)
    files.clear()


def test_an_agent_is_built_when_its_credential_is_there_and_its_status_says_what_it_holds(
    lab: Agents, files: Files
) -> None:
    # One that is only slow might have answered before anybody has looked.
    files.behave(issue={"do": "down"})
    lab.ask("scout")
    eventually(lambda: lab.condition("scout", "Ready").get("reason") == "WaitingForCredentials", "it waits", within=30)
    assert lab.get("StatefulSet", "scout") is None
    files.behave()
    lab.until_holding(files, "scout")
    (account,) = files.valid("scout")
    (record,) = eventually(lambda: [one for one in lab.records("scout") if one["data"]["state"] == "Active"], "active")
    assert record["metadata"]["labels"][LABEL] == account.rpartition("-")[2]
    assert json.loads(record["data"]["handle"]) == {"account": account}

    def told() -> dict[str, Any] | None:
        # Where the watch tells of the record before the answer to its write, what failed before is told once more.
        entries: list[dict[str, Any]] = lab.status("scout").get("credentials") or []
        return next((one for one in entries if one["state"] == "Active"), None)

    entry = eventually(told, "its status says what it holds")
    assert lab.condition("scout", "CredentialsReady")["status"] == "True"
    assert (entry["name"], entry["issuer"]) == ("store", "files")
    assert entry["message"] == f"account {account}"
    assert lab.finalizers("scout") == [FINALIZER]


def test_the_secret_of_a_credential_is_opaque_the_agents_own_and_says_whose_lease_it_holds(
    lab: Agents, files: Files
) -> None:
    uid = lab.ask("scout")["metadata"]["uid"]
    lab.until_holding(files, "scout")
    found = lab.secret("scout")
    assert found is not None
    assert found["type"] == "Opaque"
    assert sorted(found["data"]) == ["token"]
    assert [one["uid"] for one in found["metadata"]["ownerReferences"]] == [uid]
    (account,) = files.valid("scout")
    assert found["metadata"]["annotations"] == {LABEL: account.rpartition("-")[2]}


def test_an_agent_without_credentials_has_no_finalizer_no_condition_and_no_record(lab: Agents) -> None:
    lab.create("plain", suspendGraceSeconds=0)
    lab.until_built(["plain"])
    lab.patch("plain", suspend=True)
    lab.until_state("plain", "Suspended")
    assert lab.finalizers("plain") == []
    assert lab.condition("plain", "CredentialsReady") == {}
    assert lab.records("plain") == []


def test_a_suspension_revokes_what_an_agent_holds_and_a_resumed_agent_gets_another(lab: Agents, files: Files) -> None:
    lab.ask("scout")
    first = lab.until_holding(files, "scout")
    lab.patch("scout", suspend=True)
    lab.until_state("scout", "Suspended", within=60)
    eventually(
        lambda: lab.status("scout").get("suspension", {}).get("credentialsRevokedAt"), "the step's time", within=60
    )
    assert not files.accepts(first)
    assert files.valid("scout") == {}
    assert lab.secret("scout") is None
    assert lab.records("scout") == []
    assert "unrevoked" not in lab.status("scout").get("suspension", {})
    eventually(lambda: lab.finalizers("scout") == [], "the finalizer is gone")
    lab.patch("scout", suspend=False)
    second = lab.until_holding(files, "scout")
    assert second != first
    assert not files.accepts(first)


def test_what_cannot_be_revoked_is_named_and_tried_until_it_is_while_the_processes_are_gone(
    lab: Agents, files: Files
) -> None:
    lab.ask("scout")
    lab.until_holding(files, "scout")
    files.behave(revoke={"do": "down"})
    lab.patch("scout", suspend=True)
    eventually(lambda: not lab.list("Pod"), "the processes are gone", within=60)
    named = eventually(lambda: lab.status("scout").get("suspension", {}).get("unrevoked"), "it is named", within=60)
    assert "store" in named[0]
    # It is named as soon as it is being revoked; its Secret is deleted meanwhile.
    eventually(lambda: lab.secret("scout") is None, "its Secret is gone")
    eventually(lambda: "nobody answers" in str(lab.status("scout").get("suspension", {}).get("unrevoked")), "and why")
    assert "credentialsRevokedAt" not in lab.status("scout").get("suspension", {})
    files.behave()
    lab.until_revoked(files, "scout")
    eventually(
        lambda: lab.status("scout").get("suspension", {}).get("credentialsRevokedAt"), "the step's time", within=60
    )
    assert "unrevoked" not in lab.status("scout").get("suspension", {})


def test_a_credential_is_rotated_before_it_ends_and_the_one_before_lives_on_for_a_while(
    lab: Agents, files: Files
) -> None:
    # Between its rotation and its end the one before has to be renewed: that is a third of this.
    files.behave(life=30)
    lab.ask("scout")
    first = lab.until_holding(files, "scout")
    eventually(lambda: lab.token("scout") != first, "another credential", within=60)
    files.behave()
    assert files.accepts(lab.token("scout"))
    assert files.accepts(first)
    eventually(lambda: len(lab.records("scout")) >= 2, "both are on the books")


def test_a_credential_that_ends_and_cannot_be_replaced_suspends_its_agent_which_comes_back_with_another(
    lab: Agents, files: Files
) -> None:
    files.behave(life=5)
    lab.ask("scout")
    lab.until_holding(files, "scout")
    files.behave(life=5, issue={"do": "down"}, renew={"do": "down"})

    def stopped() -> bool:
        # Once it has stopped, nothing but the missing credential holds it, and its suspension is the last one.
        records = [lab.status("scout").get(record) for record in ("suspension", "lastSuspension")]
        return "CredentialsExpired" in str(records)

    eventually(stopped, "it is stopped", within=60)
    eventually(lambda: lab.get("StatefulSet", "scout") is None, "it is gone", within=30)
    files.behave()
    lab.until_holding(files, "scout", within=180)


def test_what_the_issuer_refuses_is_told_in_its_words_and_the_agent_is_not_built(lab: Agents, files: Files) -> None:
    files.behave(issue={"do": "refuse"})
    lab.ask("scout")
    eventually(
        lambda: "accepted is something else" in lab.condition("scout", "CredentialsReady").get("message", ""),
        "the issuer's words",
        within=30,
    )
    assert lab.get("StatefulSet", "scout") is None
    lab.patch("scout", suspend=True)
    lab.until_revoked(files, "scout")


def test_an_exception_of_an_issuer_is_told_by_its_type_alone(lab: Agents, files: Files) -> None:
    files.behave(issue={"do": "garbage"})
    lab.ask("scout")
    eventually(lambda: "KeyError" in lab.condition("scout", "CredentialsReady").get("message", ""), "told", within=30)
    assert "library" not in lab.condition("scout", "CredentialsReady")["message"]


def test_a_slow_issuer_delays_nobody_else(lab: Agents, files: Files) -> None:
    files.behave("other", issue={"do": "slow", "seconds": 30}, revoke={"do": "slow", "seconds": 30})
    # More than there are workers, so that those who wait for it inside of one would hold up all.
    for number in range(40):
        lab.ask(f"slow-{number}", {**ASKED, "custom": {"issuer": "other"}})
    lab.ask("quick")
    lab.until_holding(files, "quick", within=30)
    lab.patch("quick", suspend=True)
    lab.until_state("quick", "Suspended", within=30)
    lab.until_revoked(files, "quick", within=30)


def test_a_credential_that_nobody_asks_for_any_more_is_on_its_way_out(lab: Agents, files: Files) -> None:
    lab.ask("scout", ASKED, {**ASKED, "name": "second"})
    lab.until_holding(files, "scout")
    lab.patch("scout", credentials=[ASKED])
    eventually(
        lambda: (
            {one["data"]["credential"]: one["data"]["state"] for one in lab.records("scout")}
            == {"store": "Active", "second": "Retiring"}
        ),
        "it is noted as retiring",
        within=30,
    )
    assert files.accepts(lab.token("scout"))


def test_a_secret_of_somebody_else_under_the_name_is_left_alone_and_told(lab: Agents, files: Files) -> None:
    name = "agent-scout.store"
    mine = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name},
        "stringData": {"mine": "somebody-elses-own"},
    }
    assert lab.rest.post(f"/api/v1/namespaces/{lab.namespace}/secrets", mine).ok
    lab.ask("scout")
    eventually(
        lambda: "somebody else's" in lab.condition("scout", "CredentialsReady").get("message", ""), "told", within=30
    )
    eventually(lambda: not files.valid("scout"), "what was issued for it is revoked", within=30)
    lab.patch("scout", suspend=True)
    lab.until_state("scout", "Suspended", within=30)
    found = lab.secret("scout")
    assert found is not None
    assert sorted(found["data"]) == ["mine"]


def test_the_deletion_of_an_agent_waits_until_its_credentials_are_revoked(lab: Agents, files: Files) -> None:
    lab.ask("scout")
    lab.until_holding(files, "scout")
    files.behave(revoke={"do": "down"})
    lab.delete("AgentDeployment", "scout")
    eventually(lambda: "nobody answers" in str(lab.status("scout").get("suspension", {}).get("unrevoked")), "it waits")
    files.behave()
    eventually(lambda: lab.get("AgentDeployment", "scout") is None, "it is gone", within=60)
    assert files.valid("scout") == {}
    eventually(lambda: not lab.records("scout"), "nothing is on the books")


def test_patience_with_an_issuer_that_is_down_ends_visibly_and_what_is_left_is_revoked_later(
    lab: Agents, files: Files
) -> None:
    lab.ask("scout")
    lab.until_holding(files, "scout")
    files.behave(revoke={"do": "down"})
    lab.delete("AgentDeployment", "scout")
    eventually(lambda: lab.get("AgentDeployment", "scout") is None, "the patience ends", within=PATIENCE + 60)
    assert len(lab.records("scout")) == 1
    told = f"/apis/events.k8s.io/v1/namespaces/{lab.namespace}/events"
    eventually(
        lambda: any(one["reason"] == "RevocationGivenUp" for one in lab.rest.get(told).body["items"]), "an event"
    )
    files.behave()
    # What has failed for so long is not tried again for up to a minute.
    lab.until_revoked(files, "scout", within=180)


def test_the_deletion_of_a_namespace_revokes_first(lab: Agents, files: Files) -> None:
    for name in ("scout", "guide"):
        lab.ask(name)
        lab.until_holding(files, name)
    assert lab.rest.delete(f"/api/v1/namespaces/{lab.namespace}").ok
    eventually(lambda: not files.valid("scout") and not files.valid("guide"), "both are revoked", within=180)
    eventually(lambda: not lab.records(), "the books are empty", within=180)
    eventually(lambda: lab.rest.get(f"/api/v1/namespaces/{lab.namespace}").status == 404, "it is gone", within=180)


def test_what_nobody_knows_is_found_and_revoked_at_the_start(
    lab: Agents, files: Files, operator: OperatorProcess
) -> None:
    lab.ask("scout")
    lab.until_holding(files, "scout")
    (account,) = files.valid("scout")
    installation = account.rpartition("-")[0]
    operator.kill()
    stray, strangers = f"{installation}-aaaaaaaaaaaa", "zzzzzzzz-bbbbbbbbbbbb"
    for account in (stray, strangers):
        files.let_in(account)
    lab.rest.send(
        "PATCH",
        PATHS["AgentDeployment"].format(namespace=lab.namespace) + "/scout",
        {"metadata": {"finalizers": None}},
        content_type="application/merge-patch+json",
    )
    lab.delete("AgentDeployment", "scout")
    eventually(lambda: lab.get("AgentDeployment", "scout") is None, "it is gone")
    operator.start()
    lab.until_revoked(files, "scout", within=60)
    eventually(lambda: stray not in files.valid(), "what has no record is revoked", within=30)
    assert strangers in files.valid()


def test_a_secret_that_somebody_took_away_is_noticed_at_the_next_start_and_issued_anew(
    lab: Agents, files: Files, operator: OperatorProcess
) -> None:
    lab.ask("scout")
    first = lab.until_holding(files, "scout")
    eventually(lambda: [one for one in lab.records("scout") if one["data"]["state"] == "Active"], "active")
    assert lab.rest.delete(f"/api/v1/namespaces/{lab.namespace}/secrets/agent-scout.store").ok
    operator.kill()
    operator.start()
    second = lab.until_holding(files, "scout", within=60)
    assert second != first


def test_a_record_that_cannot_be_read_is_told_and_stops_nobody(
    lab: Agents, files: Files, operator: OperatorProcess
) -> None:
    broken = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "name": "bulkhead-lease-broken",
            "namespace": NAMESPACE,
            "labels": {"app.kubernetes.io/managed-by": "bulkhead", LABEL: "broken"},
        },
        "data": {"agentNamespace": lab.namespace, "agent": "scout"},
    }
    assert lab.rest.post(RECORDS, broken).ok
    lab.ask("scout")
    lab.until_holding(files, "scout")
    # The watch may tell of the record later than the agent is built.
    unreadable = 'bulkhead_leases{state="Unreadable"} 1.0'
    eventually(lambda: unreadable in operator.read(operator.readiness, "/metrics"), "it is counted")
    assert lab.rest.delete(f"{RECORDS}/bulkhead-lease-broken").ok


def test_two_replicas_that_revoke_at_the_same_time_are_in_nobodys_way(
    lab: Agents, files: Files, operator: OperatorProcess, tmp_path: Path
) -> None:
    names = [f"scout-{number}" for number in range(8)]
    standby = OperatorProcess(
        operator.kubeconfig, tmp_path, replica="replica-2", extra=operator.extra, packages=operator.packages
    )
    with standby:
        for name in names:
            lab.ask(name)
        for name in names:
            lab.until_holding(files, name)
        for name in names:
            lab.patch(name, suspend=True)
        for name in names:
            lab.until_revoked(files, name)
        told = lab.rest.get(f"/apis/events.k8s.io/v1/namespaces/{lab.namespace}/events").body["items"]
        assert [one["note"] for one in told if one["reason"] == "RevocationFailing"] == []
        # It has what it needs to revoke without the leader.
        operator.kill()
        for name in names:
            lab.patch(name, suspend=False)
        eventually(lambda: all(files.accepts(lab.token(name)) for name in names), "the other one leads", within=90)
        for name in names:
            lab.patch(name, suspend=True)
        for name in names:
            lab.until_revoked(files, name)
    operator.start()
