"""An agent's lease on a real database: what it may do with it, how it is replaced, and how it ends."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime

import pytest

from demo.stage import Stage
from devcluster import warehouse
from tests.apiserver.agents import Object
from tests.cluster.agents import Sandbox
from tests.cluster.databases import BOUND, FOLDER, Client, robbed, suspend_and_measure
from tests.cluster.pods import wait_for

SOURCE: Object = {"postgres": {"issuer": "warehouse", "role": warehouse.TEMPLATE}}
SHORT = 60
"""Seconds: the shortest lease there is."""
LONG = 3600
"""Seconds: the longest that the policy grants. It is due for another after forty minutes, when these tests are over."""

REFUSED = {
    "CREATE TABLE mine (a integer)": "permission denied for schema public",
    "DROP TABLE stock": "must be owner of table stock",
    "ALTER TABLE stock ADD COLUMN mine integer": "must be owner of table stock",
    "TRUNCATE stock": "permission denied for table stock",
    "CREATE ROLE friend LOGIN": "permission denied to create role",
    "ALTER ROLE CURRENT_USER VALID UNTIL 'infinity'": "permission denied",
    "CREATE TEMPORARY TABLE mine (a integer)": 'permission denied to create temporary tables in database "warehouse"',
    "SET ROLE warehouse_owner": 'permission denied to set role "warehouse_owner"',
}


@pytest.fixture(scope="module")
def scene(operator: Stage) -> Iterator[Sandbox]:
    with Sandbox.opened(operator.cluster) as opened:
        yield opened


@pytest.fixture(scope="module")
def rotating(scene: Sandbox) -> Client:
    """An agent with the shortest lease, at work since the beginning of these tests."""
    return Client.create(scene, "rotating", SOURCE, ttl=SHORT)


@pytest.fixture(scope="module")
def client(scene: Sandbox, rotating: Client) -> Client:
    made = Client.create(scene, "client", SOURCE, ttl=LONG)
    for one in (rotating, made):
        one.until_it_works()
    return made


def test_it_reads_and_writes_data_and_the_database_refuses_everything_else(client: Client) -> None:
    told = client.ask(
        "SELECT count(*) FROM stock",
        "UPDATE stock SET pieces = pieces - 1 WHERE item = 7",
        "INSERT INTO stock VALUES (1000, 1)",
        "DELETE FROM stock WHERE item = 1000",
        *REFUSED,
    )
    assert [told.pop(statement)[0] for statement in list(told)[:4]] == [
        "SELECT 1",
        "UPDATE 1",
        "INSERT 0 1",
        "DELETE 1",
    ]
    assert {statement: told[statement] for statement in REFUSED} == REFUSED


def test_its_files_are_its_own_to_read_and_its_status_tells_no_value(client: Client) -> None:
    listed = client.sandbox.inside("client-0", "stat", "--dereference", "--format=%n %a %u %g", f"{FOLDER}/password")
    # The kubelet gives the files of a Secret to root and lets the pod's group read them.
    assert listed.split()[1:] in (["440", "0", "65532"], ["400", "65532", "65532"])
    told = client.credential()
    assert told["state"] == "Active"
    life = datetime.fromisoformat(told["expiresAt"]) - datetime.fromisoformat(told["issuedAt"])
    assert LONG - 60 <= life.total_seconds() <= LONG + 1
    assert client.user() in json.dumps(told) or told["lease"] in client.user()
    assert client.sandbox.lab.condition("client", "CredentialsReady")["status"] == "True"


def test_suspended_its_session_is_ended_and_its_password_refused_in_time(
    scene: Sandbox, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its process is given time and does not end before: it is the database that ends the session."""
    held = Client.create(scene, "held", SOURCE, "idle", "deaf", suspendGraceSeconds=15)
    held.until_it_works()
    user = held.user()
    with robbed(held) as thief:
        wait_for(lambda: thief.last_success("session"), seconds=20, what="the copy of the lease works")
        tasks = scene.tasks("held")
        ended = suspend_and_measure(held, thief, user)
        with capsys.disabled():
            print(f"\n{ended}")
        assert ended.session <= BOUND
        assert ended.login <= BOUND
        assert ended.recorded <= BOUND
        assert not held.is_known(user)
        assert not any(task.is_alive for task in tasks)
        assert "unrevoked" not in scene.lab.status("held")["suspension"]

        scene.lab.patch("held", suspend=False)
        held.until_it_works()
        assert held.user() != user
        tried = len(thief.of("login"))
        wait_for(lambda: len(thief.of("login")) > tried + 5, seconds=20, what="the thief tries again")
        assert not thief.of("login")[-1].worked, "the old password is dead for ever"


def test_an_agent_that_asks_for_the_owners_rights_does_not_run_and_says_why(scene: Sandbox) -> None:
    Client.create(scene, "greedy", {"postgres": {"issuer": "warehouse", "role": warehouse.OWNER}})

    def refused() -> bool:
        said = scene.lab.condition("greedy", "CredentialsReady")
        return said.get("status") == "False" and all(
            word in said["message"] for word in (warehouse.OWNER, "owns table")
        )

    wait_for(refused, seconds=90, what="its status says that the role may too much, and what")
    assert "greedy-0" not in scene.lab.names("Pod")
    scene.lab.delete("AgentDeployment", "greedy")


def test_a_deleted_agent_leaves_no_role_behind(scene: Sandbox) -> None:
    short = Client.create(scene, "short", SOURCE, suspendGraceSeconds=1)
    short.until_it_works()
    user = short.user()
    assert short.is_known(user)
    scene.kubectl("delete", "agent", "short", "--timeout=120s")
    assert not short.is_known(user)


def test_rotation_under_twenty_queries_a_second_loses_none(
    rotating: Client, client: Client, capsys: pytest.CaptureFixture[str]
) -> None:
    """From the first lease to some time after it was revoked."""
    lab = rotating.sandbox.lab
    wait_for(lambda: len(rotating.report()["users"]) >= 2, seconds=180, what="it works with another lease", interval=1)
    first = rotating.report()["users"][0]
    wait_for(lambda: not rotating.is_known(first), seconds=240, what="the first lease is revoked", interval=1)
    before = rotating.entries()
    wait_for(lambda: rotating.entries() >= before + 40, seconds=30, what="it goes on", interval=0.5)
    report = rotating.report()
    assert report["lost"] == []
    assert len(report["users"]) == len(set(report["users"])) >= 2
    assert rotating.entries() >= report["sent"]
    containers = rotating.sandbox.pod("rotating")["status"]["containerStatuses"]
    assert [one["restartCount"] for one in containers] == [0]
    assert lab.condition("rotating", "CredentialsReady")["status"] == "True"
    with capsys.disabled():
        print(f"\n{report['sent']} queries by {len(report['users'])} leases, none lost")
    assert len(client.report()["users"]) == 1, "a lease of an hour is not replaced in between"
