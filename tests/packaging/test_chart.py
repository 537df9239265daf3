from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from bulkhead.api.agentdeployment import parse_spec
from bulkhead.engine.operator import LEASE_NAME
from bulkhead.main import arguments
from manifests.render import SERVED, template
from tests.packaging.admission import ADMISSION, CONTENTS, GUARDS
from tests.packaging.rendering import CHART, Manifest, load, name_of, of_kind, render, the

VALUES = (CHART / "values.yaml").read_text()
SCHEMA = json.loads((CHART / "values.schema.json").read_text())
DIGEST = "sha256:" + "0" * 64


def refusal(helm: Path, values: Manifest) -> str:
    with pytest.raises(subprocess.CalledProcessError) as refused:
        render(helm, values)
    return str(refused.value.stderr)


def test_helm_finds_no_fault_in_the_chart(helm: Path) -> None:
    finished = subprocess.run([helm, "lint", "--strict", "--quiet", CHART], capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stdout + finished.stderr


# --- values ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "complaint"),
    [
        pytest.param({"replica": 2}, "'replica' not allowed", id="a value that does not exist"),
        pytest.param({"image": {"name": "x"}}, "'name' not allowed", id="a nested value that does not exist"),
        pytest.param({"replicas": 0}, "minimum", id="no replica, with which nothing could be suspended"),
        pytest.param({"replicas": "2"}, "want integer", id="a number as text"),
        pytest.param({"logLevel": "trace"}, "/logLevel", id="a log level that does not exist"),
        pytest.param(
            {"image": {"repository": "registry.example.com/x:1"}}, "/image/repository", id="a tag in the repository"
        ),
        pytest.param({"image": {"digest": "sha256:abc"}}, "/image/digest", id="half a digest"),
        pytest.param({"image": {"tag": "a b"}}, "/image/tag", id="a tag with a blank"),
        pytest.param({"image": {"pullPolicy": "Sometimes"}}, "/image/pullPolicy", id="an unknown pull policy"),
        pytest.param({"imagePullSecrets": ["regcred"]}, "/imagePullSecrets/0", id="pull secrets as plain names"),
        pytest.param({"resources": {"limits": {"memory": "lots"}}}, "/resources/limits/memory", id="not a quantity"),
        pytest.param(
            {"resources": {"claims": []}}, "'claims' not allowed", id="resources that are neither request nor limit"
        ),
        pytest.param({"tolerations": [{"effect": "Never"}]}, "/tolerations/0/effect", id="an effect that no taint has"),
        pytest.param({"podAnnotations": {"a": 1}}, "/podAnnotations/a", id="an annotation that is a number"),
        pytest.param(
            {"podLabels": {"app.kubernetes.io/name": "x"}},
            "app.kubernetes.io/name",
            id="a label that pods are selected by",
        ),
        pytest.param(
            {"serviceAccount": {"create": False}}, "/serviceAccount/name", id="no account made and none named"
        ),
        pytest.param(
            {"podDisruptionBudget": {"maxUnavailable": 0}}, "maxUnavailable", id="a budget that blocks every drain"
        ),
        pytest.param(
            {"networkPolicy": {"apiServerPorts": []}}, "/networkPolicy/apiServerPorts", id="no port, which means all"
        ),
        pytest.param({"networkPolicy": {"apiServerPorts": [0]}}, "/networkPolicy/apiServerPorts/0", id="port zero"),
        pytest.param(
            {"networkPolicy": {"apiServerCIDRs": ["api"]}}, "/networkPolicy/apiServerCIDRs/0", id="a name as CIDR"
        ),
        pytest.param(
            {"networkPolicy": {"extraEgress": [{}]}}, "/networkPolicy/extraEgress/0", id="a rule for everything"
        ),
        pytest.param(
            {"admission": {"breakGlassGroups": ["system:authenticated"]}},
            "/admission/breakGlassGroups/0",
            id="everybody as break-glass group",
        ),
        pytest.param(
            {"admission": {"breakGlassGroups": ["it's"]}}, "/admission/breakGlassGroups/0", id="a quote in a group"
        ),
        pytest.param({"clusterDNS": "kube-dns"}, "/clusterDNS", id="a Service without its namespace"),
        pytest.param(
            {"gate": {"pullPolicy": "Sometimes"}}, "/gate/pullPolicy", id="an unknown pull policy of the gate"
        ),
        pytest.param({"policy": {"spec": None}}, "/policy", id="a policy without a spec"),
        pytest.param({"issuers": [{"name": "x"}]}, "/issuers/0", id="an issuer without a type"),
        pytest.param(
            {"issuers": [{"name": "secret", "type": "vault"}]}, "/issuers/0/name", id="the issuer that is always there"
        ),
        pytest.param({"issuers": [{"name": "X", "type": "vault"}]}, "/issuers/0/name", id="an issuer in capitals"),
        pytest.param(
            {"issuers": [{"name": "x", "type": "postgres", "settings": {"password": "x"}}]},
            "invalid propertyName 'password'",
            id="a password among the settings",
        ),
        pytest.param(
            {"issuers": [{"name": "x", "type": "vault", "egress": [{}]}]}, "/issuers/0/egress/0", id="egress to all"
        ),
        pytest.param(
            {"issuers": [{"name": "x", "type": "vault"}, {"name": "x", "type": "postgres"}]},
            "x is there twice",
            id="two issuers of one name",
        ),
        pytest.param({"secretSources": ["kube-system"]}, "/secretSources/0", id="the cluster's Secrets to copy"),
        pytest.param({"secretSources": ["*"]}, "/secretSources/0", id="every namespace's Secrets to copy"),
        pytest.param(
            {"secretSources": ["bulkhead-system"]}, "accepted are other namespaces", id="the issuers' own passwords"
        ),
        pytest.param({"revocationPatienceSeconds": -1}, "/revocationPatienceSeconds", id="less than no patience"),
        pytest.param({"identity": {"kubernetesApi": {"rules": []}}}, "'rules' not allowed", id="rules in the values"),
        pytest.param({"flowControl": {"nominalConcurrencyShares": 0}}, "/flowControl", id="a level without a share"),
        pytest.param({"crds": {"keep": "yes"}}, "/crds/keep", id="text where true or false is wanted"),
    ],
)
def test_a_value_that_makes_no_sense_is_refused_by_name(helm: Path, values: Manifest, complaint: str) -> None:
    assert complaint in refusal(helm, values)


@pytest.mark.parametrize(
    "values",
    [
        pytest.param({"global": {"imageRegistry": "x"}}, id="what a parent chart shares"),
        pytest.param(
            {"image": {"repository": "localhost:5000/bulkhead/operator", "tag": "1.0.0-rc.1"}}, id="a local registry"
        ),
        pytest.param(
            {"resources": {"requests": {"cpu": 1, "memory": "0.5Gi"}}}, id="quantities as numbers and fractions"
        ),
        pytest.param({"tolerations": [{"key": "a", "operator": "Exists", "effect": "NoExecute"}]}, id="a toleration"),
        pytest.param({"podDisruptionBudget": {"maxUnavailable": "50%"}, "replicas": 3}, id="a budget in per cent"),
        pytest.param(
            {"networkPolicy": {"apiServerCIDRs": ["10.0.0.1/32", "fd00::1/128"]}}, id="addresses of both families"
        ),
        pytest.param({"serviceAccount": {"create": False, "name": "mine"}}, id="an account that exists"),
    ],
)
def test_a_value_that_makes_sense_is_accepted(helm: Path, values: Manifest) -> None:
    assert of_kind(render(helm, values), "Deployment")


def leaves(value: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Paths of the values that a user sets: mappings are entered, except where they hold the user's own keys."""
    if isinstance(value, dict) and value and path != ("resources",):
        for key, inner in value.items():
            yield from leaves(inner, (*path, key))
    else:
        yield path


def schema_of(path: tuple[str, ...]) -> Manifest:
    found: Manifest = SCHEMA
    for key in path:
        found = found["properties"][key]
    return found


LEAVES = list(leaves(yaml.safe_load(VALUES)))


@pytest.mark.parametrize("path", LEAVES, ids=".".join)
def test_every_value_is_explained_where_it_is_set_and_in_the_schema(path: tuple[str, ...]) -> None:
    lines = VALUES.splitlines()
    position = 0
    for depth, key in enumerate(path):
        position = next(i for i in range(position, len(lines)) if lines[i].startswith("  " * depth + key + ":"))
    comment: list[str] = []
    while lines[position - 1].lstrip().startswith("#"):
        position -= 1
        comment.insert(0, lines[position].strip())
    assert comment and comment[0].startswith("# -- "), f"no comment above {'.'.join(path)}"
    assert schema_of(path)["description"]


def test_the_schema_describes_no_value_that_the_chart_does_not_have() -> None:
    def described(schema: Manifest, values: Any, path: str = "") -> Iterator[str]:
        for key, inner in schema.get("properties", {}).items():
            if key not in values:
                yield f"{path}{key}"
            elif isinstance(values[key], dict) and values[key]:
                yield from described(inner, values[key], f"{path}{key}.")

    assert list(described(SCHEMA, yaml.safe_load(VALUES))) == ["global"]


def test_every_value_is_used_by_a_template() -> None:
    templates = "".join(path.read_text() for path in (CHART / "templates").rglob("*") if path.is_file())
    unused = [
        ".".join(path) for path in LEAVES if not re.search(rf"\.Values\.{re.escape('.'.join(path))}\b", templates)
    ]
    assert unused == []


# --- what is installed -----------------------------------------------------------------------------------


def test_the_default_install_is_exactly_this(default_objects: list[Manifest]) -> None:
    assert sorted(map(name_of, default_objects)) == sorted(
        [
            "ClusterRole/bulkhead",
            "ClusterRole/bulkhead-edit",
            "ClusterRole/bulkhead-killswitch-create",
            "ClusterRole/bulkhead-killswitch-remove",
            "ClusterRole/bulkhead-view",
            "ClusterRoleBinding/bulkhead",
            "ConfigMap/bulkhead-admission",
            "CustomResourceDefinition/agentdeployments.bulkhead.dev",
            "CustomResourceDefinition/killswitches.bulkhead.dev",
            "CustomResourceDefinition/sandboxpolicies.bulkhead.dev",
            "Deployment/bulkhead",
            "FlowSchema/bulkhead-cuts",
            "NetworkPolicy/bulkhead",
            "PriorityLevelConfiguration/bulkhead-cuts",
            "Role/bulkhead-leadership",
            "Role/bulkhead-leases",
            "RoleBinding/bulkhead-leadership",
            "RoleBinding/bulkhead-leases",
            "SandboxPolicy/default",
            "Service/bulkhead-canary",
            "ServiceAccount/bulkhead",
            *(f"{kind}/bulkhead-{name}" for kind in ADMISSION for name in [*GUARDS, *CONTENTS]),
        ]
    )


def test_what_belongs_in_a_namespace_says_which(default_objects: list[Manifest]) -> None:
    cluster_scoped = {
        "ClusterRole",
        "ClusterRoleBinding",
        "CustomResourceDefinition",
        "FlowSchema",
        "PriorityLevelConfiguration",
        "SandboxPolicy",
        *ADMISSION,
    }
    for item in default_objects:
        wanted = None if item["kind"] in cluster_scoped else "bulkhead-system"
        assert item["metadata"].get("namespace") == wanted, name_of(item)


@pytest.mark.parametrize("kind", ["CustomResourceDefinition", "SandboxPolicy", "Service"])
def test_the_definitions_the_policy_and_the_canarys_address_stay_when_the_release_goes(
    default_objects: list[Manifest], helm: Path, kind: str
) -> None:
    for kept in of_kind(default_objects, kind):
        assert kept["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"
    for dropped in of_kind(render(helm, {"crds": {"keep": False}}), kind):
        assert "helm.sh/resource-policy" not in dropped["metadata"].get("annotations", {})


def test_definitions_can_be_left_to_others(helm: Path) -> None:
    assert of_kind(render(helm, {"crds": {"enabled": False}}), "CustomResourceDefinition") == []


def test_the_policy_is_a_hook_where_its_kind_is_not_served_yet_and_a_part_of_the_release_where_it_is(
    default_objects: list[Manifest], helm: Path
) -> None:
    first = the(default_objects, "SandboxPolicy")["metadata"]["annotations"]
    assert first["helm.sh/hook"] == "post-install,post-upgrade"
    assert first["meta.helm.sh/release-name"] == "bulkhead"
    assert first["meta.helm.sh/release-namespace"] == "bulkhead-system"
    later = load(template(helm, "--api-versions", SERVED))
    assert the(later, "SandboxPolicy")["metadata"]["annotations"] == {"helm.sh/resource-policy": "keep"}
    assert of_kind(render(helm, {"policy": {"create": False}}), "SandboxPolicy") == []


def test_the_policys_spec_is_that_of_the_values(helm: Path) -> None:
    spec = {"production": {"cidrs": ["10.0.0.0/8"]}, "network": {"clusterDNS": True}}
    assert the(render(helm, {"policy": {"spec": spec}}), "SandboxPolicy")["spec"] == spec


def test_one_replica_has_no_budget_because_it_would_block_every_drain(
    helm: Path, default_objects: list[Manifest]
) -> None:
    assert of_kind(default_objects, "PodDisruptionBudget") == []
    assert (
        of_kind(render(helm, {"replicas": 2, "podDisruptionBudget": {"enabled": False}}), "PodDisruptionBudget") == []
    )


def test_several_replicas_have_a_budget_that_selects_their_pods(helm: Path) -> None:
    objects = render(helm, {"replicas": 2})
    budget = the(objects, "PodDisruptionBudget")["spec"]
    assert budget["maxUnavailable"] == 1
    assert budget["selector"] == the(objects, "Deployment")["spec"]["selector"]


def test_several_replicas_prefer_different_nodes_unless_told_otherwise(helm: Path) -> None:
    def affinity(values: Manifest) -> Any:
        return the(render(helm, values), "Deployment")["spec"]["template"]["spec"].get("affinity")

    (term,) = affinity({"replicas": 2})["podAntiAffinity"]["preferredDuringSchedulingIgnoredDuringExecution"]
    assert term["podAffinityTerm"]["topologyKey"] == "kubernetes.io/hostname"
    assert affinity({"replicas": 1}) is None
    assert affinity({"replicas": 2, "affinity": {"nodeAffinity": {}}}) == {"nodeAffinity": {}}


def test_the_network_policy_selects_the_operator_and_lets_it_reach_the_api_server_and_canaries_only(
    default_objects: list[Manifest],
) -> None:
    policy = the(default_objects, "NetworkPolicy")["spec"]
    assert policy["podSelector"] == the(default_objects, "Deployment")["spec"]["selector"]
    assert policy["policyTypes"] == ["Ingress", "Egress"]
    assert policy["ingress"] == [{"ports": [{"protocol": "TCP", "port": "canary"}]}]
    assert policy["egress"] == [
        {"to": [{"podSelector": policy["podSelector"]}], "ports": [{"protocol": "TCP", "port": "canary"}]},
        {"ports": [{"protocol": "TCP", "port": 443}, {"protocol": "TCP", "port": 6443}]},
    ]


def test_the_operator_may_reach_the_canaries_of_the_charts_policy_and_what_else_is_named(helm: Path) -> None:
    canaries = [
        {"name": "db", "address": "10.200.0.10", "port": 5432},
        {"name": "dns", "address": "fd00::1", "port": 53, "protocol": "UDP"},
    ]
    extra = {"to": [{"podSelector": {}}], "ports": [{"protocol": "TCP", "port": 9000}]}
    values = {
        "policy": {"spec": {"production": {"canaries": canaries}}},
        "networkPolicy": {"extraEgress": [extra]},
    }
    rules = the(render(helm, values), "NetworkPolicy")["spec"]["egress"]
    assert rules[1:4] == [
        {"to": [{"ipBlock": {"cidr": "10.200.0.10/32"}}], "ports": [{"protocol": "TCP", "port": 5432}]},
        {"to": [{"ipBlock": {"cidr": "fd00::1/128"}}], "ports": [{"protocol": "UDP", "port": 53}]},
        extra,
    ]


def test_addresses_of_the_api_server_narrow_the_network_policy(helm: Path) -> None:
    objects = render(helm, {"networkPolicy": {"apiServerCIDRs": ["192.0.2.1/32"], "apiServerPorts": [6443]}})
    assert the(objects, "NetworkPolicy")["spec"]["egress"][-1] == {
        "ports": [{"protocol": "TCP", "port": 6443}],
        "to": [{"ipBlock": {"cidr": "192.0.2.1/32"}}],
    }
    assert of_kind(render(helm, {"networkPolicy": {"enabled": False}}), "NetworkPolicy") == []


# --- the operator's pod ----------------------------------------------------------------------------------


def test_the_pod_is_confined(pod: Manifest) -> None:
    spec = pod["spec"]
    (container,) = spec["containers"]
    assert spec["securityContext"] == {
        "runAsNonRoot": True,
        "runAsUser": 65532,
        "runAsGroup": 65532,
        "fsGroup": 65532,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "privileged": False,
        "readOnlyRootFilesystem": True,
        "runAsNonRoot": True,
        "runAsUser": 65532,
        "runAsGroup": 65532,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    assert spec["enableServiceLinks"] is False
    assert not {"hostNetwork", "hostPID", "hostIPC", "hostUsers", "shareProcessNamespace"} & set(spec)
    assert all("hostPort" not in port for port in container["ports"])


def test_the_pod_holds_a_token_of_minutes_and_no_other(pod: Manifest, default_objects: list[Manifest]) -> None:
    assert pod["spec"]["automountServiceAccountToken"] is False
    assert the(default_objects, "ServiceAccount")["automountServiceAccountToken"] is False
    tokens = [
        source["serviceAccountToken"]
        for volume in pod["spec"]["volumes"]
        for source in volume.get("projected", {}).get("sources", [])
        if "serviceAccountToken" in source
    ]
    assert tokens == [{"path": "token", "expirationSeconds": 900}]


def test_the_token_lies_where_clients_look_for_it(pod: Manifest) -> None:
    mounts = {mount["name"]: mount for mount in pod["spec"]["containers"][0]["volumeMounts"]}
    volumes = {volume["name"]: volume for volume in pod["spec"]["volumes"]}
    assert mounts["api-access"]["mountPath"] == "/var/run/secrets/kubernetes.io/serviceaccount"
    assert mounts["api-access"]["readOnly"] is True
    files = {
        item["path"]
        for source in volumes["api-access"]["projected"]["sources"]
        for item in [
            source.get("serviceAccountToken"),
            *source.get("configMap", source.get("downwardAPI", {})).get("items", []),
        ]
        if item
    }
    assert files == {"token", "ca.crt", "namespace"}
    assert volumes["tmp"]["emptyDir"]["sizeLimit"] == "16Mi"


def test_the_operator_learns_who_and_where_it_is_from_its_pod(pod: Manifest) -> None:
    container = pod["spec"]["containers"][0]
    fields = {
        entry["name"]: entry["valueFrom"]["fieldRef"]["fieldPath"] for entry in container["env"] if "valueFrom" in entry
    }
    assert fields == {"POD_NAMESPACE": "metadata.namespace", "POD_NAME": "metadata.name", "POD_UID": "metadata.uid"}
    assert container["args"] == [
        "--log-level=info",
        "--lease-namespace=$(POD_NAMESPACE)",
        "--user-namespaces=auto",
        "--revocation-patience=600",
    ]


def test_the_operator_understands_the_arguments_it_is_given(helm: Path) -> None:
    pod = the(render(helm, {"userNamespaces": "always", "logLevel": "debug"}), "Deployment")["spec"]["template"]["spec"]
    given = [argument.replace("$(POD_NAMESPACE)", "here") for argument in pod["containers"][0]["args"]]
    understood = arguments(given)
    assert (understood.log_level, understood.lease_namespace, understood.user_namespaces) == ("debug", "here", "always")
    assert (understood.liveness_port, understood.readiness_port) == (8080, 8081)


def test_probes_ask_the_ports_that_are_declared(pod: Manifest) -> None:
    container = pod["spec"]["containers"][0]
    assert {port["name"]: port["containerPort"] for port in container["ports"]} == {
        "healthz": 8080,
        "readyz": 8081,
        "canary": 8082,
    }
    asked = {name: container[f"{name}Probe"]["httpGet"] for name in ("startup", "liveness", "readiness")}
    assert asked == {
        "startup": {"path": "/healthz", "port": "healthz"},
        "liveness": {"path": "/healthz", "port": "healthz"},
        "readiness": {"path": "/readyz", "port": "readyz"},
    }


def test_resources_leave_cpu_unlimited_so_that_nothing_throttles_a_suspension(pod: Manifest) -> None:
    resources = pod["spec"]["containers"][0]["resources"]
    assert resources["requests"]["cpu"] == "100m" and resources["requests"]["memory"] == "128Mi"
    assert resources["limits"]["memory"] == "256Mi" and "cpu" not in resources["limits"]
    assert pod["spec"]["terminationGracePeriodSeconds"] == 30


@pytest.mark.parametrize(
    ("image", "reference"),
    [
        pytest.param({}, "bulkhead/operator:0.1.0", id="the chart's version by default"),
        pytest.param({"tag": "1.2.3"}, "bulkhead/operator:1.2.3", id="a tag"),
        pytest.param({"tag": "1.2.3", "digest": DIGEST}, f"bulkhead/operator@{DIGEST}", id="a digest wins over a tag"),
        pytest.param(
            {"repository": "reg.example.com:5000/b"}, "reg.example.com:5000/b:0.1.0", id="a registry with a port"
        ),
    ],
)
def test_the_image_reference_follows_the_values(helm: Path, image: Manifest, reference: str) -> None:
    pod = the(render(helm, {"image": image}), "Deployment")["spec"]["template"]["spec"]
    assert pod["containers"][0]["image"] == reference


def test_scheduling_values_reach_the_pod_as_given(helm: Path) -> None:
    given: Manifest = {
        "nodeSelector": {"kubernetes.io/os": "linux"},
        "tolerations": [{"key": "control-plane", "operator": "Exists"}],
        "topologySpreadConstraints": [{"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "ScheduleAnyway"}],
        "priorityClassName": "system-cluster-critical",
        "imagePullSecrets": [{"name": "regcred"}],
    }
    pod = the(render(helm, {**given, "podAnnotations": {"a": "b"}, "podLabels": {"team": "x"}}), "Deployment")["spec"][
        "template"
    ]
    assert {key: pod["spec"][key] for key in given} == given
    assert pod["metadata"]["annotations"]["a"] == "b"
    assert pod["metadata"]["labels"]["team"] == "x"


def test_pods_are_selected_by_labels_that_no_upgrade_changes(default_objects: list[Manifest]) -> None:
    deployment = the(default_objects, "Deployment")["spec"]
    selected = deployment["selector"]["matchLabels"]
    assert selected.items() <= deployment["template"]["metadata"]["labels"].items()
    assert not {"app.kubernetes.io/version", "helm.sh/chart"} & set(selected)


def test_a_release_of_another_name_is_told_apart_and_its_names_fit(helm: Path) -> None:
    objects = render(helm, release="a" * 53, namespace="elsewhere")
    assert the(objects, "Deployment")["metadata"]["name"] == "a" * 52
    # Names of admission policies and roles are no labels and no host names, so they may be longer.
    longer = {*ADMISSION, "ClusterRole"}
    assert all(len(item["metadata"]["name"]) <= 63 for item in objects if item["kind"] not in longer)
    assert the(render(helm, release="prod"), "Deployment")["metadata"]["name"] == "prod-bulkhead"
    assert the(render(helm, {"fullnameOverride": "other"}), "Deployment")["metadata"]["name"] == "other"


# --- rights ----------------------------------------------------------------------------------------------


def granted(role: Manifest) -> set[tuple[str, str, str]]:
    return {
        (group, resource, verb)
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


def verbs_on(rights: set[tuple[str, str, str]], resource: str) -> set[str]:
    return {verb for _, named, verb in rights if named == resource}


def test_the_operator_can_neither_list_secrets_nor_ask_for_tokens_nor_write_what_users_own(
    default_objects: list[Manifest],
) -> None:
    rights = granted(the(default_objects, "ClusterRole", "bulkhead"))
    assert not [right for right in rights if "*" in right]
    assert verbs_on(rights, "secrets") == {"create", "patch", "delete"}
    for never in ("pods/exec", "pods/attach", "serviceaccounts/token", "nodes/proxy", "clusterroles", "configmaps"):
        assert not verbs_on(rights, never)
    allowed = {"get", "list", "watch", "create", "patch", "delete", "deletecollection"}
    assert {right for right in rights if right[2] not in allowed} == {
        ("rbac.authorization.k8s.io", "roles", "escalate"),
        ("rbac.authorization.k8s.io", "roles", "bind"),
    }
    # The finalizer; an admission policy refuses everything else that a patch could say.
    assert verbs_on(rights, "agentdeployments") == {"get", "list", "watch", "delete", "patch"}
    assert verbs_on(rights, "agentdeployments/status") == {"patch"}
    assert verbs_on(rights, "killswitches") == {"list", "watch"} and verbs_on(rights, "killswitches/status") == {
        "patch"
    }
    for looked_at in (
        "sandboxpolicies",
        "services",
        "endpointslices",
        "validatingadmissionpolicies",
        "validatingadmissionpolicybindings",
    ):
        assert verbs_on(rights, looked_at) <= {"get", "list", "watch"}


def test_what_is_cut_for_many_agents_may_be_deleted_by_collections_and_nothing_else(
    default_objects: list[Manifest],
) -> None:
    rights = granted(the(default_objects, "ClusterRole", "bulkhead"))
    assert {resource for _, resource, verb in rights if verb == "deletecollection"} == {
        "networkpolicies",
        "ciliumnetworkpolicies",
        "rolebindings",
        "roles",
        "serviceaccounts",
        "statefulsets",
        "pods",
    }
    own = [rule for role in of_kind(default_objects, "Role") for rule in role["rules"]]
    assert not [rule for rule in own if "deletecollection" in rule["verbs"]]


def test_leadership_is_one_named_lease_of_the_operators_own_namespace(default_objects: list[Manifest]) -> None:
    role = the(default_objects, "Role", "bulkhead-leadership")
    assert role["metadata"]["namespace"] == "bulkhead-system"
    named = [rule for rule in role["rules"] if rule["verbs"] != ["create"]]
    assert [rule["resourceNames"] for rule in named] == [[LEASE_NAME]]
    assert "leases" not in {resource for _, resource, _ in granted(the(default_objects, "ClusterRole", "bulkhead"))}


def test_each_role_is_bound_to_the_account_the_pod_runs_as(helm: Path) -> None:
    for values in (
        {},
        {"serviceAccount": {"create": False, "name": "mine"}},
        {"serviceAccount": {"create": True, "name": "own"}},
    ):
        objects = render(helm, values)
        account = the(objects, "Deployment")["spec"]["template"]["spec"]["serviceAccountName"]
        bindings = of_kind(objects, "RoleBinding") + of_kind(objects, "ClusterRoleBinding")
        assert {binding["roleRef"]["name"] for binding in bindings} == {
            "bulkhead",
            "bulkhead-leadership",
            "bulkhead-leases",
        }
        for binding in bindings:
            assert binding["subjects"] == [{"kind": "ServiceAccount", "name": account, "namespace": "bulkhead-system"}]


def test_people_get_agents_with_the_roles_they_have_and_nobody_gets_the_status(
    default_objects: list[Manifest], helm: Path
) -> None:
    def aggregated(name: str) -> set[str]:
        labels = the(default_objects, "ClusterRole", name)["metadata"]["labels"]
        return {key.rpartition("-")[2] for key in labels if key.startswith("rbac.authorization.k8s.io/aggregate-to-")}

    assert aggregated("bulkhead-view") == {"view", "edit", "admin"}
    assert aggregated("bulkhead-edit") == {"edit", "admin"}
    assert aggregated("bulkhead") == set()
    view = granted(the(default_objects, "ClusterRole", "bulkhead-view"))
    edit = granted(the(default_objects, "ClusterRole", "bulkhead-edit"))
    assert {verb for _, _, verb in view} == {"get", "list", "watch"}
    assert {resource for _, resource, _ in edit} == {"agentdeployments", "agentdeployments/scale"}
    without = of_kind(render(helm, {"rbac": {"aggregateRoles": False, "killSwitchRoles": False}}), "ClusterRole")
    assert [name_of(role) for role in without] == ["ClusterRole/bulkhead"]


def test_to_stop_many_and_to_let_them_run_again_are_two_roles_that_nobody_has_until_they_are_bound(
    default_objects: list[Manifest], helm: Path
) -> None:
    create, remove = (
        the(default_objects, "ClusterRole", f"bulkhead-killswitch-{name}") for name in ("create", "remove")
    )
    looking = {"get", "list", "watch"}
    assert {verb for _, _, verb in granted(create)} == {*looking, "create", "update", "patch"}
    assert {verb for _, _, verb in granted(remove)} == {*looking, "delete"}
    for role in (create, remove):
        assert {resource for _, resource, _ in granted(role)} == {"killswitches"}
        assert not [key for key in role["metadata"]["labels"] if key.startswith("rbac.authorization.k8s.io/")]
    bound = {one["roleRef"]["name"] for one in default_objects if one["kind"] in ("RoleBinding", "ClusterRoleBinding")}
    assert not bound & {create["metadata"]["name"], remove["metadata"]["name"]}
    for name in ("view", "edit"):
        killing = {
            right for right in granted(the(default_objects, "ClusterRole", f"bulkhead-{name}")) if "kill" in right[1]
        }
        assert {verb for _, _, verb in killing} <= looking
    # Whoever may change a switch could give it an owner, with which it goes, where admission does not refuse that.
    unguarded = the(render(helm, {"admission": {"enabled": False}}), "ClusterRole", "bulkhead-killswitch-create")
    assert {verb for _, _, verb in granted(unguarded)} == {*looking, "create"}


# --- the API server's attention --------------------------------------------------------------------------


def test_what_the_operator_deletes_has_a_priority_level_of_its_own_that_is_lent_to_nobody(helm: Path) -> None:
    objects = render(helm, {"serviceAccount": {"create": True, "name": "own"}}, namespace="elsewhere")
    level = the(objects, "PriorityLevelConfiguration")
    limited = level["spec"]["limited"]
    assert (limited["nominalConcurrencyShares"], limited["lendablePercent"]) == (10, 0)
    schema = the(objects, "FlowSchema")["spec"]
    assert schema["priorityLevelConfiguration"]["name"] == level["metadata"]["name"]
    assert schema["matchingPrecedence"] < 900, "before what holds for service accounts"
    (rule,) = schema["rules"]
    account = {"kind": "ServiceAccount", "serviceAccount": {"namespace": "elsewhere", "name": "own"}}
    assert rule["subjects"] == [account]
    deleting, recording = rule["resourceRules"]
    deletable = {
        resource
        for _, resource, verb in granted(the(objects, "ClusterRole", "bulkhead"))
        if verb == "delete" and resource != "agentdeployments" and "cluster" not in resource
    }
    assert set(deleting["resources"]) == deletable and deleting["verbs"] == ["delete", "deletecollection"]
    assert (recording["resources"], recording["namespaces"]) == (["configmaps"], ["elsewhere"])


def test_the_priority_level_can_be_left_out(helm: Path) -> None:
    objects = render(helm, {"flowControl": {"enabled": False}})
    assert not {"FlowSchema", "PriorityLevelConfiguration"} & {one["kind"] for one in objects}


# --- the notes -------------------------------------------------------------------------------------------


def notes(helm: Path, *arguments: str) -> str:
    command: list[str | Path] = [
        helm,
        "install",
        "bulkhead",
        CHART,
        "--namespace",
        "bulkhead-system",
        "--dry-run=client",
        *arguments,
    ]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.partition("NOTES:\n")[2]


def test_the_notes_show_an_agent_that_is_valid_and_how_to_suspend_it(helm: Path) -> None:
    text = notes(helm)
    shown = re.search(r"<<EOF\n(.*?)\n  EOF", text, re.DOTALL)
    assert shown
    (agent,) = load(shown[1])
    assert parse_spec(agent["spec"], name=agent["metadata"]["name"]).workspace
    assert "bulkhead.dev/sandbox=true" in text
    patches = [json.loads(patch) for patch in re.findall(r"-p '(.*)'", text)]
    assert patches == [{"spec": {"suspend": True}}, {"spec": {"suspend": False}}]


def test_the_notes_warn_when_uninstalling_would_delete_every_agent(helm: Path) -> None:
    assert "deletes every AgentDeployment" not in notes(helm)
    assert "deletes every AgentDeployment" in notes(helm, "--set", "crds.keep=false")
    assert "not part of this release" in notes(helm, "--set", "crds.enabled=false")


def test_the_notes_say_what_is_not_protected(helm: Path) -> None:
    named = notes(helm, "--set-json", 'policy.spec={"production":{"cidrs":["10.0.0.0/8"]}}')
    assert "names no production network" in notes(helm) and "names no production network" not in named
    assert "policy.create is false" in notes(helm, "--set", "policy.create=false")
    assert "admission.enabled is false" in notes(helm, "--set", "admission.enabled=false")
    assert "admission.enabled" not in notes(helm)
