"""An issuer is down for a long time: at issue, at renew and at revoke, all in one outage with one operator.

`BULKHEAD_TEST_OUTAGE_SECONDS` makes the outage longer. It is never shorter than it takes a credential of the shortest
kind to end, so that every stage of it is met.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

import pytest

from bulkhead.plan.leaseschedule import MOST_LEFTOVERS
from devcluster.api import RunningCluster
from tests.apiserver.credentials import ASKED, FINALIZER, Agents, Files, Object, allowed
from tests.apiserver.rest import Rest
from tests.operator_process import OperatorProcess, eventually, install_rights

SHORTEST = 60
"""Seconds: the shortest life that a credential can be asked for."""
OUTAGE = max(float(os.environ.get("BULKHEAD_TEST_OUTAGE_SECONDS", "0")), SHORTEST + 20.0)
PATIENCE = 45
"""Seconds: long enough to see on a busy machine that a deletion waits, and over well before the outage is."""
BRIEF = {**ASKED, "ttlSeconds": SHORTEST}
LASTING = {**ASKED, "ttlSeconds": int(2 * OUTAGE) + 120}
MOST_RECORDS = 2 + MOST_LEFTOVERS
"""Of one agent with one credential: what it has, what it had, and what came to nothing."""


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    return Files(tmp_path_factory.mktemp("files"))


@pytest.fixture(scope="module")
def operator(
    apiserver: RunningCluster, rest: Rest, files: Files, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[OperatorProcess]:
    arguments = [*files.arguments, f"--revocation-patience={PATIENCE}"]
    folder = tmp_path_factory.mktemp("operator")
    with (
        allowed(rest),
        OperatorProcess(install_rights(apiserver), folder, extra=arguments, packages=[files.packages]) as process,
    ):
        yield process
        assert not [one for one in process.records() if one["level"] == "CRITICAL"]


@pytest.fixture
def lab(operator: OperatorProcess, files: Files, rest: Rest, sandbox: str) -> Iterator[Agents]:
    yield Agents(rest, sandbox)
    files.clear()


def test_an_outage_of_an_issuer_leaves_nothing_alive_nothing_forgotten_and_others_alone(
    lab: Agents, files: Files
) -> None:
    lab.ask("neighbour", {**BRIEF, "custom": {"issuer": "other"}})
    lab.ask("lasting", LASTING)
    lab.ask("brief", BRIEF)
    lab.ask("leaver", BRIEF)
    lab.ask("deleted", BRIEF)
    for name in ("lasting", "brief", "leaver", "deleted"):
        lab.until_holding(files, name)
    eventually(lambda: lab.token("neighbour"), "the neighbour has its credential")
    lasting = lab.token("lasting")

    files.behave(issue={"do": "down"}, renew={"do": "down"}, revoke={"do": "down"})
    began = time.monotonic()
    lab.ask("late")
    lab.patch("leaver", suspend=True)
    lab.delete("AgentDeployment", "deleted")
    eventually(lambda: not {"leaver", "deleted"} & set(lab.names("StatefulSet")), "those who stop are stopped")
    eventually(lambda: lab.condition("late", "CredentialsReady").get("reason") == "Failing", "it is told", within=30)
    eventually(lambda: "nobody answers" in str(suspension(lab, "leaver").get("unrevoked")), "what is left")
    assert lab.finalizers("deleted") == [FINALIZER]
    assert lab.secret("leaver") is None, "nobody can read it any more, whatever the issuer says"

    ended = began + SHORTEST + 15
    while time.monotonic() < began + OUTAGE:
        check_on_the_way(lab, files)
        assert files.accepts(lasting), "it has long to live yet"
        if time.monotonic() > ended:
            assert "brief" not in lab.names("StatefulSet"), "it must not work on with a dead credential"
            assert not {**files.valid("leaver"), **files.valid("deleted")}, "they outlive their time"
        time.sleep(1)
    assert lab.condition("late", "CredentialsReady")["reason"] == "Failing"
    assert lab.condition("brief", "CredentialsReady")["reason"] == "Failing"
    assert lab.get("AgentDeployment", "deleted") is None, "the patience is over"
    assert lab.records("leaver")
    assert lab.records("deleted"), "what could not be revoked is not forgotten"

    files.behave()
    for name in ("late", "brief", "lasting"):
        lab.until_holding(files, name, within=120)
    for name in ("leaver", "deleted"):
        lab.until_revoked(files, name, within=180)
    eventually(lambda: suspension(lab, "leaver").get("credentialsRevokedAt"), "the step's time", within=60)
    assert "unrevoked" not in suspension(lab, "leaver")


def suspension(lab: Agents, name: str) -> Object:
    """What its status says of how it was stopped; empty where it says nothing yet."""
    return lab.status(name).get("suspension") or {}


def check_on_the_way(lab: Agents, files: Files) -> None:
    """What holds at every moment of the outage."""
    assert "neighbour" in lab.names("StatefulSet"), "others notice"
    # It rotates meanwhile; what was read just before is good for longer than it takes to ask.
    token = lab.token("neighbour")
    assert token.value in {held["token"] for held in files.valid("neighbour", "other").values()}, "others notice"
    for name in ("late", "brief", "lasting", "leaver", "deleted", "neighbour"):
        assert len(lab.records(name)) <= MOST_RECORDS, f"the books of {name} fill"
