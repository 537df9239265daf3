"""A token that somebody copied out of a pod: dead soon after its agent is suspended, and for good.

The pods here have no kubelet, so the token is requested as a kubelet requests it: for the pod, which it is bound to.
Whoever has copied it uses it without a pause, from outside of every network rule.
"""

from __future__ import annotations

import base64
import http.client
import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from statistics import median
from typing import Any
from urllib.parse import urlsplit

import pytest

from devcluster.api import RunningCluster
from devcluster.kubeconfig import read
from tests import leaks
from tests.access_spellings import r
from tests.apiserver.agents import Lab
from tests.apiserver.conftest import POLICIES
from tests.apiserver.rest import AGENTS, IDLE, MERGE, Rest
from tests.operator_process import OperatorProcess, eventually, install_rights

Object = dict[str, Any]

TRIES = 20
RULE = r("get list", "configmaps")
RIGHTS = {"kubernetesApi": {"rules": [RULE]}}
PAUSE = 0.05
"""Seconds between two uses of a token while it is good for something."""
LONGER_PAUSE = 0.5
"""And from then on: twenty thieves share one machine with the operator."""
APART = 1.0
"""Seconds between two suspensions: each is a try of its own."""
GOAL = 1.0
"""Seconds of our own: until the patch is seen and the RoleBinding, then the ServiceAccount is gone."""
REMEMBERED = 10.0
"""Seconds for which the API server remembers that it has looked at a token."""
SLOW = 5
"""How much slower than the goal a busy machine may be."""
FORBIDDEN_WITHIN = SLOW * GOAL
REFUSED_WITHIN = REMEMBERED + SLOW * GOAL
STALLED = 3
"""Tries in which it may be slower yet."""
WATCHED = REFUSED_WITHIN + 12


class Thief:
    """Somebody with a copied token, outside of the cluster."""

    def __init__(self, cluster: RunningCluster, namespace: str, token: str) -> None:
        config = read(cluster.kubeconfig)
        server, context = urlsplit(config.server), config.anonymous()
        self._namespace = namespace
        self._connection = http.client.HTTPSConnection(str(server.hostname), server.port, context=context, timeout=30)
        self._headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        self._used = time.monotonic()

    def __enter__(self) -> Thief:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def reads(self) -> int:
        """Uses what the token is for; returns the status of the answer."""
        return self._send("GET", f"/api/v1/namespaces/{self._namespace}/configmaps")[0]

    def rights(self) -> tuple[int, list[Object]]:
        """Asks the API server what the token's bearer may do in the namespace."""
        review = {"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectRulesReview"}
        body = {**review, "spec": {"namespace": self._namespace}}
        status, answer = self._send("POST", "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews", body)
        return status, answer["status"]["resourceRules"] if status == 201 else []

    def _send(self, method: str, path: str, body: Object | None = None) -> tuple[int, Object]:
        data = None if body is None else json.dumps(body)
        if time.monotonic() - self._used > IDLE:
            # While all others were stopped and built again, the API server may have closed it.
            self._connection.close()
        self._connection.request(method, path, body=data, headers=self._headers)
        answer = self._connection.getresponse()
        found = answer.status, json.loads(answer.read() or b"{}")
        self._used = time.monotonic()
        return found


@dataclass(frozen=True)
class Theft:
    """How long a copied token went on, in seconds since the API server had accepted the patch."""

    allowed: float
    """The last time that it was good for something."""
    authenticated: float
    """The last time that the API server knew its bearer."""
    statuses: tuple[int, ...]
    """What it was answered, without repetition."""


@pytest.fixture(scope="module")
def operator(
    apiserver: RunningCluster, rest: Rest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[OperatorProcess]:
    with OperatorProcess(install_rights(apiserver), tmp_path_factory.mktemp("operator")) as running:
        yield running


@pytest.fixture
def lab(operator: OperatorProcess, rest: Rest, sandbox: str) -> Iterator[Lab]:
    offer = {"identity": {"kubernetesApi": {"rules": [RULE]}, "audiences": ["vault"]}}
    assert rest.patch(f"{POLICIES}/default", {"spec": offer}).ok
    yield Lab(rest, sandbox)
    assert rest.patch(f"{POLICIES}/default", {"spec": {"identity": None}}).ok


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    """Closes connections when the test is over."""
    with ExitStack() as opened:
        yield opened


def copied_token(lab: Lab, agent: str, **request: Any) -> str:
    """Requests a token for the agent's pod as its kubelet does, and hands it to somebody else."""
    pod = lab.the("Pod", f"{agent}-0")
    bound = {"apiVersion": "v1", "kind": "Pod", "name": f"{agent}-0", "uid": pod["metadata"]["uid"]}
    body = {
        "apiVersion": "authentication.k8s.io/v1",
        "kind": "TokenRequest",
        "spec": {"expirationSeconds": 600, "boundObjectRef": bound, **request},
    }
    answer = lab.rest.post(lab.path("ServiceAccount", f"agent-{agent}") + "/token", body)
    assert answer.ok, answer.message
    token = str(answer.body["status"]["token"])
    leaks.learn(f"the token of agent {agent}", token)
    return token


def reads(thief: Thief) -> bool:
    return thief.reads() == 200


def suspend_and_watch(cluster: RunningCluster, namespace: str, begin: float, name: str, thief: Thief) -> Theft:
    """Suspends an agent by one patch, and uses its token from then on until nothing can come of it any more."""
    path = f"{AGENTS.format(namespace=namespace)}/{name}"
    with Rest(cluster.kubeconfig) as admin:
        time.sleep(max(begin - time.monotonic(), 0))
        assert admin.get(path).ok
        assert thief.reads() == 200
        assert admin.send("PATCH", path, {"spec": {"suspend": True}}, content_type=MERGE).ok
        began = time.monotonic()
    allowed = authenticated = 0.0
    statuses: list[int] = []
    while (now := time.monotonic() - began) < WATCHED:
        status = thief.reads()
        allowed = now if status == 200 else allowed
        authenticated = now if status != 401 else authenticated
        statuses += [status] if status not in statuses[-1:] else []
        time.sleep(PAUSE if status == 200 else LONGER_PAUSE)
    return Theft(allowed, authenticated, tuple(statuses))


def test_a_copied_token_may_nothing_at_once_is_refused_soon_and_never_works_again(
    apiserver: RunningCluster, lab: Lab, stack: ExitStack
) -> None:
    names = [f"scout-{number}" for number in range(TRIES)]
    for name in names:
        lab.create(name, identity=RIGHTS, suspendGraceSeconds=2)
    lab.until_built(names, within=60)
    thieves = {name: stack.enter_context(Thief(apiserver, lab.namespace, copied_token(lab, name))) for name in names}
    for name in names:
        eventually(partial(reads, thieves[name]), f"{name} may read what it asked for")

    first = time.monotonic()
    watch = partial(suspend_and_watch, apiserver, lab.namespace)
    with ThreadPoolExecutor(TRIES) as pool:
        begins = (first + APART * number for number in range(TRIES))
        thefts = list(pool.map(watch, begins, names, (thieves[name] for name in names)))

    for what, times in (
        ("good for something", [one.allowed for one in thefts]),
        ("known", [one.authenticated for one in thefts]),
    ):
        print(f"{TRIES} tokens, {what} after the patch: median {median(times):.2f} s, at most {max(times):.2f} s")
    print(f"the goals are {GOAL:g} s and {REMEMBERED + GOAL:g} s")
    assert [one.statuses[-1] for one in thefts] == [401] * TRIES
    # What the API server remembers of a token may end in the same moment as its rights, and both before the next use.
    orderly = ((200, 403, 401), (403, 401), (200, 401), (401,))
    assert [one.statuses for one in thefts if one.statuses not in orderly] == []
    # Rights end by themselves, and not when the API server forgets that the token was good. A stall of the machine hits
    # those who are suspended just then.
    assert max(one.allowed for one in thefts) < REMEMBERED
    assert sum(one.allowed > FORBIDDEN_WITHIN for one in thefts) <= STALLED
    assert sum(one.authenticated > REFUSED_WITHIN for one in thefts) <= STALLED

    for name in names:
        lab.until_state(name, "Suspended", within=60)
    for kind in ("Role", "RoleBinding"):
        assert lab.names(kind) == []
    for name in names:
        lab.patch(name, suspend=False)
    lab.until_built(names, within=60)
    for name in names:
        fresh = stack.enter_context(Thief(apiserver, lab.namespace, copied_token(lab, name)))
        eventually(partial(reads, fresh), f"{name} may read again")
        assert not reads(thieves[name])
        assert thieves[name].rights()[0] == 401


def test_an_agent_may_what_it_asked_for_and_what_everybody_may(
    apiserver: RunningCluster, lab: Lab, stack: ExitStack
) -> None:
    lab.create("scout", identity=RIGHTS)
    lab.create("plain")
    lab.until_built(["scout", "plain"])
    rights = {
        name: stack.enter_context(Thief(apiserver, lab.namespace, copied_token(lab, name))).rights
        for name in ("scout", "plain")
    }
    eventually(lambda: any("configmaps" in one["resources"] for one in rights["scout"]()[1]), "the Role is in force")
    more = [one for one in rights["scout"]()[1] if one not in rights["plain"]()[1]]
    assert more == [{"verbs": ["get", "list"], "apiGroups": [""], "resources": ["configmaps"]}]
    assert not any("configmaps" in one["resources"] for one in rights["plain"]()[1])


def test_a_token_for_somebody_else_is_none_for_the_api_server(
    apiserver: RunningCluster, lab: Lab, stack: ExitStack
) -> None:
    lab.create("scout", identity={**RIGHTS, "tokens": [{"audience": "vault", "path": "vault"}]})
    lab.until_built(["scout"])
    own = stack.enter_context(Thief(apiserver, lab.namespace, copied_token(lab, "scout")))
    eventually(lambda: own.reads() == 200, "the agent's own token works")
    for_vault = copied_token(lab, "scout", audiences=["vault"])
    assert stack.enter_context(Thief(apiserver, lab.namespace, for_vault)).reads() == 401


def test_the_audience_of_the_api_server_is_refused_as_one_for_others(lab: Lab, rest: Rest) -> None:
    token = copied_token_claims(lab)
    (audience,) = token["aud"]
    assert rest.patch(f"{POLICIES}/default", {"spec": {"identity": {"audiences": [audience]}}}).ok
    lab.create("sly", identity={"tokens": [{"audience": audience, "path": "api"}]})

    def message() -> str:
        return str(lab.condition("sly", "PolicyAccepted").get("message"))

    # Policies and agents come by two watches: at first it may be refused because the policy did not offer it yet.
    eventually(lambda: "is the API server itself" in message(), lambda: f"the audience is told: {message()}")
    lab.until_state("sly", "Refused")
    assert "is the API server itself" in message()
    assert not lab.list("StatefulSet")


def copied_token_claims(lab: Lab) -> Object:
    """The claims of a token that is requested without an audience, as nobody but the API server reads them."""
    eventually(lambda: lab.get("ServiceAccount", "default"), "the default service account")
    body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"expirationSeconds": 600}}
    answer = lab.rest.post(lab.path("ServiceAccount", "default") + "/token", body)
    part = str(answer.body["status"]["token"]).split(".")[1]
    claims: Object = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    return claims


def test_rights_that_are_taken_back_are_gone_while_the_agent_stays_somebody(
    apiserver: RunningCluster, lab: Lab, stack: ExitStack
) -> None:
    lab.create("scout", identity=RIGHTS)
    lab.until_built(["scout"])
    thief = stack.enter_context(Thief(apiserver, lab.namespace, copied_token(lab, "scout")))
    eventually(lambda: thief.reads() == 200, "the agent may read")
    lab.patch("scout", identity={"kubernetesApi": {"rules": [r("get", "configmaps")]}})
    eventually(lambda: thief.reads() == 403, "listing is no longer among its rights")
    lab.patch("scout", identity=None)
    eventually(lambda: lab.names("Role") == lab.names("RoleBinding") == [], "neither Role nor binding is left")

    def bare() -> bool:
        pod = lab.get("Pod", "scout-0")
        return pod is not None and not any(one["name"] == "kubernetes-api" for one in pod["spec"]["volumes"])

    eventually(bare, "the next pod has no token")
    eventually(lambda: thief.reads() == 401, "the token of the pod before is refused")
