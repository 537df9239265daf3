"""The operator is killed between any two steps of a credential's life, and its issuer fails in every way.

Whatever happens: nothing valid is unknown to the books, the agent gets a credential that is accepted, a suspension ends
all of it, and no other agent notices.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import yaml

from bulkhead.plan.lease import RECORD_SELECTOR
from devcluster.api import RunningCluster
from tests.apiserver.credentials import ASKED, RECORDS, SELECTED, Agents, Files, Token, allowed
from tests.apiserver.rest import Rest
from tests.faults import Action, Answer, DropAfter, DropBefore, FaultProxy, Hang, Rewrite, Rule
from tests.operator_process import OperatorProcess, eventually, install_rights

RECORD = "/configmaps/bulkhead-lease-"
OTHER = {**ASKED, "custom": {"issuer": "other"}}


class Stage:
    """An operator behind a proxy, its issuers, and the means to kill it at a step."""

    def __init__(self, operator: OperatorProcess, proxy: FaultProxy, files: Files) -> None:
        self.operator = operator
        self.proxy = proxy
        self.files = files
        self.lab: Agents
        self.left: list[str] = []
        """Names of the records that tests before have left: what they are of is still being taken away."""

    def begin(self, lab: Agents) -> None:
        """Takes note whose test is going on."""
        self.lab = lab
        self.left = self.strangers()

    def strangers(self) -> list[str]:
        """The records that are not of this test."""
        found = self.lab.rest.get(RECORDS + SELECTED).body["items"]
        return [one["metadata"]["name"] for one in found if one["data"]["agentNamespace"] != self.lab.namespace]

    def own(self, path: str) -> str:
        """A path in the namespace of this test: what another had there would meet the fault in its place."""
        return f"/namespaces/{self.lab.namespace}{path}"

    def own_record(self) -> str:
        """The path of a record of this test."""
        return f"/configmaps/(?!{'|'.join(self.left)})bulkhead-lease-" if self.left else RECORD

    def killed_by_its_issuer(self, call: str, when: str) -> Callable[[], bool]:
        """Kills it in the middle of a call to the issuer, before or after that took effect."""
        if call == "revoke":
            # What others have left is revoked too, some of it a minute after the first time.
            eventually(
                lambda: not self.strangers(), lambda: f"nobody else is on the books: {self.strangers()}", within=180
            )
        self.files.behave("files", **{call: {"do": "die", "when": when, "once": True}})
        return self.is_dead

    def killed_at(self, method: str, path: str, *, done: bool) -> Callable[[], bool]:
        """Kills it at a request to the API server: before it is carried out, or when it was."""
        rule: Rule
        if done:

            def kill(answer: dict[str, Any]) -> dict[str, Any]:
                self.operator.kill()
                return answer

            rule = self.proxy.on(method, path, Rewrite(kill), watch=False)
        else:
            rule = self.proxy.on(method, path, Hang(), watch=False)

        def killed() -> bool:
            if rule.used and not done and not self.is_dead():
                self.operator.kill()
            return self.is_dead()

        return killed

    def is_dead(self) -> bool:
        return not self.operator.is_alive()

    def start(self) -> None:
        self.proxy.clear()
        self.operator.start()


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    return Files(tmp_path_factory.mktemp("files"))


@pytest.fixture(scope="module")
def proxy(apiserver: RunningCluster) -> Iterator[FaultProxy]:
    with FaultProxy(apiserver.kubeconfig) as made:
        yield made


@pytest.fixture(scope="module")
def operator(
    apiserver: RunningCluster, rest: Rest, files: Files, proxy: FaultProxy, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[OperatorProcess]:
    folder: Path = tmp_path_factory.mktemp("operator")
    user = yaml.safe_load(install_rights(apiserver).read_text())["users"][0]["user"]
    kubeconfig = proxy.write_kubeconfig(folder / "kubeconfig", token=user["token"])
    with (
        allowed(rest),
        OperatorProcess(kubeconfig, folder, extra=files.arguments, packages=[files.packages]) as running,
    ):
        yield running


@pytest.fixture
def stage(operator: OperatorProcess, proxy: FaultProxy, files: Files) -> Iterator[Stage]:
    yield Stage(operator, proxy, files)
    proxy.clear()
    if not operator.is_alive():
        operator.start()


@pytest.fixture
def lab(stage: Stage, files: Files, rest: Rest, sandbox: str) -> Iterator[Agents]:
    agents = Agents(rest, sandbox)
    stage.begin(agents)
    yield agents
    files.clear()
    for name in agents.names("AgentDeployment"):
        # Sooner than with the namespace: the next test may have to wait for what becomes of their credentials.
        rest.delete(agents.path("AgentDeployment", name))


ISSUING: dict[str, Callable[[Stage], Callable[[], bool]]] = {
    "before anything": lambda stage: stage.killed_by_its_issuer("prepare", "before"),
    "before the finalizer is written": lambda stage: stage.killed_at(
        "PATCH", stage.own("/agentdeployments/scout\\?"), done=False
    ),
    "before the record is written": lambda stage: stage.killed_at("POST", "/configmaps", done=False),
    "when the record is written": lambda stage: stage.killed_at("POST", "/configmaps", done=True),
    "before the issuer issues": lambda stage: stage.killed_by_its_issuer("issue", "before"),
    "when the issuer has issued": lambda stage: stage.killed_by_its_issuer("issue", "after"),
    "before the Secret is written": lambda stage: stage.killed_at("POST", stage.own("/secrets"), done=False),
    "when the Secret is written": lambda stage: stage.killed_at("POST", stage.own("/secrets"), done=True),
    "before the record says so": lambda stage: stage.killed_at("PATCH", stage.own_record(), done=False),
    "when the record says so": lambda stage: stage.killed_at("PATCH", stage.own_record(), done=True),
}


@pytest.mark.parametrize("step", ISSUING)
def test_killed_while_it_issues_it_knows_of_everything_and_the_agent_gets_a_credential(
    stage: Stage, lab: Agents, files: Files, step: str
) -> None:
    killed = ISSUING[step](stage)
    lab.ask("scout")
    eventually(killed, f"it is killed {step}", within=60)
    assert known(lab) >= set(files.valid("scout"))
    stage.start()
    token = lab.until_holding(files, "scout")
    assert known(lab) >= set(files.valid("scout"))
    lab.patch("scout", suspend=True)
    # What was begun and never answered is revoked twice, a minute apart: until then the step is not called done.
    eventually(lambda: not files.valid("scout") and lab.secret("scout") is None, "all of it is dead", within=60)
    assert not files.accepts(token)


ROTATING: dict[str, Callable[[Stage], Callable[[], bool]]] = {
    "when the issuer has issued": lambda stage: stage.killed_by_its_issuer("issue", "after"),
    "before the Secret is written": lambda stage: stage.killed_at(
        "PATCH", stage.own("/secrets/agent-scout.store"), done=False
    ),
    "when the Secret is written": lambda stage: stage.killed_at(
        "PATCH", stage.own("/secrets/agent-scout.store"), done=True
    ),
    "when the record says so": lambda stage: stage.killed_at("PATCH", stage.own_record(), done=True),
}


@pytest.mark.parametrize("step", ROTATING)
def test_killed_while_it_rotates_what_the_agent_reads_is_accepted_at_every_moment(
    stage: Stage, lab: Agents, files: Files, step: str
) -> None:
    turns = [{**ASKED, "custom": {"issuer": "files", "parameters": {"turn": turn}}} for turn in ("1", "2")]
    lab.ask("scout", turns[0])
    first = lab.until_holding(files, "scout")
    eventually(lambda: lab.records("scout")[0]["data"]["state"] == "Active", "it is active", within=30)
    killed = ROTATING[step](stage)
    # Another one is needed at once, and the present one is kept meanwhile, as when its time had come.
    lab.patch("scout", credentials=[turns[1]])

    def watched(condition: Callable[[], bool]) -> bool:
        assert files.accepts(lab.token("scout")), "the agent reads a credential that is not accepted"
        return condition()

    eventually(lambda: watched(killed), f"it is killed {step}", within=60)
    assert known(lab) >= set(files.valid("scout"))
    stage.start()
    eventually(lambda: watched(lambda: settled(lab, files, first)), "another one is delivered and active", within=60)
    lab.patch("scout", suspend=True)
    eventually(lambda: not files.valid("scout") and lab.secret("scout") is None, "all of it is dead", within=60)


def settled(lab: Agents, files: Files, first: Token) -> bool:
    """Whether the newest lease is active, and it is what the Secret holds."""
    secret = lab.secret("scout")
    lease = secret["metadata"]["annotations"]["bulkhead.dev/lease"] if secret is not None else ""
    active = {one["metadata"]["labels"]["bulkhead.dev/lease"] for one in lab.records("scout") if is_active(one)}
    return lab.token("scout") != first and lease in active


def is_active(record: dict[str, Any]) -> bool:
    return bool(record["data"]["state"] == "Active")


REVOKING: dict[str, Callable[[Stage], Callable[[], bool]]] = {
    "before the record says that it ends": lambda stage: stage.killed_at("PATCH", stage.own_record(), done=False),
    "when the record says that it ends": lambda stage: stage.killed_at("PATCH", stage.own_record(), done=True),
    "before the issuer revokes": lambda stage: stage.killed_by_its_issuer("revoke", "before"),
    "when the issuer has revoked": lambda stage: stage.killed_by_its_issuer("revoke", "after"),
    "before the Secret is deleted": lambda stage: stage.killed_at("DELETE", stage.own("/secrets/"), done=False),
    "when the Secret is deleted": lambda stage: stage.killed_at("DELETE", stage.own("/secrets/"), done=True),
    "before the record is deleted": lambda stage: stage.killed_at("DELETE", stage.own_record(), done=False),
    "when the record is deleted": lambda stage: stage.killed_at("DELETE", stage.own_record(), done=True),
}


@pytest.mark.parametrize("step", REVOKING)
def test_killed_while_it_revokes_nothing_lives_on(stage: Stage, lab: Agents, files: Files, step: str) -> None:
    killed, _ = suspended(stage, lab, files, step)
    eventually(killed, f"it is killed {step}", within=60)
    stage.start()
    lab.until_revoked(files, "scout")
    eventually(
        lambda: lab.status("scout").get("suspension", {}).get("credentialsRevokedAt"), "the step's time", within=60
    )


@pytest.mark.parametrize(
    "step",
    [
        "when the record says that it ends",
        "when the issuer has revoked",
        "when the Secret is deleted",
        "before the record is deleted",
    ],
)
def test_killed_while_it_revokes_an_agent_that_was_resumed_meanwhile_relies_on_nothing_dead(
    stage: Stage, lab: Agents, files: Files, step: str
) -> None:
    killed, first = suspended(stage, lab, files, step)
    eventually(killed, f"it is killed {step}", within=60)
    lab.patch("scout", suspend=False)
    stage.start()
    # The new record is active only when the credential was delivered: until then the agent is not built again.
    second = eventually(lambda: lab.token("scout") != first and lab.token("scout"), "another credential", within=60)
    is_accepted = files.accepts(second)
    assert is_accepted
    eventually(lambda: not files.accepts(first), "the one before is dead", within=60)
    lab.until_holding(files, "scout")


def suspended(stage: Stage, lab: Agents, files: Files, step: str) -> tuple[Callable[[], bool], Token]:
    """An agent that holds a credential and is just being suspended, by an operator that is killed at a step of it.

    Gives the credential too: a moment later its Secret may be gone.
    """
    lab.ask("scout")
    held = lab.until_holding(files, "scout")
    eventually(lambda: [one for one in lab.records("scout") if is_active(one)], "it is active", within=30)
    killed = REVOKING[step](stage)
    lab.patch("scout", suspend=True)
    return killed, held


ANSWERS: dict[str, Action] = {
    "conflict": Answer(409, reason="Conflict"),
    "not now": Answer(429, reason="TooManyRequests", retry_after=1),
    "an error": Answer(500, reason="InternalError"),
    "no answer, not done": DropBefore(),
    "no answer, but done": DropAfter(),
}
REQUESTS = {
    "create the record": ("POST", "/configmaps"),
    "change the record": ("PATCH", RECORD),
    "delete the record": ("DELETE", RECORD),
    "create the Secret": ("POST", "/secrets"),
    "delete the Secret": ("DELETE", "/secrets/"),
    "set the finalizer": ("PATCH", "/agentdeployments/scout-[0-9]\\?"),
}


@pytest.mark.parametrize("request_", REQUESTS, ids=REQUESTS)
def test_no_answer_of_the_api_server_leaves_anything_behind(
    stage: Stage, lab: Agents, files: Files, request_: str
) -> None:
    method, path = REQUESTS[request_]
    for number, fault in enumerate(ANSWERS.values()):
        rule = stage.proxy.on(method, path, fault, watch=False, times=2)
        lab.ask(f"scout-{number}")
        lab.until_holding(files, f"scout-{number}")
        lab.patch(f"scout-{number}", suspend=True)
        eventually(lambda rule=rule: rule.used, "the fault happens", within=30)  # type: ignore[misc]
        stage.proxy.clear()
    for number in range(len(ANSWERS)):
        eventually(
            lambda name=f"scout-{number}": not files.valid(name) and lab.secret(name) is None,  # type: ignore[misc]
            f"all of scout-{number} is dead",
            within=60,
        )
    # What was never answered is revoked once more a minute later, and stays on the books until then.
    eventually(
        lambda: {one["data"]["state"] for one in lab.records()} <= {"Confirming"}, "all of it is dead", within=60
    )


def test_an_issuer_that_is_down_is_nobody_elses_trouble_and_is_not_flooded_with_records(
    stage: Stage, lab: Agents, files: Files
) -> None:
    lab.ask("holder")
    held = lab.until_holding(files, "holder")
    files.behave(issue={"do": "down"}, renew={"do": "down"}, revoke={"do": "down"})
    lab.ask("scout")
    lab.ask("neighbour", OTHER)
    eventually(lambda: lab.condition("scout", "CredentialsReady").get("reason") == "Failing", "it is told", within=30)
    eventually(lambda: lab.get("StatefulSet", "neighbour"), "the neighbour is built", within=30)
    until = time.monotonic() + 12
    most = 0
    while time.monotonic() < until:
        most = max(most, len(lab.records("scout")))
        assert files.accepts(held)
        time.sleep(0.5)
    assert 1 <= most <= 3
    files.behave()
    # What has failed for so long is not tried again for up to a minute, a revocation and then an issue.
    lab.until_holding(files, "scout", within=180)


def test_an_answer_that_comes_too_late_is_waited_for_and_revoked(stage: Stage, lab: Agents, files: Files) -> None:
    files.behave(issue={"do": "slow", "seconds": 30, "once": True})
    lab.ask("scout")
    eventually(lambda: lab.records("scout"), "it is on the books", within=30)
    lab.patch("scout", suspend=True)
    eventually(lambda: not lab.list("Pod"), "it is stopped")
    lab.until_revoked(files, "scout", within=120)


def known(lab: Agents) -> set[str]:
    """The accounts that the books know."""
    return {yaml.safe_load(one["data"]["handle"])["account"] for one in lab.records()}


def test_what_nobody_knows_is_revoked_though_the_books_cannot_be_read_at_once(
    stage: Stage, lab: Agents, files: Files
) -> None:
    lab.ask("scout")
    lab.until_holding(files, "scout")
    (account,) = files.valid("scout")
    stray = f"{account.rpartition('-')[0]}-aaaaaaaaaaaa"
    stage.operator.kill()
    files.let_in(stray)
    # The first list of records is the mirror's; the second is to say whether what the issuer has is on the books.
    listed = rf"/configmaps\?.*{quote(RECORD_SELECTOR, safe='')}"
    rule = stage.proxy.on("GET", listed, Answer(500, reason="InternalError"), watch=False, skip=1)
    stage.operator.start()
    eventually(lambda: stray not in files.valid(), "what has no record is revoked", within=90)
    assert rule.used == 1
