"""Stopping many at once when the way to the API server is bad, and reading for many what proves that they are gone."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
import yaml

from bulkhead.cluster.client import Client
from bulkhead.cluster.connection import Connection
from bulkhead.cluster.errors import ApiError
from bulkhead.engine import fleet
from bulkhead.engine.livereads import LiveReads
from devcluster.api import RunningCluster
from tests import faults
from tests.apiserver.agents import Lab
from tests.apiserver.killswitches import Panel
from tests.apiserver.killswitches import panel as panels
from tests.apiserver.rest import Rest
from tests.faults import Action, Answer, Delay, DropAfter, DropBefore, FaultProxy, Hang, Request
from tests.operator_process import OperatorProcess, eventually, install_rights

DEADLINE = 10.0
"""Seconds after which the operator gives up a read."""
NAMES = [f"agent-{number}" for number in range(8)]


@pytest.fixture(scope="module")
def proxy(apiserver: RunningCluster) -> Iterator[FaultProxy]:
    with FaultProxy(apiserver.kubeconfig) as made:
        yield made


@pytest.fixture(scope="module")
def operator(
    apiserver: RunningCluster, rest: Rest, proxy: FaultProxy, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[OperatorProcess]:
    folder: Path = tmp_path_factory.mktemp("operator")
    user = yaml.safe_load(install_rights(apiserver).read_text())["users"][0]["user"]
    kubeconfig = proxy.write_kubeconfig(folder / "kubeconfig", token=user["token"])
    with OperatorProcess(kubeconfig, folder) as running:
        yield running
        assert running.errors() == []


@pytest.fixture
def panel(rest: Rest) -> Iterator[Panel]:
    yield from panels(rest)


@pytest.fixture
def lab(operator: OperatorProcess, proxy: FaultProxy, rest: Rest, sandbox: str) -> Iterator[Lab]:
    yield Lab(rest, sandbox)
    proxy.clear()


COLLECTIONS = r"/{namespace}/(networkpolicies|serviceaccounts|statefulsets|pods)\?labelSelector"
FAULTS: dict[str, tuple[Action, int | None, float]] = {
    "busy for a while, and asks to wait an hour": (
        Answer(429, reason="TooManyRequests", retry_after=3600),
        6,
        60.0,
    ),
    "broken for a while": (Answer(500, reason="InternalError"), 6, 60.0),
    "may not delete collections": (Answer(403, reason="Forbidden"), None, 60.0),
    "no answer, not done": (DropBefore(), None, 60.0),
    "no answer, but done": (DropAfter(), None, 60.0),
    "slow": (Delay(1.0), None, 60.0),
    # Less than a call's deadline, after which it would be given up: that is not waited for.
    "never answers": (Hang(), None, 40.0),
}


@pytest.mark.parametrize(("fault", "times", "within"), FAULTS.values(), ids=FAULTS)
def test_whatever_becomes_of_the_calls_for_many_every_agent_is_stopped(
    lab: Lab, panel: Panel, proxy: FaultProxy, fault: Action, times: int | None, within: float
) -> None:
    for name in NAMES:
        lab.create(name, tenant="acme", suspendGraceSeconds=2)
    lab.create("other")
    lab.until_built([*NAMES, "other"])
    proxy.on("DELETE", COLLECTIONS.format(namespace=lab.namespace), fault, times=times)
    panel.throw("acme", tenants=["acme"], namespaces=[lab.namespace])
    status = panel.until("acme", "Stopped", within=within)
    assert (status["matched"], status["stopped"]) == (8, 8)
    assert lab.names("Pod") == ["other-0"]
    assert proxy.seen("DELETE", COLLECTIONS.format(namespace=lab.namespace)) > 0


def test_a_switch_stops_while_the_api_server_throttles_everything_that_builds(
    lab: Lab, panel: Panel, proxy: FaultProxy
) -> None:
    for name in NAMES:
        lab.create(name, suspendGraceSeconds=2)
    lab.until_built(NAMES)
    busy = Answer(429, reason="TooManyRequests", retry_after=30)
    before = proxy.seen("POST", "/serviceaccounts")
    for method in ("POST", "PATCH"):
        proxy.on(method, "/(serviceaccounts|statefulsets|networkpolicies)", busy, times=None)
    for number in range(40):
        lab.create(f"new-{number}")
    eventually(lambda: proxy.seen("POST", "/serviceaccounts") > before, "what builds is throttled")
    panel.throw("lab", namespaces=[lab.namespace])
    status = panel.until("lab", "Stopped", within=60)
    assert (status["matched"], status["stopped"]) == (48, 48)
    assert lab.names("Pod") == []


def test_that_all_are_cut_off_is_said_though_whether_they_are_gone_cannot_be_read_yet(
    lab: Lab, panel: Panel, proxy: FaultProxy
) -> None:
    lab.create("one", suspendGraceSeconds=2)
    lab.until_built(["one"])
    read = proxy.on("GET", rf"/{lab.namespace}/pods\?limit", Hang(), times=None)
    panel.throw("lab", namespaces=[lab.namespace])
    status = panel.until("lab", "CutOff")
    assert (status["cutOff"], status.get("stopped", 0)) == (1, 0)
    eventually(lambda: read.used > 0, "it was to be read")
    proxy.remove(read)
    assert panel.until("lab", "Stopped")["stopped"] == 1


def test_that_all_are_cut_off_is_said_while_every_call_for_many_waits_for_its_answer(
    lab: Lab, panel: Panel, proxy: FaultProxy, rest: Rest, new_sandbox: Callable[[], str]
) -> None:
    labs = [lab, *(Lab(rest, new_sandbox()) for _ in range(fleet.AT_ONCE))]
    for one in labs:
        one.create("one", suspendGraceSeconds=2)
    for one in labs:
        one.until_built(["one"])
    held = proxy.on("DELETE", r"/statefulsets\?labelSelector", Hang(), times=None)
    panel.throw("all", namespaces=[one.namespace for one in labs])
    eventually(lambda: held.used >= fleet.AT_ONCE, lambda: f"as many calls wait as there may be, not {held.used}")
    # Less than the deadline of a call, after which it would be given up.
    assert panel.until("all", "CutOff", within=40)["cutOff"] == len(labs)
    assert held.used == fleet.AT_ONCE, "the rest waits for one of these"
    proxy.remove(held)
    assert panel.until("all", "Stopped")["stopped"] == len(labs)


def test_that_others_are_cut_off_is_said_while_the_proof_of_a_first_switch_has_no_answer(
    lab: Lab, panel: Panel, proxy: FaultProxy, rest: Rest, new_sandbox: Callable[[], str]
) -> None:
    other = Lab(rest, new_sandbox())
    for one in (lab, other):
        one.create("one", suspendGraceSeconds=2)
    for one in (lab, other):
        one.until_built(["one"])
    pods = f"/{lab.namespace}/pods?limit"
    rule = proxy.on("GET", re.escape(pods), Hang(), times=None)

    def came(method: str, path: str) -> list[Request]:
        asked = [one for one in tuple(proxy.requests) if one.method == method and path in one.target]
        return [one for one in asked if one.agent.startswith("bulkhead/switches")]

    panel.throw("first", namespaces=[lab.namespace])
    read = eventually(lambda: came("GET", pods), "the proof is asked for")[-1]
    panel.throw("second", namespaces=[other.namespace])
    panel.until("second", "CutOff")
    told = came("PATCH", "/killswitches/second/status")[-1]
    assert told.at - read.at < DEADLINE, "it was told while the proof waited for its answer"
    proxy.remove(rule)
    for name in ("first", "second"):
        assert panel.until(name, "Stopped")["stopped"] == 1


def test_a_second_stop_of_an_agent_is_not_called_one_before_it_is(lab: Lab, panel: Panel, proxy: FaultProxy) -> None:
    caller = {"pods": {"namespace": lab.namespace, "labels": {"app": "caller"}}}
    rules = {"ports": [{"containerPort": 8080}], "network": {"ingress": [{"from": caller}]}}
    lab.create("one", suspendGraceSeconds=2, **rules)
    lab.until_built(["one"])
    panel.throw("lab", namespaces=[lab.namespace])
    panel.until("lab", "Stopped")
    panel.remove("lab")
    lab.until_built(["one"])
    eventually(lambda: lab.status("one").get("replicas") == 1, "the pod is seen")
    held = proxy.on("DELETE", r"/networkpolicies\?labelSelector", Hang(), times=None)
    panel.throw("lab", namespaces=[lab.namespace])
    status = eventually(lambda: panel.status("lab"), "a status")
    assert (status["cutOff"], status["stopped"], "stoppedAt" in status) == (0, 0, False)
    proxy.remove(held)
    assert panel.until("lab", "Stopped")["stopped"] == 1


def test_the_normal_lane_pauses_when_it_is_throttled_and_does_not_hammer(
    lab: Lab, panel: Panel, proxy: FaultProxy
) -> None:
    busy = Answer(429, reason="TooManyRequests", retry_after=2)
    path = f"/{lab.namespace}/serviceaccounts"
    refused = proxy.on("POST", path, busy, times=20)
    for number in range(30):
        lab.create(f"new-{number}")
    lab.until_built([f"new-{number}" for number in range(30)], within=180)
    assert refused.used == 20
    came = [one.at for one in list(proxy.requests) if one.method == "POST" and path in one.target]
    # 16 workers were at it when the first was refused; nobody began anew before its two seconds were over.
    assert len([at for at in came if at < came[0] + 2]) <= 16


@pytest.fixture
def way(apiserver: RunningCluster) -> Iterator[FaultProxy]:
    """A way that the operator does not go: it reads pods too, and would be counted, or meet what is scripted."""
    with FaultProxy(apiserver.kubeconfig) as made:
        yield made


@pytest.fixture
async def client(way: FaultProxy, tmp_path: Path) -> AsyncIterator[Client]:
    connection = await Connection.load(kubeconfig=way.write_kubeconfig(tmp_path / "kubeconfig"))
    async with Client(connection, deadline=60.0) as client:
        yield client


async def test_reads_of_many_agents_share_lists_and_each_gets_its_own(
    lab: Lab, client: Client, way: FaultProxy
) -> None:
    agents = {name: lab.create(name) for name in NAMES}
    lab.until_built(NAMES)
    pods = f"GET /{lab.namespace}/pods"
    way.on("GET", f"/{lab.namespace}/pods", Delay(0.2), times=None)
    before = way.seen("GET", f"/{lab.namespace}/pods")
    reads = LiveReads(client)
    found = await asyncio.gather(*(reads.read(agents[name]) for name in NAMES))
    for name, (stateful_set, own) in zip(NAMES, found, strict=True):
        assert stateful_set is not None
        assert stateful_set["metadata"]["name"] == name
        assert [pod["metadata"]["name"] for pod in own] == [f"{name}-0"]
    assert way.seen("GET", f"/{lab.namespace}/pods") - before == 3, f"two alone and one for six: {pods}"


async def test_a_read_never_shares_a_list_that_began_before_it_was_asked_for(
    lab: Lab, client: Client, way: FaultProxy
) -> None:
    agents = [lab.create(name) for name in NAMES[:3]]
    lab.until_built(NAMES[:3])
    way.on("GET", f"/{lab.namespace}/pods", Delay(0.3), times=None)
    reads = LiveReads(client)
    early = [asyncio.create_task(reads.read(agent)) for agent in agents]
    # The first two are read alone; the list for the third begins when one of them is done.
    await early[0]
    await asyncio.sleep(0)
    late = asyncio.create_task(reads.read({**agents[0], "metadata": {**agents[0]["metadata"], "uid": "another"}}))
    assert await late == (None, ())
    assert [len(own) for _, own in await asyncio.gather(*early)] == [1, 1, 1]


async def test_a_failed_list_fails_for_each_of_those_who_waited_for_it(
    lab: Lab, client: Client, way: FaultProxy
) -> None:
    agents = [lab.create(name) for name in NAMES[:4]]
    lab.until_built(NAMES[:4])
    way.on("GET", f"/{lab.namespace}/pods", Delay(0.2), times=2)
    way.on("GET", f"/{lab.namespace}/pods", Answer(500, reason="InternalError"), times=1)
    reads = LiveReads(client)
    found = await asyncio.gather(*(reads.read(agent) for agent in agents), return_exceptions=True)
    assert [isinstance(one, ApiError) for one in found] == [False, False, True, True]
    assert (await reads.read(agents[3]))[0] is not None


async def until_asked(way: FaultProxy, lab: Lab, times: int) -> None:
    await faults.eventually(lambda: way.seen("GET", f"/{lab.namespace}/pods") >= times, f"asked {times} times")


async def test_when_nobody_waits_any_more_nothing_is_read(lab: Lab, client: Client, way: FaultProxy) -> None:
    agents = [lab.create(name) for name in NAMES[:4]]
    way.on("GET", f"/{lab.namespace}/pods", Hang(), times=None)
    reads = LiveReads(client)
    before = asyncio.all_tasks()
    asked = [asyncio.create_task(reads.read(agent)) for agent in agents]
    await until_asked(way, lab, 2)
    for one in asked:
        one.cancel()
    await asyncio.gather(*asked, return_exceptions=True)
    await faults.eventually(lambda: asyncio.all_tasks() == before, "no task is left of it")
    # Of two that wait for the same list, one goes on waiting; it is ended with the list.
    asked = [asyncio.create_task(reads.read(agent)) for agent in agents]
    await until_asked(way, lab, 4)
    for one in asked[:3]:
        one.cancel()
    await until_asked(way, lab, 5)
    await reads.stop()
    await asyncio.gather(*asked, return_exceptions=True)
    await faults.eventually(lambda: asyncio.all_tasks() == before, "no task is left of it")
