"""What an operator does with an issuer of somebody else, in a process of its own: prints what it saw as JSON."""

from __future__ import annotations

import asyncio
import hashlib
import json
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from bulkhead.api.credentials import Credential
from bulkhead.issuers import registry
from bulkhead.issuers.base import IssuerError, Request
from bulkhead.issuers.guard import Guarded


async def main(file: Path) -> dict[str, Any]:
    """Takes one lease through its life."""
    issuers = registry.Issuers(registry.load(file))
    asked = {"name": "model", "custom": {"issuer": "models", "parameters": {"model": "small"}}}
    name, source = issuers.for_source(Credential.model_validate(asked))
    issuer = issuers.get(name)
    seen: dict[str, Any] = {"types": dict(issuers.types), "describes": issuer.describe(), "external": issuer.external}
    handle = await issuer.prepare(request(source))
    issued = await issuer.issue(request(source), handle)
    seen |= {"handle": dict(handle), "files": sorted(issued.values), "repr": repr(issued)}
    seen["digest"] = hashlib.sha256(issued.values["key"]).hexdigest()
    until = datetime.now(UTC) + timedelta(seconds=300)
    seen["renewed"] = abs((await issuer.renew(handle, until=until) - until).total_seconds()) < 30
    seen["outstanding"] = [dict(one) for one in await issuer.outstanding("test1234")]
    await issuer.revoke(handle)
    await issuer.revoke(handle)
    seen["left"] = len(await issuer.outstanding("test1234"))
    seen["errors"] = [
        await error(issuer, {"parameters": {}}),
        await error(issuer, {"parameters": {"model": "secret-project"}}),
        await error(issuer, {"parameters": {"model": "broken"}}),
    ]
    await issuers.close()
    return seen


async def error(issuer: Guarded, source: dict[str, Any]) -> list[str]:
    """The kind and text of what is refused."""
    try:
        await issuer.issue(request(source), await issuer.prepare(request(source)))
    except IssuerError as failed:
        return [type(failed).__name__, failed.message]
    return []


def request(source: dict[str, Any]) -> Request:
    """A request with this source."""
    return Request(
        lease="abcdefabcdef",
        agent_namespace="team-a",
        agent="writer",
        agent_uid="c0ffee00-0000-4000-8000-000000000000",
        credential="model",
        source=source,
        ttl_seconds=600,
        installation="test1234",
    )


if __name__ == "__main__":
    print(json.dumps(asyncio.run(main(Path(sys.argv[1])))))
