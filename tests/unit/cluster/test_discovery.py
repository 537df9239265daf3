"""Waiting for a kind that is not served yet."""

from __future__ import annotations

from typing import cast

import pytest

from bulkhead.cluster.client import Client
from bulkhead.cluster.discovery import until_named
from bulkhead.cluster.errors import Unreachable
from bulkhead.cluster.resources import AGENTS, Resource

VERSION = f"{AGENTS.group}/{AGENTS.version}"


class ApiServer:
    """Answers each look for versions and kinds with the next of what it is given."""

    def __init__(self, *looks: tuple[set[str], set[Resource]] | None) -> None:
        self.looks = list(looks)
        self.slept = 0.0

    async def versions(self) -> frozenset[str]:
        if self.looks[0] is None:
            raise Unreachable("it restarts")
        return frozenset(self.looks[0][0])

    async def served(self, group: str, version: str) -> frozenset[Resource]:
        assert (group, version) == (AGENTS.group, AGENTS.version)
        assert self.looks[0] is not None
        return frozenset(self.looks[0][1])

    async def sleep(self, seconds: float) -> None:
        self.slept += seconds
        self.looks.pop(0)


async def test_a_kind_is_waited_for_until_its_group_is_named_and_it_is_served(
    caplog: pytest.LogCaptureFixture,
) -> None:
    server = ApiServer(None, None, (set(), set()), (set(), {AGENTS}), ({VERSION}, set()), ({VERSION}, {AGENTS}))

    await until_named(cast(Client, server), AGENTS, sleep=server.sleep)

    assert server.slept == 5.0
    assert caplog.text.count("waiting for") == 1
    assert "it restarts" in caplog.text


async def test_a_kind_that_is_there_is_not_waited_for() -> None:
    server = ApiServer(({VERSION}, {AGENTS}))
    await until_named(cast(Client, server), AGENTS, sleep=server.sleep)
    assert server.slept == 0.0
