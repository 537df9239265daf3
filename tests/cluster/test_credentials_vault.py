"""An agent's lease on a real database by way of a real Vault, to which the operator logs in as itself."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from demo import installation
from demo.stage import Stage
from devcluster import vault, warehouse
from devcluster.progress import Progress
from tests.apiserver.agents import Object
from tests.cluster.agents import Sandbox
from tests.cluster.databases import BOUND, Client, robbed, suspend_and_measure
from tests.cluster.pods import wait_for

ROLE = "bulkhead"
PATH = "database/creds/stock-keeper"
SOURCE: Object = {"vault": {"issuer": "vault", "path": PATH}}
AT = f"{warehouse.ADDRESS}:{warehouse.PORT}/{warehouse.DATABASE}"

POLICY = {
    PATH: ["read"],
    **{
        path: ["update"]
        for path in (
            "auth/token/renew-self",
            "auth/token/revoke-self",
            "auth/token/renew-accessor",
            "auth/token/revoke-accessor",
            "sys/leases/renew",
            "sys/leases/revoke",
        )
    },
}


@pytest.fixture(scope="module")
def served(operator: Stage) -> vault.Server:
    """Vault in a pod, with the warehouse behind its database engine."""
    cluster = operator.cluster
    if not vault.is_installed(cluster):
        server = vault.install(cluster, progress=Progress())
        server.trust(cluster, in_cluster=True)
        server.serve_database(warehouse.vault_issuer(cluster), sslmode="require")
        server.issue_from("stock-keeper", database=warehouse.DATABASE, template=warehouse.TEMPLATE)
        server.write_policy("bulkhead", POLICY)
        server.admit(ROLE, namespace=installation.NAMESPACE, service_account="bulkhead", policies=["bulkhead"])
    return vault.find(cluster)


@pytest.fixture
def sandbox(operator: Stage, served: vault.Server) -> Iterator[Sandbox]:
    with Sandbox.opened(operator.cluster) as opened:
        yield opened


def test_it_works_with_its_data_and_once_suspended_nobody_does(
    sandbox: Sandbox, served: vault.Server, capsys: pytest.CaptureFixture[str]
) -> None:
    client = Client.create(sandbox, "client", SOURCE, "idle", "deaf", at=AT, suspendGraceSeconds=15)
    client.until_it_works()
    told = client.ask("UPDATE stock SET pieces = pieces - 1 WHERE item = 8", "DROP TABLE stock")
    assert told["UPDATE stock SET pieces = pieces - 1 WHERE item = 8"][0] == "UPDATE 1"
    assert told["DROP TABLE stock"] == "must be owner of table stock"
    assert client.credential()["state"] == "Active"
    user = client.user()
    with robbed(client) as thief:
        wait_for(lambda: thief.last_success("session"), seconds=20, what="the copy of the lease works")
        ended = suspend_and_measure(client, thief, user)
        with capsys.disabled():
            print(f"\n{ended}")
        assert ended.session <= BOUND
        assert ended.login <= BOUND
        assert ended.recorded <= BOUND
        assert not client.is_known(user)
        assert "unrevoked" not in sandbox.lab.status("client")["suspension"]

        sandbox.lab.patch("client", suspend=False)
        client.until_it_works()
        assert client.user() != user
        tried = len(thief.of("login"))
        wait_for(lambda: len(thief.of("login")) > tried + 5, seconds=20, what="the thief tries again")
        assert not thief.of("login")[-1].worked


def test_what_a_sealed_vault_cannot_revoke_is_named_until_it_is_revoked(sandbox: Sandbox, served: vault.Server) -> None:
    """The agent is stopped all the same: its processes do not wait for an issuer."""
    client = Client.create(sandbox, "client", SOURCE, at=AT, suspendGraceSeconds=1)
    client.until_it_works()
    user = client.user()
    served.seal()
    try:
        tasks = sandbox.tasks("client")
        sandbox.lab.patch("client", suspend=True)
        wait_for(lambda: not any(task.is_alive for task in tasks), seconds=30, what="its processes end")
        wait_for(
            lambda: "vault" in str(sandbox.lab.status("client").get("suspension", {}).get("unrevoked")),
            seconds=60,
            what="its status names what could not be revoked",
        )
        assert client.is_known(user)
    finally:
        served.unseal()
    wait_for(lambda: not client.is_known(user), seconds=90, what="it is revoked")
    wait_for(
        lambda: not sandbox.lab.status("client")["suspension"].get("unrevoked"), seconds=30, what="its status says so"
    )
    sandbox.suspended("client")
