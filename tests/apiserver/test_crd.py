from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from bulkhead.api.agentdeployment import AgentDeploymentSpec, InvalidSpec, parse_spec
from bulkhead.api.quantity import canonical
from bulkhead.api.status import AgentDeploymentStatus
from bulkhead.api.structural import structural
from devcluster.api import RunningCluster
from tests import specs
from tests.apiserver import statuses
from tests.apiserver.rest import AGENTS, APPLY, Answer, Rest
from tests.apiserver.statuses import STATUS

TRIES = settings(max_examples=80)


def agent(spec: Any, name: str = "agent") -> dict[str, Any]:
    return {
        "apiVersion": "bulkhead.dev/v1alpha1",
        "kind": "AgentDeployment",
        "metadata": {"name": name},
        "spec": spec,
    }


class Agents:
    """The AgentDeployments of one namespace."""

    def __init__(self, rest: Rest, namespace: str) -> None:
        self.rest = rest
        self.path = AGENTS.format(namespace=namespace)

    def dry_run(self, spec: Any, name: str = "agent") -> Answer:
        return self.rest.post(self.path, agent(spec, name), dryRun="All", fieldValidation="Strict")

    def create(self, spec: Any, name: str = "agent") -> dict[str, Any]:
        answer = self.rest.post(self.path, agent(spec, name), fieldValidation="Strict")
        assert answer.ok, answer.message
        return answer.body

    def patch(self, change: Any, name: str = "agent", subresource: str = "", **query: str) -> Answer:
        return self.rest.patch(f"{self.path}/{name}{subresource}", change, **query)

    def get(self, name: str = "agent", subresource: str = "") -> Answer:
        return self.rest.get(f"{self.path}/{name}{subresource}")


@pytest.fixture
def agents(rest: Rest, sandbox: str) -> Agents:
    return Agents(rest, sandbox)


@pytest.fixture(scope="module")
def module_agents(rest: Rest) -> Agents:
    """For dry runs, which leave nothing behind."""
    return Agents(rest, "default")


@pytest.mark.parametrize("case", specs.REFUSED.values(), ids=specs.REFUSED.keys())
def test_a_bad_spec_is_refused_with_what_would_be_accepted(module_agents: Agents, case: specs.Refused) -> None:
    answer = module_agents.dry_run(case.spec)
    assert answer.status == 422, answer.message
    assert case.path in answer.message
    assert case.says is None or case.says in answer.message


@pytest.mark.parametrize("spec", specs.ACCEPTED.values(), ids=specs.ACCEPTED.keys())
def test_a_good_spec_is_accepted_without_a_warning(module_agents: Agents, spec: specs.Spec) -> None:
    answer = module_agents.dry_run(spec)
    assert answer.ok, answer.message
    assert answer.warnings == ()


@pytest.mark.parametrize("spec, path", specs.UNKNOWN_FIELDS.values(), ids=specs.UNKNOWN_FIELDS.keys())
def test_an_unknown_field_is_refused_by_name(module_agents: Agents, spec: specs.Spec, path: str) -> None:
    answer = module_agents.dry_run(spec)
    assert answer.status == 400
    assert f'unknown field "{path}"' in answer.message


# An empty name and upper case do not get past the API server's own check of names, which comes first.
@pytest.mark.parametrize("name", ["n" * 53, "n" * 253, "a.b"])
def test_a_name_that_does_not_fit_into_a_label_with_a_hash_is_refused(module_agents: Agents, name: str) -> None:
    answer = module_agents.dry_run(specs.minimal(), name)
    assert answer.status == 422
    assert "accepted as metadata.name are up to 52 lower case letters" in answer.message


def test_a_name_of_52_characters_is_accepted(module_agents: Agents) -> None:
    assert module_agents.dry_run(specs.minimal(), "n" * 52).ok


def test_what_is_left_out_is_written_out_for_the_user_to_see(module_agents: Agents) -> None:
    spec = specs.minimal(
        workspace={"size": "1Gi"},
        lifetime={"maxSeconds": 60},
        ports=[{"containerPort": 80}],
        probes={"readiness": {"httpGet": {"port": 80}}},
        placement={"topologySpread": [{"topologyKey": "zone"}], "tolerations": [{"key": "a", "value": "b"}]},
    )
    stored = module_agents.dry_run(spec).body["spec"]
    assert stored == {
        **spec,
        "suspend": False,
        "suspendGraceSeconds": 5,
        "replicas": 1,
        "scratch": "64Mi",
        "network": {"dns": "None"},
        "resources": {"limits": {"cpu": "500m", "memory": "512Mi", "ephemeral-storage": "1Gi"}},
        "workspace": {"size": "1Gi", "mountPath": "/workspace", "onDelete": "Retain"},
        "lifetime": {"maxSeconds": 60, "onExpiry": "Suspend"},
        "ports": [{"containerPort": 80, "protocol": "TCP"}],
        "probes": {
            "readiness": {
                "httpGet": {"port": 80, "path": "/", "scheme": "HTTP"},
                "initialDelaySeconds": 0,
                "periodSeconds": 10,
                "timeoutSeconds": 1,
                "successThreshold": 1,
                "failureThreshold": 3,
            }
        },
        "placement": {
            "topologySpread": [{"topologyKey": "zone", "maxSkew": 1, "whenUnsatisfiable": "DoNotSchedule"}],
            "tolerations": [{"key": "a", "operator": "Equal", "value": "b"}],
        },
    }


@TRIES
@given(specs.valid_specs())
def test_the_defaults_of_the_models_are_those_of_the_crd(module_agents: Agents, spec: specs.Spec) -> None:
    stored = module_agents.dry_run(spec)
    assert stored.ok, stored.message
    assert parse_spec(stored.body["spec"], name="agent") == parse_spec(spec, name="agent")


@TRIES
@given(specs.mutated_specs())
def test_the_api_server_and_the_parser_refuse_the_same(module_agents: Agents, spec: specs.Spec) -> None:
    answer = module_agents.dry_run(spec)
    # The API server takes null for "not given" and drops it before it looks; the parser sees what is stored.
    without_nulls = json.loads(
        json.dumps(spec), object_hook=lambda obj: {k: v for k, v in obj.items() if v is not None}
    )
    try:
        parse_spec(answer.body["spec"] if answer.ok else without_nulls, name="agent")
        problems: tuple[str, ...] = ()
    except InvalidSpec as error:
        problems = error.problems
    assert answer.ok == (not problems), (answer.message, problems)


def test_a_size_cannot_be_changed_and_the_message_says_what_to_do(agents: Agents) -> None:
    agents.create(specs.minimal(workspace={"size": "1Gi"}))
    answer = agents.patch({"spec": {"workspace": {"size": "2Gi"}}})
    assert answer.status == 422
    assert "workspace.size cannot be changed" in answer.message
    assert "create a new AgentDeployment" in answer.message


@pytest.mark.parametrize("before, after", [(None, "fast"), ("fast", None), ("fast", "slow")])
def test_a_storage_class_cannot_be_changed(agents: Agents, before: str | None, after: str | None) -> None:
    workspace = {"size": "1Gi"} | ({"storageClassName": before} if before else {})
    agents.create(specs.minimal(workspace=workspace))
    answer = agents.patch({"spec": {"workspace": {"storageClassName": after}}})
    assert answer.status == 422
    assert "workspace.storageClassName cannot be changed" in answer.message


@pytest.mark.parametrize("before, after", [(None, {"size": "1Gi"}), ({"size": "1Gi"}, None)])
def test_a_workspace_can_be_neither_added_nor_removed(agents: Agents, before: Any, after: Any) -> None:
    agents.create(specs.minimal(**({"workspace": before} if before else {})))
    answer = agents.patch({"spec": {"workspace": after}})
    assert answer.status == 422
    assert "a workspace cannot be added or removed later" in answer.message


def test_what_may_change_of_a_workspace_can_be_changed(agents: Agents) -> None:
    agents.create(specs.minimal(workspace={"size": "1Gi"}))
    answer = agents.patch({"spec": {"workspace": {"onDelete": "Delete", "mountPath": "/data"}}})
    assert answer.ok, answer.message


def test_an_agent_is_suspended_by_one_patch_and_found_by_a_field_selector(agents: Agents) -> None:
    agents.create(specs.minimal(), "runs")
    agents.create(specs.minimal(), "stands")
    assert agents.patch({"spec": {"suspend": True, "suspendReason": "it misbehaves"}}, "stands").ok
    for value, expected in (("true", "stands"), ("false", "runs")):
        listed = agents.rest.get(agents.path, fieldSelector=f"spec.suspend={value}")
        assert [item["metadata"]["name"] for item in listed.body["items"]] == [expected]


def test_an_agent_is_scaled_by_the_scale_subresource(agents: Agents, apiserver: RunningCluster, sandbox: str) -> None:
    agents.create(specs.minimal(replicas=2))
    selector = "bulkhead.dev/agent-uid=x"
    assert agents.patch({"status": {"replicas": 2, "selector": selector}}, subresource="/status").ok
    scale = agents.get(subresource="/scale").body
    assert (scale["spec"], scale["status"]) == ({"replicas": 2}, {"replicas": 2, "selector": selector})
    apiserver.kubectl("scale", "agentdeployment/agent", "--replicas=5", f"--namespace={sandbox}")
    assert agents.get().body["spec"]["replicas"] == 5


def test_scaling_beyond_the_bound_is_refused(agents: Agents) -> None:
    agents.create(specs.minimal())
    answer = agents.patch({"spec": {"replicas": 101}}, subresource="/scale")
    assert answer.status == 422
    assert agents.get().body["spec"]["replicas"] == 1


def test_a_whole_status_is_stored_and_read_back(agents: Agents) -> None:
    agents.create(specs.minimal())
    answer = agents.patch({"status": STATUS}, subresource="/status", fieldValidation="Strict")
    assert answer.ok, answer.message
    stored = agents.get().body["status"]
    assert stored == STATUS
    assert AgentDeploymentStatus.model_validate(stored).model_dump(by_alias=True) == STATUS


def test_the_example_of_a_status_has_every_field_there_is() -> None:
    schema = structural(AgentDeploymentStatus)["properties"]
    assert STATUS.keys() == schema.keys()
    assert statuses.SUSPENSION.keys() == schema["suspension"]["properties"].keys()
    assert statuses.ISOLATION.keys() == schema["isolation"]["properties"].keys()
    assert statuses.CREDENTIAL.keys() == schema["credentials"]["items"]["properties"].keys()
    assert statuses.EXIT.keys() == schema["lastExits"]["items"]["properties"].keys()
    circuit = schema["circuit"]["properties"]
    assert statuses.CIRCUIT.keys() == circuit.keys()
    for part in ("trips", "window", "counted"):
        [item] = statuses.CIRCUIT[part]
        assert item.keys() == circuit[part]["items"]["properties"].keys()


def test_the_status_subresource_leaves_the_spec_and_a_user_leaves_the_status(agents: Agents) -> None:
    agents.create(specs.minimal())
    assert agents.patch({"spec": {"suspend": True}, "status": {"state": "Running"}}, subresource="/status").ok
    assert agents.patch({"status": {"state": "Suspended"}}).ok
    stored = agents.get().body
    assert stored["spec"]["suspend"] is False
    assert stored["status"]["state"] == "Running"


def test_two_managers_own_different_variables_of_the_same_list(agents: Agents) -> None:
    for manager, name in (("one", "A"), ("two", "B")):
        spec = specs.minimal(env=[{"name": name, "value": manager}])
        path = f"{agents.path}/agent"
        answer = agents.rest.patch(path, agent(spec), content_type=APPLY, fieldManager=manager, force="true")
        assert answer.ok, answer.message
    assert [variable["name"] for variable in agents.get().body["spec"]["env"]] == ["A", "B"]


def documented(schema: dict[str, Any], path: str = "agentdeployment") -> Iterator[tuple[str, str]]:
    for name, field in schema.get("properties", {}).items():
        yield f"{path}.{name}", field["description"]
        yield from documented(field.get("items", field), f"{path}.{name}")


def test_kubectl_explains_every_field(apiserver: RunningCluster) -> None:
    listed = apiserver.kubectl("explain", "agentdeployment.spec", "--recursive")
    fields = [path for path, _ in documented(structural(AgentDeploymentSpec))]
    for path in fields:
        assert re.search(rf"^\s+{re.escape(path.rsplit('.', 1)[1])}\t<", listed, re.MULTILINE), path
    assert len(fields) > 80


@pytest.mark.parametrize(
    "path, words",
    [
        ("agents.spec.suspend", "True stops the agent"),
        ("agents.spec.workspace.onDelete", "What becomes of the volumes"),
        ("agent.status.suspension.networkCutAt", "When the rules that let the agent reach anything were gone"),
    ],
)
def test_kubectl_explains_a_field_in_its_own_words(apiserver: RunningCluster, path: str, words: str) -> None:
    assert words in " ".join(apiserver.kubectl("explain", path).split())


def test_kubectl_shows_the_columns(agents: Agents, apiserver: RunningCluster, sandbox: str) -> None:
    agents.create(specs.minimal(tenant="acme", workflow="nightly"))
    agents.patch({"status": {**STATUS, "state": "Suspended"}}, subresource="/status")
    narrow = apiserver.kubectl("get", "agents", f"--namespace={sandbox}").splitlines()
    assert narrow[0].split() == ["NAME", "STATE", "READY", "TENANT", "WORKFLOW", "AGE"]
    assert narrow[1].split()[:5] == ["agent", "Suspended", "0/1", "acme", "nightly"]
    wide = apiserver.kubectl("get", "bulkhead", "--output=wide", f"--namespace={sandbox}").splitlines()
    assert wide[0].split()[6:] == ["OWNER", "IMAGE", "SUSPENDED-SINCE", "CIRCUIT", "MESSAGE"]
    assert "team@example.com" in wide[1]
    assert "HalfOpen" in wide[1]
    assert "it misbehaves" in wide[1]


def claim(size: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": "q"},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": size}}},
    }


# No finer than thousandths: the API server rounds resources up to them.
SIZES = st.builds(
    "{}{}{}".format,
    st.integers(1, 10_000),
    st.sampled_from(["", ".5", ".25", ".000", ".100", ".125", ".999"]),
    st.sampled_from(["", "k", "M", "G", "T", "Ki", "Mi", "Gi", "Ti", "e1", "e4", "E5"]),
)


@TRIES
@given(SIZES)
@example("1000m")
@example("0.5Ki")
@example("1023")
@example("1024Ki")
@example("1e0")
@example("1.3Ki")
def test_the_canonical_form_of_a_quantity_is_that_of_the_api_server(rest: Rest, text: str) -> None:
    claims = "/api/v1/namespaces/default/persistentvolumeclaims"
    for given_text in (text, canonical(text)):
        answer = rest.post(claims, claim(given_text), dryRun="All")
        assert answer.ok, answer.message
        printed = answer.body["spec"]["resources"]["requests"]["storage"]
        # It keeps some spellings as they were given. Ours it never changes.
        assert printed in (given_text, canonical(text))
        assert canonical(printed) == canonical(text)
