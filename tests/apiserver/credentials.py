"""What the tests of credentials share: the issuer of files, a policy that allows it, and agents that ask for it."""

from __future__ import annotations

import base64
import json
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from tests.apiserver.agents import Lab
from tests.apiserver.conftest import POLICIES
from tests.apiserver.rest import MERGE, Rest
from tests.operator_process import NAMESPACE, eventually

Object = dict[str, Any]

MODULE = Path(__file__).parent / "issuer" / "issuer_of_files.py"
RECORDS = f"/api/v1/namespaces/{NAMESPACE}/configmaps"
SELECTED = "?labelSelector=bulkhead.dev/lease"
LABEL = "bulkhead.dev/lease"
FINALIZER = "bulkhead.dev/revoke-credentials"
ASKED = {"name": "store", "ttlSeconds": 600, "custom": {"issuer": "files"}}


@dataclass(frozen=True)
class Token:
    """What an agent reads in its file. A test that fails with it does not tell it."""

    value: str = field(repr=False)

    def __bool__(self) -> bool:
        return bool(self.value)


class Files:
    """The system that credentials are for: a folder, and what is wrong with it.

    Args:
        folder: where everything goes.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.packages = folder / "packages"
        info = self.packages / "issuer_of_files-1.dist-info"
        info.mkdir(parents=True)
        shutil.copy(MODULE, self.packages)
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: issuer-of-files\nVersion: 1\n")
        (info / "entry_points.txt").write_text("[bulkhead.issuers]\nfiles = issuer_of_files:IssuerOfFiles\n")
        self.systems = {name: folder / name for name in ("files", "other")}
        self.settings = folder / "issuers.yaml"
        issuers = [
            {"name": name, "type": "files", "settings": {"folder": str(path)}} for name, path in self.systems.items()
        ]
        for path in self.systems.values():
            (path / "valid").mkdir(parents=True)
        self.settings.write_text(yaml.safe_dump({"issuers": issuers}))

    @property
    def arguments(self) -> list[str]:
        """What the operator is told."""
        return [f"--issuers={self.settings}"]

    def behave(self, name: str = "files", **behaviour: Any) -> None:
        """Says what is wrong with it from now on; with nothing given, all is well."""
        draft = self.systems[name] / "behaviour.test"
        draft.write_text(json.dumps(behaviour))
        draft.rename(self.systems[name] / "behaviour.json")

    def valid(self, agent: str | None = None, name: str = "files") -> dict[str, Object]:
        """What is valid now, by account; of one agent or of all."""
        found = {}
        for path in (self.systems[name] / "valid").iterdir():
            try:
                held = json.loads(path.read_text())
            except FileNotFoundError:
                continue
            if held["expires"] > time.time() and agent in (None, held["agent"]):
                found[path.name] = held
        return found

    def let_in(self, account: str) -> None:
        """Makes an account valid for a token that nobody was given: what a crash may leave behind."""
        held = {"token": "never-seen", "expires": 4e9, "agent": "nobody"}
        (self.systems["files"] / "valid" / account).write_text(json.dumps(held))

    def accepts(self, token: Token) -> bool:
        """Whether the system lets somebody with this token in."""
        return any(held["token"] == token.value for held in self.valid().values())

    def clear(self) -> None:
        """Makes all well, and forgets everybody."""
        for name, path in self.systems.items():
            self.behave(name)
            for held in (path / "valid").iterdir():
                held.unlink(missing_ok=True)


class Agents(Lab):
    """A sandbox, with what is known of the credentials of its agents."""

    def ask(self, name: str, *credentials: Object, **spec: Any) -> Object:
        """Creates an agent with credentials; without any, with one of the issuer of files."""
        return self.create(name, credentials=list(credentials or (ASKED,)), suspendGraceSeconds=0, **spec)

    def secret(self, agent: str, credential: str = "store") -> Object | None:
        answer = self.rest.get(f"/api/v1/namespaces/{self.namespace}/secrets/agent-{agent}.{credential}")
        return answer.body if answer.ok else None

    def token(self, agent: str, credential: str = "store") -> Token:
        """What the agent reads in its file; empty without one."""
        found = self.secret(agent, credential)
        return Token(base64.b64decode(found["data"]["token"]).decode() if found is not None else "")

    def records(self, agent: str | None = None) -> list[Object]:
        """The books: of one agent, or of all in this sandbox."""
        found = self.rest.get(RECORDS + SELECTED).body["items"]
        return [
            one
            for one in found
            if one["data"]["agentNamespace"] == self.namespace and agent in (None, one["data"]["agent"])
        ]

    def finalizers(self, agent: str) -> list[str]:
        return list(((self.get("AgentDeployment", agent) or {}).get("metadata") or {}).get("finalizers") or ())

    def until_holding(self, files: Files, agent: str, within: float = 60.0) -> Token:
        """Waits until the agent is built with a credential that is accepted, and returns it."""

        def holds() -> Token | None:
            token = self.token(agent)
            return token if files.accepts(token) and self.get("StatefulSet", agent) is not None else None

        held: Token = eventually(holds, f"{agent} is built with a credential", within=within)
        return held

    def until_revoked(self, files: Files, agent: str, within: float = 120.0) -> None:
        """Waits until nothing is left of the agent's credentials, anywhere."""

        def nothing() -> bool:
            return not files.valid(agent) and not self.records(agent) and self.secret(agent) is None

        eventually(nothing, f"nothing is left of the credentials of {agent}", within=within)


@contextmanager
def allowed(rest: Rest) -> Iterator[None]:
    """Lets agents ask for credentials of the issuers of files."""
    ceiling = {"custom": [{"issuer": "files", "parameters": {"turn": ["1", "2"]}}, {"issuer": "other"}]}
    default = f"{POLICIES}/default"
    assert rest.send("PATCH", default, {"spec": {"credentials": ceiling}}, content_type=MERGE).ok
    yield
    assert rest.send("PATCH", default, {"spec": {"credentials": None}}, content_type=MERGE).ok
