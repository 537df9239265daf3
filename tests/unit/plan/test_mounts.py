"""The files by which an agent is somebody: where they are, and that nobody has one without asking."""

from __future__ import annotations

from typing import Any

from bulkhead.api.agentdeployment import AgentDeploymentSpec
from bulkhead.plan import isolation, mounts, workload
from tests.access_spellings import r
from tests.unit.plan import samples
from tests.unit.plan.policies import bounds_of, sandbox_policy, spec_of

RULES = {"kubernetesApi": {"rules": [r("get", "configmaps")], "tokenSeconds": 900}}
TOKENS = {"tokens": [{"audience": "vault", "path": "vault"}, {"audience": "gw", "expirationSeconds": 700, "path": "g"}]}
CREDENTIALS = [
    {"name": "warehouse", "postgres": {"issuer": "db", "role": "reader"}},
    {"name": "c" * 52, "vault": {"issuer": "v", "path": "database/creds/reader"}},
]


def pod(spec: AgentDeploymentSpec, **more: Any) -> dict[str, Any]:
    built: dict[str, Any] = workload.stateful_set(samples.agent(), spec, **more)["spec"]["template"]
    return built


def test_an_agent_that_asks_for_nothing_has_no_file_by_which_it_is_somebody() -> None:
    spec = spec_of()
    assert mounts.volumes(samples.agent(), spec) == []
    assert mounts.mounts(spec) == []
    template = pod(spec)
    assert template["spec"]["automountServiceAccountToken"] is False
    assert [one["name"] for one in template["spec"]["volumes"]] == ["tmp"]
    assert "bulkhead.dev/kubernetes-api" not in template["metadata"]["labels"]


def test_rules_bring_a_token_where_client_libraries_look_and_a_label_of_the_pod() -> None:
    spec = spec_of(identity=RULES)
    assert mounts.volumes(samples.agent(), spec) == [
        {
            "name": "kubernetes-api",
            "projected": {
                "defaultMode": 0o400,
                "sources": [
                    {"serviceAccountToken": {"expirationSeconds": 900, "path": "token"}},
                    {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
                    {
                        "downwardAPI": {
                            "items": [
                                {
                                    "path": "namespace",
                                    "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"},
                                }
                            ]
                        }
                    },
                ],
            },
        }
    ]
    path = "/var/run/secrets/kubernetes.io/serviceaccount"
    assert mounts.mounts(spec) == [{"name": "kubernetes-api", "readOnly": True, "mountPath": path}]
    template = pod(spec)
    assert template["spec"]["automountServiceAccountToken"] is False
    assert template["metadata"]["labels"]["bulkhead.dev/kubernetes-api"] == "true"


def test_tokens_for_others_are_files_of_one_folder_each_with_its_audience() -> None:
    spec = spec_of(identity=TOKENS)
    (volume,) = mounts.volumes(samples.agent(), spec)
    assert volume["projected"]["sources"] == [
        {"serviceAccountToken": {"audience": "vault", "expirationSeconds": 600, "path": "vault"}},
        {"serviceAccountToken": {"audience": "gw", "expirationSeconds": 700, "path": "g"}},
    ]
    assert mounts.mounts(spec) == [{"name": "tokens", "readOnly": True, "mountPath": "/var/run/bulkhead/tokens"}]
    assert "bulkhead.dev/kubernetes-api" not in pod(spec)["metadata"]["labels"]


def test_each_credential_is_a_folder_of_its_own_from_a_secret_that_must_be_there() -> None:
    spec = spec_of(credentials=CREDENTIALS)
    volumes = mounts.volumes(samples.agent(), spec)
    assert volumes[0] == {
        "name": "credential-warehouse",
        "secret": {"secretName": "agent-scout.warehouse", "defaultMode": 0o400},
    }
    assert all(len(one["name"]) <= 63 for one in volumes)
    assert [one["mountPath"] for one in mounts.mounts(spec)] == [
        "/var/run/bulkhead/credentials/warehouse",
        f"/var/run/bulkhead/credentials/{'c' * 52}",
    ]


def test_every_mount_is_read_only_and_has_its_volume_and_only_the_agent_has_them() -> None:
    spec = spec_of(identity={**RULES, **TOKENS}, credentials=CREDENTIALS, workspace={"size": "1Gi"})
    gate = isolation.containers(samples.GATE, (), bounds=bounds_of(sandbox_policy()))
    template = pod(spec, gate_containers=gate)["spec"]
    (agent,) = template["containers"]
    by_name = {one["name"]: one for one in agent["volumeMounts"]}
    given = [one["name"] for one in template["volumes"] if one["name"] != "tmp"]
    assert len(given) == 4
    assert all(by_name[name]["readOnly"] is True for name in given)
    assert len({one["mountPath"] for one in agent["volumeMounts"]}) == len(agent["volumeMounts"])
    assert len(template["initContainers"]) == 2
    assert not any("volumeMounts" in one for one in template["initContainers"])
