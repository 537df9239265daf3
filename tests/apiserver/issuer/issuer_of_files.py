"""An issuer as a third party would write it, for a system that is a folder: what is valid is a file there.

What it is to do wrong stands in files too, so that a test can change it while the operator runs:

    behaviour.json    {"issue": {"do": "down"}, "revoke": {"do": "die", "when": "after", "once": true}, "life": 5}

`do` is one of `down` (no answer), `refuse`, `garbage` (something that is no answer), `slow` (`seconds`) and `die` (the
whole process is killed, `when` before or after the call took effect); with `once` it happens once. `life` shortens what
is issued, in seconds.
"""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import signal
import time
from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bulkhead.issuers.base import Credential, Handle, NotRenewable, Refused, Request, Unavailable


class IssuerOfFiles:
    """Keeps a file for each credential that is valid."""

    external = True

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self._folder = Path(settings["folder"])
        self._valid = self._folder / "valid"
        self._valid.mkdir(parents=True, exist_ok=True)

    def describe(self) -> str:
        """Says which system this is."""
        return "a folder"

    async def prepare(self, request: Request) -> Handle:
        """Chooses the name of the file."""
        await self._misbehave("prepare", "before")
        return {"account": f"{request.installation}-{request.lease}"}

    async def issue(self, request: Request, handle: Handle) -> Credential:
        """Writes the file."""
        await self._misbehave("issue", "before")
        life = self._behaviour().get("life", request.ttl_seconds)
        expires = time.time() + life
        account, token = handle["account"], secrets.token_hex(16)
        self._write(account, {"token": token, "expires": expires, "agent": request.agent, **request.source})
        await self._misbehave("issue", "after")
        return Credential(
            values={"token": token.encode()},
            expires_at=datetime.fromtimestamp(expires, UTC),
            handle=handle,
            description=f"account {account}",
        )

    async def renew(self, handle: Handle, *, until: datetime) -> datetime:
        """Writes another end into the file."""
        await self._misbehave("renew", "before")
        held = self._read(handle["account"])
        if held is None:
            raise NotRenewable("there is no such account")
        self._write(handle["account"], {**held, "expires": until.timestamp()})
        await self._misbehave("renew", "after")
        return until

    async def revoke(self, handle: Handle) -> None:
        """Removes the file."""
        await self._misbehave("revoke", "before")
        (self._valid / handle["account"]).unlink(missing_ok=True)
        await self._misbehave("revoke", "after")

    async def outstanding(self, installation: str) -> Collection[Handle]:
        """Gives the accounts of this installation."""
        return [{"account": one.name} for one in self._valid.iterdir() if one.name.startswith(f"{installation}-")]

    async def close(self) -> None:
        """Does nothing."""

    def _read(self, account: str) -> dict[str, Any] | None:
        try:
            held: dict[str, Any] = json.loads((self._valid / account).read_text())
        except FileNotFoundError:
            return None
        return held

    def _write(self, account: str, held: Mapping[str, Any]) -> None:
        draft = self._folder / f"{account}.draft"
        draft.write_text(json.dumps(held))
        draft.rename(self._valid / account)

    def _behaviour(self) -> dict[str, Any]:
        try:
            found: dict[str, Any] = json.loads((self._folder / "behaviour.json").read_text())
        except FileNotFoundError:
            return {}
        return found

    async def _misbehave(self, call: str, when: str) -> None:
        behaviour = self._behaviour()
        wrong = behaviour.get(call)
        if wrong is None or wrong.get("when", "before") != when:
            return
        if wrong.get("once"):
            del behaviour[call]
            draft = self._folder / "behaviour.draft"
            draft.write_text(json.dumps(behaviour))
            draft.rename(self._folder / "behaviour.json")
        match wrong["do"]:
            case "down":
                raise Unavailable("nobody answers")
            case "refuse":
                raise Refused("this is not given to anybody; accepted is something else")
            case "garbage":
                raise KeyError("something that a library says")
            case "slow":
                await asyncio.sleep(wrong["seconds"])
            case "die":
                os.kill(os.getpid(), signal.SIGKILL)
