"""Agents that have a lease on the warehouse, whoever issued it."""

from __future__ import annotations

import json
import secrets
import time
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from demo import images, theft
from demo.theft import Thief
from devcluster import warehouse
from tests.apiserver.agents import Object
from tests.cluster.agents import ROOM, Sandbox
from tests.cluster.pods import wait_for

FOLDER = "/var/run/bulkhead/credentials/warehouse"
QUERIES = Path(__file__).with_name("queries.py").read_text()
EGRESS: Object = {"egress": [{"to": {"cidr": f"{warehouse.ADDRESS}/32"}, "ports": [{"port": 5432}]}]}

GOAL = 2.0
"""Seconds from the patch that suspends an agent until its lease is of no use to anybody, on a machine with time."""
BOUND = 5 * GOAL
"""What is a failure on any machine."""

ASK = """
import json, sys
sys.path.append("/")
import postgres
from pathlib import Path
told = {}
with postgres.Session(postgres.lease(Path(sys.argv[1]), at=sys.argv[2]), seconds=5) as session:
    for statement in sys.argv[3:]:
        try:
            told[statement] = session.ask(statement)
        except postgres.RefusedError as error:
            told[statement] = str(error)
print(json.dumps(told))
"""


@dataclass(frozen=True)
class Client:
    """An agent that works with the warehouse.

    Attributes:
        sandbox: where it is.
        name: the agent's.
        run: what its entries in the journal begin with.
        at: the database's place, for leases that do not tell it.
    """

    sandbox: Sandbox
    name: str
    run: str
    at: str

    @classmethod
    def create(
        cls, sandbox: Sandbox, name: str, source: Object, *arguments: str, ttl: int = 900, at: str = "", **spec: Any
    ) -> Client:
        """Create an agent that runs `queries.py` with some arguments, with a lease from a source."""
        made = cls(sandbox, name, secrets.token_hex(4), at)
        sandbox.lab.create(
            name,
            image=images.AGENT,
            command=["python3", "-u", "-c", QUERIES, *arguments],
            env=[{"name": "RUN", "value": made.run}, {"name": "DATABASE", "value": at}],
            resources=ROOM,
            network=EGRESS,
            credentials=[{"name": "warehouse", "ttlSeconds": ttl, **source}],
            **spec,
        )
        return made

    def until_it_works(self, *, within: float = 120) -> None:
        """Wait until it runs and has entered something."""
        self.sandbox.running(self.name, within=within)
        wait_for(lambda: self.entries() > 0, seconds=120, what=f"{self.name} makes an entry", interval=0.2)

    def entries(self) -> int:
        """How many of its entries the database has."""
        asked = f"SELECT count(*) FROM journal WHERE what LIKE '{self.run} %'"  # noqa: S608
        return int(warehouse.sql(self.sandbox.cluster, asked))

    def report(self) -> Object:
        """What it says itself."""
        told: Object = json.loads(self.sandbox.read(self.name, "/tmp/report.json"))  # noqa: S108
        return told

    def ask(self, *statements: str) -> dict[str, Any]:
        """Run statements in its pod with its lease: what the database did and its rows, or why it refused, of each."""
        told: dict[str, Any] = json.loads(
            self.sandbox.inside(f"{self.name}-0", "python3", "-c", ASK, FOLDER, self.at, *statements)
        )
        return told

    def url(self) -> str:
        """A copy of how it gets into the database."""
        reading = (
            "import sys; sys.path.append('/'); import postgres; from pathlib import Path; "
            f"print(postgres.lease(Path('{FOLDER}'), at='{self.at}'))"
        )
        return self.sandbox.inside(f"{self.name}-0", "python3", "-c", reading).strip()

    def user(self) -> str:
        """Who it is in the database."""
        return self.sandbox.read(self.name, f"{FOLDER}/username").strip()

    def is_known(self, user: str) -> bool:
        """Whether the database knows a role."""
        asked = f"SELECT 1 FROM pg_roles WHERE rolname = '{user}'"  # noqa: S608
        return bool(warehouse.sql(self.sandbox.cluster, asked))

    def sessions(self, user: str) -> int:
        """How many sessions of a role the database has."""
        asked = f"SELECT count(*) FROM pg_stat_activity WHERE usename = '{user}'"  # noqa: S608
        return int(warehouse.sql(self.sandbox.cluster, asked))

    def credential(self) -> Object:
        """What its status says of its lease."""
        (told,) = self.sandbox.lab.status(self.name)["credentials"]
        found: Object = told
        return found


@dataclass(frozen=True)
class Ended:
    """When a lease was of no use any more, in seconds after the patch that suspended its agent.

    Attributes:
        session: since when a session that was open had been ended.
        login: since when its password was refused.
        recorded: the operator's own word.
    """

    session: float
    login: float
    recorded: float

    def __str__(self) -> str:
        """Tell it beside the goal."""
        return (
            f"after the patch: session ended {self.session:.3f} s, password refused {self.login:.3f} s, "
            f"recorded {self.recorded:.3f} s (goal {GOAL:g} s)"
        )


def suspend_and_measure(client: Client, thief: Thief, user: str) -> Ended:
    """Suspend an agent whose lease somebody else has, too; wait until that is of no use to anybody."""
    lab = client.sandbox.lab
    assert thief.last_success("session") > 0
    assert client.sessions(user) >= 2, "the agent's and the thief's"
    began = time.time()
    lab.patch(client.name, suspend=True)
    wait_for(lambda: thief.refusal("session", since=began), seconds=60, what="the open session is ended")
    wait_for(lambda: thief.refusal("login", since=began), seconds=60, what="the password is refused")
    wait_for(lambda: client.sessions(user) == 0, seconds=60, what="the agent's own session is ended")
    client.sandbox.suspended(client.name)
    tried = len(thief.of("login"))
    wait_for(lambda: len(thief.of("login")) >= tried + 5, seconds=60, what="the thief tries again")
    refused = thief.refusal("login", since=began)
    assert refused is not None
    assert thief.last_success("login") < refused.at, "refused once, refused for ever"
    # The pods' end and that of the leases are proven side by side: the one may be on record before the other.
    wait_for(
        lambda: lab.status(client.name)["suspension"].get("credentialsRevokedAt"),
        seconds=60,
        what="it is on record that the lease is revoked",
    )
    record = lab.status(client.name)["suspension"]
    return Ended(
        session=thief.last_success("session") - began,
        login=thief.last_success("login") - began,
        recorded=datetime.fromisoformat(record["credentialsRevokedAt"]).timestamp() - began,
    )


def robbed(client: Client) -> AbstractContextManager[Thief]:
    """Let somebody outside of the cluster use a copy of an agent's lease; see `theft.at_work`."""
    return theft.at_work(client.url(), client.sandbox.cluster)
