"""Bringing objects to what is wanted, judged by a real API server."""

from __future__ import annotations

import copy
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from bulkhead.api import meta
from bulkhead.api.agentdeployment import parse_spec
from bulkhead.cluster.apply import TRIES, Applied, Applier, Conflict
from bulkhead.cluster.client import Client
from bulkhead.cluster.connection import Connection
from bulkhead.cluster.errors import ApiError, Unreachable
from bulkhead.cluster.resources import AGENTS, NAMESPACES, STATEFUL_SETS, Object, resource_of
from bulkhead.plan import identity, network, workload
from devcluster.api import RunningCluster
from tests.apiserver.rest import APPLY, Rest
from tests.faults import Answer, DropAfter, FaultProxy, eventually


@pytest.fixture
def proxy(apiserver: RunningCluster) -> Iterator[FaultProxy]:
    with FaultProxy(apiserver.kubeconfig) as proxy:
        yield proxy


@pytest.fixture
async def client(proxy: FaultProxy, tmp_path: Path) -> AsyncIterator[Client]:
    """The applier's client: its requests are counted, and made to fail, by the proxy."""
    connection = await Connection.load(kubeconfig=proxy.write_kubeconfig(tmp_path / "kubeconfig"))
    async with Client(connection) as client:
        yield client


@dataclass
class Bench:
    """What a test works with: an applier, an owner, and somebody else who edits by hand.

    Owners exist: the garbage collector runs, and deletes what belongs to nobody that is there.
    """

    applier: Applier
    client: Client
    proxy: FaultProxy
    rest: Rest
    namespace: str
    agent: Object
    keeper: Object
    """A stranger who owns things too."""

    async def ensure(self, desired: Object, live: Object | None = None) -> Applied:
        return await self.applier.ensure(desired, live=live, owner_uid=_owner(desired))

    def path(self, obj: Object) -> str:
        return resource_of(obj).path(namespace=self.namespace, name=obj["metadata"]["name"])

    def live(self, obj: Object) -> Object:
        answer = self.rest.get(self.path(obj))
        assert answer.ok, answer.message
        return answer.body

    def edit(self, obj: Object, *changes: Callable[[Object], None]) -> Object:
        """Does what `kubectl edit` does: reads, changes, writes; again when a controller wrote in between."""
        for _ in range(20):
            current = self.live(obj)
            for change in changes:
                change(current)
            answer = self.rest.send("PUT", self.path(obj), current, fieldManager="kubectl-edit")
            if answer.status != 409:
                break
        assert answer.ok, answer.message
        return answer.body

    @property
    def writes(self) -> int:
        return sum(self.proxy.seen(method) for method in ("POST", "PUT", "PATCH", "DELETE"))


def _owner(obj: Object) -> str:
    return str(obj["metadata"]["ownerReferences"][0]["uid"])


@pytest.fixture
def bench(client: Client, proxy: FaultProxy, rest: Rest, sandbox: str) -> Bench:
    spec = {"owner": "team-a", "image": "example.test/scout:1"}
    agent = {"apiVersion": AGENTS.api_version, "kind": AGENTS.kind, "metadata": {"name": "scout"}, "spec": spec}
    keeper = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "keeper"}}
    made = rest.post(AGENTS.path(namespace=sandbox), agent)
    kept = rest.post(f"/api/v1/namespaces/{sandbox}/configmaps", keeper)
    assert made.ok, made.message
    return Bench(Applier(client), client, proxy, rest, sandbox, made.body, kept.body)


def stateful_set(bench: Bench, **spec: Any) -> Object:
    agent = {**bench.agent, "spec": {**bench.agent["spec"], **spec}}
    return workload.stateful_set(agent, parse_spec(agent["spec"], name="scout"))


def account(bench: Bench, *, pull_secrets: tuple[str, ...] = ()) -> Object:
    return identity.service_account(
        bench.agent, parse_spec(bench.agent["spec"], name="scout"), pull_secrets=pull_secrets
    )


def deny_all(bench: Bench) -> Object:
    namespace = bench.rest.get(NAMESPACES.path(name=bench.namespace)).body
    return network.deny_all({"apiVersion": "v1", "kind": "Namespace", **namespace})


CHILDREN: dict[str, Callable[[Bench], Object]] = {
    "StatefulSet": stateful_set,
    "StatefulSet with workspace": lambda bench: stateful_set(
        bench,
        workspace={"size": "1Gi"},
        env=[{"name": "A", "value": "1"}],
        ports=[{"name": "http", "containerPort": 8080}],
        probes={"readiness": {"httpGet": {"path": "/", "port": "http"}}},
    ),
    "ServiceAccount": lambda bench: account(bench, pull_secrets=("registry",)),
    "NetworkPolicy": deny_all,
}


@pytest.mark.parametrize("build", CHILDREN.values(), ids=CHILDREN.keys())
async def test_a_child_is_created_once_and_then_needs_no_call(bench: Bench, build: Callable[[Bench], Object]) -> None:
    desired = build(bench)
    created = await bench.ensure(desired)
    assert (created.how, created.changed) == ("created", True)
    assert bench.writes == 1
    again = await bench.ensure(desired, created.object)
    assert (again.how, again.changed) == ("unchanged", False)
    restarted = Applier(bench.client)
    assert (await restarted.ensure(desired, live=created.object, owner_uid=_owner(desired))).how == "unchanged"
    assert len(bench.proxy.requests) == 1, "neither the skip cache nor a comparison needs the API server"


async def test_a_status_that_moved_on_needs_no_call(bench: Bench) -> None:
    desired = stateful_set(bench)
    created = await bench.ensure(desired)
    path = STATEFUL_SETS.path(namespace=bench.namespace, name="scout", subresource="status")
    moved = bench.rest.patch(path, {"status": {"replicas": 1}}).body
    assert moved["metadata"]["resourceVersion"] != created.object["metadata"]["resourceVersion"]
    assert (await bench.ensure(desired, moved)).how == "unchanged"
    assert bench.writes == 1


@pytest.mark.parametrize("owned", [False, True], ids=["nobody's", "another's"])
@pytest.mark.parametrize("cached", [False, True], ids=["unseen", "seen"])
@pytest.mark.parametrize("build", CHILDREN.values(), ids=CHILDREN.keys())
async def test_an_object_of_our_name_that_is_not_ours_is_left_as_it_is(
    bench: Bench, build: Callable[[Bench], Object], owned: bool, cached: bool
) -> None:
    desired = build(bench)
    foreign = copy.deepcopy(desired)
    foreign["metadata"]["ownerReferences"] = [meta.owner_reference(bench.keeper)] if owned else []
    # Their labels say that it is ours. Labels prove nothing.
    before = bench.rest.post(resource_of(foreign).path(namespace=bench.namespace), foreign).body
    with pytest.raises(Conflict) as conflict:
        await bench.ensure(desired, before if cached else None)
    error = conflict.value
    assert (error.kind, error.name, error.namespace) == (
        desired["kind"],
        desired["metadata"]["name"],
        bench.namespace,
    )
    assert error.owner == ("ConfigMap keeper" if owned else "nobody")
    assert _content(bench.live(desired)) == _content(before)


def change_image(obj: Object) -> None:
    obj["spec"]["template"]["spec"]["containers"][0]["image"] = "example.test/evil:1"


def change_replicas(obj: Object) -> None:
    obj["spec"]["replicas"] = 7


def add_host_processes(obj: Object) -> None:
    obj["spec"]["template"]["spec"]["hostPID"] = True


def add_container(obj: Object) -> None:
    obj["spec"]["template"]["spec"]["containers"].append({"name": "spy", "image": "example.test/spy:1"})


def add_init_container(obj: Object) -> None:
    obj["spec"]["template"]["spec"]["initContainers"] = [{"name": "spy", "image": "example.test/spy:1"}]


def add_environment(obj: Object) -> None:
    obj["spec"]["template"]["spec"]["containers"][0].setdefault("env", []).append({"name": "X", "value": "1"})


def add_volume(obj: Object) -> None:
    obj["spec"]["template"]["spec"]["volumes"].append({"name": "host", "hostPath": {"path": "/"}})


def add_toleration(obj: Object) -> None:
    obj["spec"]["template"]["spec"]["tolerations"] = [{"operator": "Exists"}]


def add_pod_annotation(obj: Object) -> None:
    obj["spec"]["template"]["metadata"].setdefault("annotations", {})["sidecar.example.test/inject"] = "true"


def add_pod_label(obj: Object) -> None:
    obj["spec"]["template"]["metadata"]["labels"]["extra"] = "label"


def add_privilege(obj: Object) -> None:
    security = obj["spec"]["template"]["spec"]["containers"][0]["securityContext"]
    security["capabilities"]["add"] = ["NET_BIND_SERVICE"]


def drop_security(obj: Object) -> None:
    del obj["spec"]["template"]["spec"]["containers"][0]["securityContext"]


def drop_labels(obj: Object) -> None:
    obj["metadata"]["labels"] = {}


def change_label(obj: Object) -> None:
    obj["metadata"]["labels"][meta.AGENT_UID_LABEL] = "another-agents-uid"


def add_our_label(obj: Object) -> None:
    obj["metadata"]["labels"] = (obj["metadata"].get("labels") or {}) | {"bulkhead.dev/forged": "yes"}


def add_owner(obj: Object, *, keeper: Object) -> None:
    # One who exists: a reference to nobody is taken away by the garbage collector too, now and then before us.
    obj["metadata"]["ownerReferences"].append(meta.owner_reference(keeper, controller=False))


def add_egress(obj: Object) -> None:
    obj["spec"]["egress"] = [{}]


def narrow_selector(obj: Object) -> None:
    obj["spec"]["podSelector"] = {"matchLabels": {"not": "you"}}


def drop_policy_type(obj: Object) -> None:
    obj["spec"]["policyTypes"] = ["Ingress"]


def add_pull_secret(obj: Object) -> None:
    obj.setdefault("imagePullSecrets", []).append({"name": "stolen"})


def add_secret(obj: Object) -> None:
    obj["secrets"] = [{"name": "stolen"}]


def mount_token(obj: Object) -> None:
    obj["automountServiceAccountToken"] = True


def forget_automount(obj: Object) -> None:
    del obj["automountServiceAccountToken"]


EDITS: list[tuple[Callable[[Bench], Object], Callable[..., None]]] = [
    *(
        (stateful_set, edit)
        for edit in (
            change_image,
            change_replicas,
            add_host_processes,
            add_container,
            add_init_container,
            add_environment,
            add_volume,
            add_toleration,
            add_pod_annotation,
            add_pod_label,
            add_privilege,
            drop_security,
            drop_labels,
            change_label,
            add_our_label,
            add_owner,
        )
    ),
    *((deny_all, edit) for edit in (add_egress, narrow_selector, drop_policy_type, add_our_label, add_owner)),
    *((account, edit) for edit in (add_pull_secret, add_secret, mount_token, forget_automount, drop_labels)),
]


@pytest.mark.parametrize(("build", "edit"), EDITS, ids=[f"{build.__name__} {edit.__name__}" for build, edit in EDITS])
async def test_whatever_somebody_edits_is_undone(
    bench: Bench, build: Callable[[Bench], Object], edit: Callable[..., None]
) -> None:
    desired = build(bench)
    if edit is add_owner:
        edit = partial(add_owner, keeper=bench.keeper)
    before = (await bench.ensure(desired)).object
    edited = bench.edit(desired, edit)
    assert edited["metadata"]["resourceVersion"] != before["metadata"]["resourceVersion"], "the edit changes something"
    applied = await bench.ensure(desired, edited)
    assert (applied.how, applied.changed) == ("updated", True)
    after = bench.live(desired)
    assert _content(after) == _content(before)
    count = bench.writes
    assert (await bench.ensure(desired, after)).how == "unchanged"
    assert bench.writes == count


def _content(obj: Object) -> Object:
    noise = ("resourceVersion", "managedFields", "generation")
    metadata = {key: value for key, value in obj["metadata"].items() if key not in noise}
    return {key: value for key, value in obj.items() if key != "status"} | {"metadata": metadata}


async def test_labels_and_annotations_of_others_stay(bench: Bench) -> None:
    def annotate(obj: Object) -> None:
        obj["metadata"].setdefault("annotations", {})["team.example.test/note"] = "hands off"
        obj["metadata"]["labels"]["team.example.test/tier"] = "gold"

    desired = stateful_set(bench)
    await bench.ensure(desired)
    edited = bench.edit(desired, annotate)
    assert (await bench.ensure(desired, edited)).how == "unchanged"
    edited = bench.edit(desired, annotate, change_label, add_our_label)
    repaired = (await bench.ensure(desired, edited)).object["metadata"]
    assert repaired["annotations"]["team.example.test/note"] == "hands off"
    assert repaired["labels"] == {**desired["metadata"]["labels"], "team.example.test/tier": "gold"}


async def test_server_side_apply_alone_would_leave_what_others_added(bench: Bench) -> None:
    """Why the applier does not stop at an apply. When this fails, the API server has become stricter."""
    desired = stateful_set(bench)
    created = await bench.ensure(desired)
    edited = bench.edit(desired, add_host_processes, add_environment)
    applied = bench.rest.patch(
        bench.path(desired), desired, content_type=APPLY, fieldManager="bulkhead", force="true"
    ).body
    pod = applied["spec"]["template"]["spec"]
    assert pod["hostPID"] is True
    assert {"name": "X", "value": "1"} in pod["containers"][0]["env"]
    assert applied["metadata"]["uid"] == created.object["metadata"]["uid"] == edited["metadata"]["uid"]


@pytest.mark.parametrize("applied_before", [False, True], ids=["after the creation", "after an apply"])
async def test_an_environment_variable_that_is_not_wanted_any_more_goes(bench: Bench, applied_before: bool) -> None:
    more = stateful_set(bench, env=[{"name": "A", "value": "1"}, {"name": "B", "value": "2"}])
    less = stateful_set(bench, env=[{"name": "B", "value": "2"}])
    live = (await bench.ensure(more)).object
    if applied_before:
        live = (await bench.ensure(more, bench.edit(more, change_image))).object
    live = (await bench.ensure(less, live)).object
    assert [item["name"] for item in live["spec"]["template"]["spec"]["containers"][0]["env"]] == [
        item["name"] for item in less["spec"]["template"]["spec"]["containers"][0]["env"]
    ]


@pytest.mark.parametrize("left", [("b",), ()], ids=["some left", "none left"])
async def test_a_pull_secret_that_is_not_wanted_any_more_goes(bench: Bench, left: tuple[str, ...]) -> None:
    live = (await bench.ensure(account(bench, pull_secrets=("a", "b")))).object
    live = (await bench.ensure(account(bench, pull_secrets=left), live)).object
    assert live.get("imagePullSecrets", []) == [{"name": name} for name in left]


async def test_what_was_replaced_behind_the_caches_back_is_judged_anew(bench: Bench) -> None:
    desired = account(bench)
    old = (await bench.ensure(desired)).object
    bench.rest.delete(bench.path(desired))
    foreign = copy.deepcopy(desired)
    foreign["metadata"]["ownerReferences"] = []
    foreign["automountServiceAccountToken"] = True
    bench.rest.post(resource_of(desired).path(namespace=bench.namespace), foreign)
    changed = account(bench, pull_secrets=("new",))
    with pytest.raises(Conflict):
        await bench.ensure(changed, old)
    assert (bench.live(desired))["automountServiceAccountToken"] is True
    assert "imagePullSecrets" not in bench.live(desired)


async def test_what_was_deleted_behind_the_caches_back_is_created_again(bench: Bench) -> None:
    old = (await bench.ensure(account(bench))).object
    bench.rest.delete(bench.path(old))
    applied = await bench.ensure(account(bench, pull_secrets=("new",)), old)
    assert applied.how == "created"
    assert applied.object["metadata"]["uid"] != old["metadata"]["uid"]


async def test_a_cache_that_is_behind_costs_a_look_and_no_loop(bench: Bench) -> None:
    desired = stateful_set(bench)
    await bench.ensure(desired)
    edited = bench.edit(desired, add_host_processes)
    bench.edit(edited, lambda obj: obj["metadata"]["labels"].update({"team.example.test/tier": "gold"}))
    applied = await bench.ensure(desired, edited)  # one write behind: the JSON patch meets a conflict
    assert applied.how == "updated"
    assert "hostPID" not in applied.object["spec"]["template"]["spec"]
    # The StatefulSet controller writes the status meanwhile, which can cost another look.
    assert 1 <= bench.proxy.seen("GET", "/statefulsets/scout") <= TRIES


async def test_an_object_that_is_being_deleted_is_not_written_to(bench: Bench) -> None:
    desired = account(bench)
    await bench.ensure(desired)
    bench.edit(desired, lambda obj: obj["metadata"].update(finalizers=["example.test/wait"]))
    leaving = bench.rest.delete(bench.path(desired)).body
    leaving["automountServiceAccountToken"] = True
    count = bench.writes
    try:
        applied = await bench.ensure(desired, leaving)
        assert (applied.how, applied.changed) == ("terminating", False)
        assert (await bench.ensure(desired, None)).how == "terminating", "also when the cache does not know of it"
        assert bench.writes == count + 1
    finally:
        bench.rest.patch(bench.path(desired), {"metadata": {"finalizers": None}})


def bare_stateful_set(bench: Bench, name: str) -> Object:
    """A StatefulSet with none of the server's defaults written out, and a quantity not in its normal form."""
    labels = {"app": name}
    container = {"name": "agent", "image": "example.test/a:1", "resources": {"limits": {"cpu": "1000m"}}}
    owner = meta.owner_reference(bench.agent)
    return {
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": {"namespace": bench.namespace, "name": name, "ownerReferences": [owner]},
        "spec": {
            "replicas": 0,
            "serviceName": "",
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": {"containers": [container]}},
        },
    }


async def looked_at_again(bench: Bench, desired: Object) -> Applied:
    """Applies as the operator does, which looks again when the controller wrote in between."""
    live = None
    for _ in range(5):
        try:
            return await bench.ensure(desired, live)
        except ApiError as error:
            if not error.conflict:
                raise
            live = bench.live(desired)
    raise AssertionError("five conflicts in a row")


async def test_defaults_and_normal_forms_of_an_unknown_server_are_learned_once(bench: Bench) -> None:
    first = await looked_at_again(bench, bare_stateful_set(bench, "one"))
    assert first.object["spec"]["template"]["spec"]["dnsPolicy"] == "ClusterFirst"
    assert first.object["spec"]["template"]["spec"]["containers"][0]["resources"]["limits"]["cpu"] == "1"
    learning = bench.writes
    # A look by itself begins anew, up to `TRIES` times, where the controller wrote before its patch.
    conflicts = sum(one.method == "PATCH" and one.status == 409 for one in bench.proxy.requests)
    assert learning <= 3 + 2 * conflicts, "a creation, an apply, an overwriting patch, and the last two again"
    for _ in range(3):
        assert (await bench.ensure(bare_stateful_set(bench, "one"), first.object)).how == "unchanged"
    assert bench.writes == learning, "no loop"
    second = await bench.ensure(bare_stateful_set(bench, "two"))
    assert bench.writes == learning + 1, "what was learned from one holds for all"
    edited = bench.edit(second.object, lambda obj: obj["spec"]["template"]["spec"].update(dnsPolicy="Default"))
    repaired = await bench.ensure(bare_stateful_set(bench, "two"), edited)
    assert repaired.object["spec"]["template"]["spec"]["dnsPolicy"] == "ClusterFirst", "another value is drift"


async def test_what_admission_insists_on_is_accepted_and_not_fought(bench: Bench) -> None:
    name = f"insist-{bench.namespace}"
    policy = {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "MutatingAdmissionPolicy",
        "metadata": {"name": name},
        "spec": {
            "failurePolicy": "Fail",
            "reinvocationPolicy": "Never",
            "matchConstraints": {
                "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": bench.namespace}},
                "resourceRules": [
                    {
                        "apiGroups": [""],
                        "apiVersions": ["v1"],
                        "operations": ["CREATE", "UPDATE"],
                        "resources": ["serviceaccounts"],
                    }
                ],
            },
            "mutations": [
                {
                    "patchType": "ApplyConfiguration",
                    "applyConfiguration": {
                        "expression": "Object{automountServiceAccountToken: true, "
                        'metadata: Object.metadata{labels: {"bulkhead.dev/insisted": "yes"}}}'
                    },
                }
            ],
        },
    }
    binding = {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "MutatingAdmissionPolicyBinding",
        "metadata": {"name": name},
        "spec": {"policyName": name},
    }
    root = "/apis/admissionregistration.k8s.io/v1"
    assert bench.rest.post(f"{root}/mutatingadmissionpolicies", policy).ok
    assert bench.rest.post(f"{root}/mutatingadmissionpolicybindings", binding).ok
    try:
        probe = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"generateName": "probe-"}}
        path = resource_of(probe).path(namespace=bench.namespace)
        in_force = lambda: bool(bench.rest.post(path, probe, dryRun="All").body.get("automountServiceAccountToken"))  # noqa: E731
        await eventually(in_force, "the admission policy is in force", within=30)
        applied = await bench.ensure(account(bench))
        assert applied.object["metadata"]["labels"]["bulkhead.dev/insisted"] == "yes", "a field that it adds"
        assert applied.object["automountServiceAccountToken"] is True, "a field that it changes"
        count = bench.writes
        assert (await bench.ensure(account(bench), bench.live(applied.object))).how == "unchanged"
        assert bench.writes == count
    finally:
        bench.rest.delete(f"{root}/mutatingadmissionpolicybindings/{name}")
        bench.rest.delete(f"{root}/mutatingadmissionpolicies/{name}")


async def test_a_creation_whose_answer_was_lost_is_found_and_not_repeated(bench: Bench) -> None:
    bench.proxy.on("POST", "/serviceaccounts", DropAfter())
    with pytest.raises(Unreachable):
        await bench.ensure(account(bench))
    applied = await bench.ensure(account(bench))
    assert applied.how == "unchanged"
    assert applied.object["metadata"]["uid"] == (bench.live(applied.object))["metadata"]["uid"]


@pytest.mark.parametrize(
    "fault",
    [Answer(422, "Invalid"), Answer(429, "TooManyRequests", retry_after=5), Answer(500), Answer(403, "Forbidden")],
    ids=lambda fault: str(fault.status),
)
@pytest.mark.parametrize("method", ["POST", "PATCH"])
async def test_a_refusal_is_the_callers_to_judge(bench: Bench, fault: Answer, method: str) -> None:
    live = None if method == "POST" else (await bench.ensure(account(bench))).object
    bench.proxy.on(method, "/serviceaccounts", fault)
    with pytest.raises(ApiError) as refused:
        await bench.ensure(account(bench, pull_secrets=("new",)), live)
    assert (refused.value.status, refused.value.retry_after) == (fault.status, fault.retry_after)
    applied = await bench.ensure(account(bench, pull_secrets=("new",)), live)
    assert applied.object["imagePullSecrets"] == [{"name": "new"}]


async def test_an_immutable_field_is_refused_with_its_name(bench: Bench) -> None:
    live = (await bench.ensure(stateful_set(bench, workspace={"size": "1Gi"}))).object
    with pytest.raises(ApiError) as refused:
        await bench.ensure(stateful_set(bench, workspace={"size": "2Gi"}), live)
    assert refused.value.invalid
    assert "volumeClaimTemplates" in refused.value.message or refused.value.causes


async def test_a_namespace_that_is_being_deleted_takes_nothing_new(bench: Bench, rest: Rest) -> None:
    name = f"{bench.namespace}-leaving"
    rest.post(
        "/api/v1/namespaces",
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}, "spec": {"finalizers": ["kubernetes"]}},
    )
    holder = {"apiVersion": "v1", "kind": "ServiceAccount"} | {
        "metadata": {"namespace": name, "name": "holder", "finalizers": ["example.test/wait"]}
    }
    path = resource_of(holder).path(namespace=name)
    assert rest.post(path, holder).ok
    rest.delete(f"/api/v1/namespaces/{name}")
    try:
        with pytest.raises(ApiError) as refused:
            await bench.ensure(_in(name, account(bench)))
        assert refused.value.forbidden
        assert "being terminated" in refused.value.message
    finally:
        rest.patch(f"{path}/holder", {"metadata": {"finalizers": None}})


def _in(namespace: str, obj: Object) -> Object:
    return {**obj, "metadata": {**obj["metadata"], "namespace": namespace}}
