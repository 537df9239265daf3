"""Who an agent is to the API server: by what way it gets there, what it may do, and how soon that ends."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
from rich.console import Console
from rich.table import Table

from demo import containers
from demo.stage import Stage
from devcluster import network
from devcluster.errors import DevclusterError
from tests import leaks
from tests.apiserver.agents import Object
from tests.cluster.agents import DEAF, PRODUCTION, ROOM, Sandbox
from tests.cluster.attack import Attempt, Places, places, serving
from tests.cluster.bearer import Bearer
from tests.cluster.pods import Namespace, restricted_pod, wait_for

SERVICE = "10.96.0.1"
LISTENER = 9998
FLEET = 20
TINY = {"limits": {"cpu": "10m", "memory": "32Mi", "ephemeral-storage": "16Mi"}}

TOKEN = "/var/run/secrets/kubernetes.io/serviceaccount"
GATEWAY = "/var/run/bulkhead/tokens/gateway"

CACHED = 10.0
"""Seconds for which an API server remembers that a token was good."""
REFUSED_GOAL, POWERLESS_GOAL = CACHED + 1, 1.0
"""Seconds after the patch, on a machine with time."""
REFUSED_WITHIN, POWERLESS_WITHIN = CACHED + 10, 5.0
"""What is a failure on any machine; of being powerless, for half of them."""

RULES: list[Object] = [
    {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get", "list", "watch"]},
    {"apiGroups": [""], "resources": ["configmaps"], "resourceNames": ["notes"], "verbs": ["update", "patch"]},
]
POLICY: Object = {
    "production": PRODUCTION,
    "identity": {
        "kubernetesApi": {"rules": [{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["*"]}]},
        "audiences": ["gateway.example"],
    },
}
IDENTITY: Object = {
    "kubernetesApi": {"rules": RULES},
    "tokens": [{"audience": "gateway.example", "path": "gateway", "expirationSeconds": 900}],
}

API = (
    Attempt.parse("TCP/443>6443", SERVICE, "node"),
    Attempt.parse("TCP/6443", network.NODE_ADDRESS, "node"),
    Attempt.parse("TCP/6443", network.NODE_ADDRESS_6, "node"),
)
"""What an agent with rules is let to. To Cilium the API server is the node that it is on, by all addresses of that."""

CLOSED = (
    Attempt.parse("TCP/10250", network.NODE_ADDRESS, "node"),
    Attempt.parse(f"TCP/{LISTENER}", network.NODE_ADDRESS, "node"),
    Attempt.parse(f"UDP/{LISTENER}", network.NODE_ADDRESS, "node"),
    Attempt.parse("UDP/6443", network.NODE_ADDRESS, "node"),
    Attempt.parse("TCP/443", network.NODE_ADDRESS, "node"),
    Attempt.parse("ICMP", network.NODE_ADDRESS, "node"),
    Attempt.parse("TCP/10250", network.NODE_ADDRESS_6, "node"),
    Attempt.parse("TCP/5432", network.PRODUCTION_ADDRESS, "production"),
    Attempt.parse("TCP/6443", network.PRODUCTION_ADDRESS, "production"),
    Attempt.parse("TCP/443", network.PRODUCTION_ADDRESS_6, "production"),
    Attempt.parse("TCP/80", network.METADATA_ADDRESS, "metadata"),
    Attempt.parse("TCP/6443", network.METADATA_ADDRESS, "metadata"),
    Attempt.parse("TCP/443", network.OUTSIDE_ADDRESSES[0], "outside"),
)


@dataclass(frozen=True)
class Scene:
    """An agent "clerk" with rules, an agent "plain" without, and an ordinary pod."""

    sandbox: Sandbox
    elsewhere: Namespace
    places: Places

    def through(self, namespace: Namespace, pod: str) -> set[Attempt]:
        """Which packets from a pod arrive."""
        found = self.places.attack(namespace, pod, (*API, *CLOSED), seconds=1.0)
        return {attempt for attempt, result in found.items() if result.got_through}

    def ask(self, address: str, path: str, *arguments: str, agent: str = "clerk") -> int:
        """Send a request from an agent's pod with the agent's token; give the status."""
        script = (
            f'curl --silent --output /dev/null --max-time 5 --write-out "%{{http_code}}" --cacert {TOKEN}/ca.crt '
            f'--header "Authorization: Bearer $(cat {TOKEN}/token)" "$@"'
        )
        return int(self.sandbox.inside(f"{agent}-0", "sh", "-c", script, "sh", f"https://{address}{path}", *arguments))


@pytest.fixture(scope="module")
def scene(operator: Stage) -> Iterator[Scene]:
    with ExitStack() as stack:
        sandbox = stack.enter_context(Sandbox.opened(operator.cluster, POLICY))
        elsewhere = stack.enter_context(Namespace.created(operator.cluster))
        sandbox.kubectl("create", "configmap", "notes", "--from-literal=a=b")
        sandbox.agent("clerk", resources=ROOM, identity=IDENTITY)
        sandbox.agent("plain", resources=ROOM)
        elsewhere.run(restricted_pod("visitor"))
        sandbox.running("clerk", "plain")
        stack.enter_context(serving(Path("/run/netns", network.NODE), LISTENER))
        named = {
            "node": network.NODE,
            "production": network.PRODUCTION,
            "metadata": network.METADATA,
            "outside": network.OUTSIDE,
        }
        heard = stack.enter_context(places(**{name: Path("/run/netns", there) for name, there in named.items()}))
        found = Scene(sandbox, elsewhere, heard)
        # That its container runs says nothing of whether the network has taken up yet what its rules open.
        wait_for(lambda: set(API) <= found.through(sandbox, "clerk-0"), seconds=120, what="what its rules open is open")
        yield found


def claims(token: str) -> Object:
    """What a token says."""
    part = token.split(".")[1]
    said: Object = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    return said


@pytest.mark.parametrize("address", [f"{SERVICE}:443", f"{network.NODE_ADDRESS}:6443"], ids=["Service", "endpoint"])
def test_an_agent_with_rules_does_what_they_say_and_nothing_else(scene: Scene, address: str) -> None:
    own = f"/api/v1/namespaces/{scene.sandbox.name}"
    patch = ("--request", "PATCH", "--header", "Content-Type: application/merge-patch+json", "--data", '{"data":{}}')
    expected = {
        (f"{own}/configmaps",): 200,
        (f"{own}/configmaps/notes",): 200,
        (f"{own}/configmaps/notes", *patch): 200,
        (f"{own}/configmaps/kube-root-ca.crt", *patch): 403,
        (f"{own}/configmaps/notes", "--request", "DELETE"): 403,
        (f"{own}/secrets",): 403,
        (f"{own}/pods",): 403,
        (f"{own}/serviceaccounts/agent-clerk/token", "--request", "POST"): 403,
        (f"/api/v1/namespaces/{scene.elsewhere.name}/configmaps",): 403,
        ("/api/v1/nodes",): 403,
    }
    assert {request: scene.ask(address, *request) for request in expected} == expected


def test_an_ordinary_pod_reaches_all_that_is_tried(scene: Scene) -> None:
    # Each attempt lasts for a second, which may be too short once; who is kept out is so however often it tries.
    wait_for(
        lambda: scene.through(scene.elsewhere, "visitor") == {*API, *CLOSED}, seconds=60, what="all of it is reached"
    )


def test_with_rules_the_api_servers_port_opens_and_nothing_else(scene: Scene) -> None:
    assert scene.through(scene.sandbox, "clerk-0") == set(API)
    isolated = scene.sandbox.lab.condition("clerk", "Isolated")
    assert isolated["status"] == "True", isolated


def test_without_rules_there_is_no_token_and_no_way(scene: Scene) -> None:
    assert scene.through(scene.sandbox, "plain-0") == set()
    mounts = scene.sandbox.read("plain", "/proc/self/mounts")
    assert "secrets" not in mounts
    assert "bulkhead" not in mounts
    with pytest.raises(DevclusterError, match="No such file or directory"):
        scene.sandbox.inside("plain-0", "ls", TOKEN)


def test_its_tokens_are_its_pods_and_live_for_minutes(scene: Scene) -> None:
    for path, seconds in ((f"{TOKEN}/token", 600), (GATEWAY, 900)):
        said = claims(_copied(scene.sandbox, "clerk", path))
        assert said["exp"] - said["iat"] == seconds
        assert said["kubernetes.io"]["pod"]["uid"] == scene.sandbox.pod("clerk")["metadata"]["uid"]
        assert said["kubernetes.io"]["serviceaccount"]["name"] == "agent-clerk"
        assert (said["aud"] == ["gateway.example"]) == (path == GATEWAY)


def test_a_token_for_others_is_good_for_them_alone_and_dies_with_the_agents_run(scene: Scene) -> None:
    sandbox = scene.sandbox
    sandbox.start("caller", identity={"tokens": IDENTITY["tokens"]})
    assert scene.through(sandbox, "caller-0") == set(), "a token for others is no way to the API server"
    token = _copied(sandbox, "caller", GATEWAY)

    def review(*audiences: str) -> Object:
        asked = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview"}
        spec = {"token": token, "audiences": list(audiences)}
        answer = sandbox.lab.rest.post("/apis/authentication.k8s.io/v1/tokenreviews", {**asked, "spec": spec})
        found: Object = answer.body["status"]
        return found

    assert review("gateway.example")["user"]["username"] == f"system:serviceaccount:{sandbox.name}:agent-caller"
    assert not review("another.example").get("authenticated", False)
    assert not review().get("authenticated", False), "nor is it one for the API server"
    sandbox.lab.patch("caller", suspend=True)
    dead = wait_for(lambda: not review("gateway.example").get("authenticated", False), seconds=30, what="it is refused")
    assert dead <= REFUSED_WITHIN


def _copied(sandbox: Sandbox, agent: str, path: str = f"{TOKEN}/token") -> str:
    token = sandbox.read(agent, path).strip()
    leaks.learn(f"the token of {agent}, {path}", token)
    return token


def test_twenty_copied_tokens_are_powerless_soon_refused_once_the_cache_has_forgotten_them_and_never_good_again(
    operator: Stage, capsys: pytest.CaptureFixture[str]
) -> None:
    """Twenty agents side by side. Their pods live on for a while: it is not their end that ends the tokens."""
    names = [f"agent-{number}" for number in range(FLEET)]
    with Sandbox.opened(operator.cluster, POLICY) as sandbox:
        notes = f"/api/v1/namespaces/{sandbox.name}/configmaps/kube-root-ca.crt"
        for name in names:
            sandbox.agent(name, DEAF, resources=TINY, identity=IDENTITY, suspendGraceSeconds=30)
        sandbox.running(*names, within=300)
        with ThreadPoolExecutor(4) as pool:
            tokens = dict(zip(names, pool.map(lambda name: _copied(sandbox, name), names), strict=True))
        # Asked of containerd now: later that takes a while, and when the tokens are refused their pods' time runs out.
        tasks = containers.running(operator.cluster, sandbox.name)
        bearers = {name: Bearer(operator.cluster, token, notes) for name, token in tokens.items()}
        try:
            wait_for(
                lambda: all(bearer.statuses() == [200] for bearer in bearers.values()), seconds=30, what="all are good"
            )
            patched = {name: _suspend(sandbox, name, bearers[name]) for name in names}
            wait_for(lambda: all(one.first(401) for one in bearers.values()), seconds=60, what="all are refused")
            alive = [task for task in tasks if task.is_alive]
            sandbox.suspended(*names, within=180)
            for name in names:
                sandbox.lab.patch(name, suspend=False)
            accounts = ["default", *(f"agent-{name}" for name in names)]
            wait_for(
                lambda: sandbox.lab.names("ServiceAccount") == sorted(accounts),
                seconds=300,
                what="all are somebody again",
            )
            sandbox.running(names[0], within=300)
            fresh = _copied(sandbox, names[0])
            tried = {name: len(bearer.tries) for name, bearer in bearers.items()}
            wait_for(
                lambda: all(len(bearer.tries) > tried[name] + 5 for name, bearer in bearers.items()),
                seconds=30,
                what="the old tokens are tried again",
            )
        finally:
            for bearer in bearers.values():
                bearer.stop()
        with capsys.disabled():
            _show(bearers, patched)
        assert alive != [], "there were pods yet when the tokens were refused"
        for name, bearer in bearers.items():
            good, refused = bearer.last(200), bearer.first(401)
            assert good is not None and refused is not None
            assert good - patched[name] <= CACHED, f"{name}: powerless by itself, not when the cache ends"
            assert refused - patched[name] <= REFUSED_WITHIN, name
            assert bearer.statuses() in ([200, 403, 401], [200, 401]), f"{name}: once refused, refused for ever"
        powerless = sorted((bearer.last(200) or 0) - patched[name] for name, bearer in bearers.items())
        assert powerless[FLEET // 2] <= POWERLESS_WITHIN
        again = Bearer(operator.cluster, fresh, notes)
        wait_for(lambda: again.statuses() == [200], seconds=30, what="the token of the new run is good")
        again.stop()


def _suspend(sandbox: Sandbox, name: str, bearer: Bearer) -> float:
    """Suspend one agent and wait until that has had an effect, so that each is a try by itself; give when it was."""
    patched = time.monotonic()
    sandbox.lab.patch(name, suspend=True)
    wait_for(lambda: bearer.first(403) or bearer.first(401), seconds=30, what=f"{name} has lost its rights")
    return patched


def _show(bearers: dict[str, Bearer], patched: dict[str, float]) -> None:
    powerless = sorted((bearer.last(200) or 0) - patched[name] for name, bearer in bearers.items())
    refused = sorted((bearer.first(401) or 0) - patched[name] for name, bearer in bearers.items())
    table = Table("SECONDS AFTER THE PATCH", "MEDIAN", "MAX", "GOAL", box=None, title=f"{len(bearers)} copied tokens")
    for words, values, goal in (
        ("the last request that was allowed", powerless, POWERLESS_GOAL),
        ("the first 401", refused, REFUSED_GOAL),
    ):
        table.add_row(words, f"{values[len(values) // 2]:.2f}", f"{values[-1]:.2f}", f"{goal:g}")
    print()
    Console(width=120).print(table)
