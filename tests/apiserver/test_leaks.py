"""What the watch for leaked values gathers from a real API server: also what is there for a moment only."""

from __future__ import annotations

import base64
import re
import secrets
import select
from collections.abc import Iterator

import pytest

from devcluster.api import RunningCluster
from tests import leaks
from tests.apiserver.rest import Rest
from tests.leaks import Book
from tests.leakwatch import SECRETS, Stream, watching

PLANTED = re.compile(r"planted-.*")
"""Names of Secrets that are no leases to the session's own watch: what is told here is told on purpose."""


@pytest.fixture
def book(monkeypatch: pytest.MonkeyPatch) -> Iterator[Book]:
    """A book of its own: what is written into it on purpose is no leak of the session."""
    made = Book()
    for name in ("learn", "follow", "note", "complain"):
        monkeypatch.setattr(leaks, name, getattr(made, name))
    yield made
    made.close()


def secret(name: str, **values: str) -> dict[str, object]:
    data = {key: base64.b64encode(value.encode()).decode() for key, value in values.items()}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "type": "Opaque", "data": data}


def event(namespace: str, message: str) -> dict[str, object]:
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"generateName": "leak-"},
        "involvedObject": {"kind": "Namespace", "name": namespace, "namespace": namespace},
        "reason": "Tested",
        "message": message,
        "type": "Normal",
    }


def test_a_value_of_a_lease_that_was_there_for_a_moment_is_found_in_an_event_that_was_there_for_a_moment(
    apiserver: RunningCluster, rest: Rest, sandbox: str, book: Book
) -> None:
    core = f"/api/v1/namespaces/{sandbox}"
    first, second, harmless = (secrets.token_hex(12) for _ in range(3))
    with watching(apiserver, leases=PLANTED):
        assert rest.post(f"{core}/secrets", secret("planted-a.db", password=first, username="reader-1")).ok
        rotated = secret("planted-a.db", password=second)
        assert rest.patch(f"{core}/secrets/planted-a.db", rotated).ok
        assert rest.post(f"{core}/secrets", secret("harmless", password=harmless)).ok
        said = rest.post(f"{core}/events", event(sandbox, f"reader-1 uses {first}, {harmless} is nobody's lease"))
        assert rest.delete(f"{core}/events/{said.body['metadata']['name']}").ok
        assert rest.delete(f"{core}/secrets/planted-a.db").ok
    (found,) = book.search()
    assert found.value == f"the value of password of Secret {sandbox}/planted-a.db"
    assert found.place == "the API server's events"
    assert first not in book.verdict()


@pytest.mark.parametrize("place", ["agentdeployments", "configmaps"])
def test_a_value_in_a_status_or_a_record_is_found(
    apiserver: RunningCluster, rest: Rest, sandbox: str, book: Book, place: str
) -> None:
    value = secrets.token_hex(12)
    agents = f"/apis/bulkhead.dev/v1alpha1/namespaces/{sandbox}/agentdeployments"
    with watching(apiserver, leases=PLANTED):
        assert rest.post(f"/api/v1/namespaces/{sandbox}/secrets", secret("planted-a.db", password=value)).ok
        if place == "configmaps":
            record = {"metadata": {"name": "record"}, "data": {"handle": f"role reader with {value}"}}
            assert rest.post(f"/api/v1/namespaces/{sandbox}/configmaps", record).ok
        else:
            spec = {"owner": "team-a", "image": "example.test/agent:1"}
            made = {"apiVersion": "bulkhead.dev/v1alpha1", "kind": "AgentDeployment", "metadata": {"name": "a"}}
            assert rest.post(agents, {**made, "spec": spec}).ok
            condition = {
                "type": "Ready",
                "status": "False",
                "reason": "Refused",
                "message": f"{value} is wrong",
                "lastTransitionTime": "2026-01-01T00:00:00Z",
            }
            answer = rest.patch(f"{agents}/a/status", {"status": {"conditions": [condition]}})
            assert answer.ok, answer.message
    found = {finding.place for finding in book.search() if sandbox in finding.value}
    assert found == {f"the API server's {place}"}


def test_what_had_come_when_a_watch_was_interrupted_is_read_as_it_was_sent(
    apiserver: RunningCluster, rest: Rest, sandbox: str
) -> None:
    path = f"/api/v1/namespaces/{sandbox}/secrets"
    stream = Stream(apiserver.kubeconfig)
    events = stream.lines(path, watch="1", resourceVersion=rest.get(SECRETS).body["metadata"]["resourceVersion"])
    for name in ("first", "second"):
        assert rest.post(path, secret(name, key="value")).ok
        if name == "first":
            assert next(events)["object"]["metadata"]["name"] == name
    assert select.select([stream], [], [], 30)[0], "the second event has not come"
    stream.interrupt()
    assert next(events)["object"]["metadata"]["name"] == "second"
    stream.reset()
