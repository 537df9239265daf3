from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any

import pytest
import yaml
from pydantic import Field

from bulkhead.api import crd
from bulkhead.api.agentdeployment import InvalidSpec, parse_spec
from bulkhead.api.fields import ATOMIC, RULES_KEY, Model, Rule, Text, validations
from bulkhead.api.killswitch import parse_kill_switch
from bulkhead.api.network import NETWORK_RULES
from bulkhead.api.sandboxpolicy import parse_policy
from bulkhead.api.secretformats import FORMATS
from bulkhead.api.structural import structural
from tests import breaker_specs, credential_specs, identity_specs, killswitch_specs, network_specs, policy_specs

REPOSITORY = Path(__file__).parents[3]
CRD = crd.agent_deployment_crd()
POLICY_CRD = crd.sandbox_policy_crd()
VERSION = CRD["spec"]["versions"][0]
POLICY_VERSION = POLICY_CRD["spec"]["versions"][0]
SWITCH_CRD = crd.kill_switch_crd()
SWITCH_VERSION = SWITCH_CRD["spec"]["versions"][0]


def schemas(schema: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every schema in a schema, with its path."""
    yield path, schema
    for name, inner in schema.get("properties", {}).items():
        yield from schemas(inner, f"{path}.{name}")
    for field, mark in (("items", "[]"), ("additionalProperties", "[*]")):
        if field in schema:
            yield from schemas(schema[field], path + mark)


def fields(version: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Every schema of spec and status, by path."""
    properties = version["schema"]["openAPIV3Schema"]["properties"]
    both = {"type": "object", "properties": {key: properties[key] for key in ("spec", "status")}}
    return dict(schemas(both))


AGENT = fields(VERSION)
POLICY = fields(POLICY_VERSION)
SWITCH = fields(SWITCH_VERSION)
ALL = {
    f"{kind}{path}": schema
    for kind, of in (("agent", AGENT), ("policy", POLICY), ("switch", SWITCH))
    for path, schema in of.items()
}


def test_the_files_in_the_repository_are_current() -> None:
    for path, text in crd.files(REPOSITORY).items():
        assert path.read_text(encoding="utf-8") == text, f"{path} is not current; run python -m bulkhead.api.crd"


def test_the_command_writes_what_is_missing_and_says_what_is_stale(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert crd.main(["--check", "--root", str(tmp_path)]) == 1
    assert capsys.readouterr().err.count("is not current") == 6
    assert crd.main(["--root", str(tmp_path)]) == 0
    assert crd.main(["--check", "--root", str(tmp_path)]) == 0
    stale = tmp_path / "crds" / "bulkhead.dev_sandboxpolicies.yaml"
    stale.write_text("old", encoding="utf-8")
    assert crd.main(["--check", "--root", str(tmp_path)]) == 1
    assert stale.read_text(encoding="utf-8") == "old"


@pytest.mark.parametrize("definition", [CRD, POLICY_CRD, SWITCH_CRD], ids=["agents", "policies", "switches"])
def test_the_plain_file_holds_the_crd_and_no_anchors(definition: dict[str, Any]) -> None:
    text = crd.plain_file(definition)
    assert yaml.safe_load(text) == definition
    assert "&id" not in text


@pytest.mark.parametrize("definition", [CRD, POLICY_CRD, SWITCH_CRD], ids=["agents", "policies", "switches"])
def test_the_file_of_the_chart_differs_by_its_conditions_alone(definition: dict[str, Any]) -> None:
    lines = crd.chart_file(definition).splitlines()
    added = [line for line in lines if "{{" in line or "annotations:" in line or "resource-policy" in line]
    assert added == [
        "{{- if .Values.crds.enabled }}",
        "  {{- if .Values.crds.keep }}",
        "  annotations:",
        "    helm.sh/resource-policy: keep",
        "  {{- end }}",
        "{{- end }}",
    ]
    assert yaml.safe_load("\n".join(line for line in lines if line not in added)) == definition


def test_a_description_that_helm_would_take_for_a_template_stops_the_generator() -> None:
    with pytest.raises(ValueError, match="Helm would take for a template"):
        crd.chart_file({"metadata": {}, "description": "{{ .Values }}"})


def test_a_rule_about_one_field_names_it_and_stands_on_what_is_not_repeated() -> None:
    # The API server writes a refused text into its answer, but not a refused object.
    rules = [rule for rule in AGENT[".spec.env[]"][RULES_KEY] if rule.get("fieldPath") == ".value"]
    assert len(rules) == 1 + len(FORMATS)
    assert RULES_KEY not in AGENT[".spec.env[].value"]


def test_a_rule_that_the_operator_checks_alone_is_not_written() -> None:
    assert validations((Rule("", "accepted is x", lambda text: text == "x"),)) == {}
    assert "credentials" not in str(AGENT[".spec.args"].get(RULES_KEY))


def test_a_docstring_of_several_lines_becomes_one() -> None:
    class Wide(Model):
        """A model."""

        name: Annotated[str, Text(8)]
        """A sentence that goes
        on."""

    assert structural(Wide)["properties"]["name"]["description"] == "A sentence that goes on."


def test_a_default_says_what_is_given_and_nothing_that_is_empty() -> None:
    assert AGENT[".spec.network"]["default"] == {"dns": "None"}
    assert POLICY[".spec.namespaceSelector"]["default"] == {}
    assert POLICY[".spec.production"]["default"] == {}
    assert POLICY[".spec.network"]["default"] == {"clusterDNS": False}
    assert "default" not in AGENT[".spec.identity"]
    assert "default" not in AGENT[".spec.credentials"]
    assert POLICY[".spec.identity"]["default"] == {"maxTokenSeconds": 3600}
    assert POLICY[".spec.credentials"]["default"] == {"maxTTLSeconds": 3600}
    assert POLICY[".spec.isolation"]["default"] == {"mode": "Continuous", "intervalSeconds": 10}
    assert POLICY[".spec.circuitBreaker"]["default"].keys() == {
        "restarts",
        "outOfMemory",
        "cannotStartSeconds",
        "blind",
        "recovery",
    }
    assert "default" not in AGENT[".spec.circuitBreaker"]
    assert SWITCH[".spec.selector.all"]["default"] is False


def test_the_api_server_writes_nothing_into_what_a_breaker_remembers_and_how_containers_ended() -> None:
    # The operator compares what is stored with what it would write: a default would be a difference without end.
    parts = (".status.circuit", ".status.lastExits", ".status.suspension.exits", ".status.lastSuspension.exits")
    told = {path: schema for path, schema in AGENT.items() if path.startswith(parts)}
    assert len(told) > 40
    assert [path for path, schema in told.items() if "default" in schema] == []


@pytest.mark.parametrize("path", [path for path in ALL if "." in path and not path.endswith("]")])
def test_every_field_is_described_in_one_sentence_or_more(path: str) -> None:
    assert ALL[path]["description"].endswith(".")
    assert "\n" not in ALL[path]["description"]


def test_every_string_list_and_map_is_bounded() -> None:
    for path, schema in ALL.items():
        kind = schema.get("type")
        if kind == "string":
            assert "maxLength" in schema or "enum" in schema, path
        elif kind == "array":
            assert "maxItems" in schema, path
            assert schema["x-kubernetes-list-type"] in ("atomic", "map", "set"), path
        elif kind == "object":
            assert "properties" in schema or "maxProperties" in schema, path
        elif kind == "integer":
            assert "minimum" in schema, path


def test_the_structural_schema_has_no_keyword_that_it_may_not_have() -> None:
    forbidden = {"$ref", "$defs", "anyOf", "oneOf", "allOf", "title", "const", "not", "nullable", "propertyNames"}
    for path, schema in ALL.items():
        assert not schema.keys() & forbidden, path
        assert schema.get("additionalProperties") is not False, path


def test_list_keys_are_required_or_have_a_default() -> None:
    for path, schema in ALL.items():
        for key in schema.get("x-kubernetes-list-map-keys", ()):
            items = schema["items"]
            assert key in items.get("required", ()) or "default" in items["properties"][key], path


def test_every_rule_says_what_would_be_accepted() -> None:
    roots = [version["schema"]["openAPIV3Schema"] for version in (VERSION, POLICY_VERSION, SWITCH_VERSION)]
    rules = [rule for schema in [*roots, *ALL.values()] for rule in schema.get("x-kubernetes-validations", ())]
    assert len(rules) > 100
    for rule in rules:
        changes = "oldSelf" in rule["rule"]
        assert "accepted" in rule["message"] or "reserved" in rule["message"] or changes, rule
        assert "\n" not in rule["message"]


def test_the_schema_offers_nothing_that_would_let_an_agent_out() -> None:
    dangerous = {
        "hostNetwork",
        "hostPID",
        "hostIPC",
        "hostPath",
        "hostPort",
        "host",
        "privileged",
        "securityContext",
        "serviceAccountName",
        "automountServiceAccountToken",
        "secretKeyRef",
        "configMapKeyRef",
        "envFrom",
        "volumes",
        "initContainers",
        "lifecycle",
        "priorityClassName",
        "schedulerName",
        "nodeName",
        "dnsPolicy",
        "hostAliases",
        "namespaceSelector",
        "ipBlock",
        "externalIPs",
    }
    offered = {path.rpartition(".")[2] for path in AGENT if path.startswith(".spec")}
    assert not offered & dangerous


def test_agents_are_scaled_selected_and_shown() -> None:
    assert VERSION["subresources"]["scale"] == {
        "specReplicasPath": ".spec.replicas",
        "statusReplicasPath": ".status.replicas",
        "labelSelectorPath": ".status.selector",
    }
    assert VERSION["selectableFields"] == [{"jsonPath": ".spec.suspend"}]
    assert CRD["spec"]["names"]["shortNames"] == ["agent", "agents"]
    narrow = [column["name"] for column in VERSION["additionalPrinterColumns"] if not column.get("priority")]
    assert narrow == ["State", "Ready", "Tenant", "Workflow", "Age"]


def test_policies_are_cluster_scoped_and_shown() -> None:
    assert POLICY_CRD["spec"]["scope"] == "Cluster"
    assert POLICY_CRD["spec"]["names"]["shortNames"] == ["sbxp"]
    assert POLICY_VERSION["subresources"] == {"status": {}}
    narrow = [column["name"] for column in POLICY_VERSION["additionalPrinterColumns"] if not column.get("priority")]
    assert narrow == ["Namespaces", "Agents", "Violating", "Ready", "Age"]


def test_kill_switches_are_cluster_scoped_and_shown() -> None:
    assert SWITCH_CRD["spec"]["scope"] == "Cluster"
    assert SWITCH_CRD["spec"]["names"]["plural"] == "killswitches"
    assert SWITCH_CRD["spec"]["names"]["shortNames"] == ["ks"]
    assert SWITCH_VERSION["subresources"] == {"status": {}}
    narrow = [column["name"] for column in SWITCH_VERSION["additionalPrinterColumns"] if not column.get("priority")]
    assert narrow == ["Matched", "Cut-Off", "Stopped", "Seconds", "Reason", "Age"]


@pytest.mark.parametrize(
    "version, known",
    [(VERSION, AGENT), (POLICY_VERSION, POLICY), (SWITCH_VERSION, SWITCH)],
    ids=["agents", "policies", "switches"],
)
def test_each_column_and_path_leads_to_a_field(version: dict[str, Any], known: dict[str, Any]) -> None:
    targets = [column["jsonPath"] for column in version["additionalPrinterColumns"]]
    targets += version["subresources"].get("scale", {}).values()
    for target in targets:
        plain = target.split("[")[0]
        assert plain in known or plain == ".metadata.creationTimestamp", target


class Unbounded(Model):
    """A model with a string that has no bound."""

    text: str
    """Text."""


class Undescribed(Model):
    """A model with a field that nobody described."""

    text: Annotated[str, Text(5)]


class Union(Model):
    """A model with a union, which a structural schema cannot say."""

    either: int | bool
    """One or the other."""


class Unkeyed(Model):
    """A model with a list that has no list type."""

    items: Annotated[list[Annotated[str, Text(5)]], Field(max_length=3)]
    """Items."""


@pytest.mark.parametrize(
    "model, complaint",
    [
        (Unbounded, r"Unbounded\.text is a string without a bound"),
        (Undescribed, r"Undescribed\.text has no description"),
        (Union, r"Union\.either has anyOf"),
        (Unkeyed, r"Unkeyed\.items is a array without a bound or, for a list, without a list type"),
    ],
)
def test_what_a_structural_schema_cannot_say_stops_the_generator(model: type[Model], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        structural(model)


class Inner(Model):
    """What the inner model is for."""

    size: Annotated[str, Text(5)] = "1"
    """Size."""


class Outer(Model):
    """What the outer model is for."""

    inner: Inner | None = None
    """What the field is for."""
    many: Annotated[list[Inner], Field(max_length=2, json_schema_extra=ATOMIC)] = Field(default_factory=list)
    """Many."""


def test_an_optional_model_is_inlined_under_the_description_of_its_field() -> None:
    assert structural(Outer)["properties"]["inner"] == {
        "description": "What the field is for.",
        "type": "object",
        "properties": {
            "size": {"default": "1", "description": "Size.", "maxLength": 5, "minLength": 1, "type": "string"}
        },
    }


def test_an_empty_list_is_no_default_to_be_written_out() -> None:
    assert "default" not in structural(Outer)["properties"]["many"]


def test_every_rule_of_these_parts_is_broken_by_a_named_case() -> None:
    tables = (network_specs, identity_specs, credential_specs, breaker_specs)
    told = [
        problem for table in tables for case in table.REFUSED.values() for problem in refusals(parse_spec, case.spec)
    ]
    told += [problem for case in policy_specs.REFUSED.values() for problem in refusals(parse_policy, case.spec)]
    told += [
        problem for case in killswitch_specs.REFUSED.values() for problem in refusals(parse_kill_switch, case.spec)
    ]
    changes = {change.says for change in killswitch_specs.CHANGES.values() if change.says}
    parts = (".spec.network", ".spec.identity", ".spec.credentials", ".spec.circuitBreaker", ".spec.preStop")
    agent = {path: schema for path, schema in AGENT.items() if path.startswith(parts)}
    others = [{path: schema for path, schema in of.items() if path.startswith(".spec")} for of in (POLICY, SWITCH)]
    rules = [rule for of in (agent, *others) for schema in of.values() for rule in schema.get(RULES_KEY, ())]
    rules += validations(NETWORK_RULES)[RULES_KEY]
    # Of a change the beginning is told: only the API server sees it.
    untold = [rule["message"] for rule in rules if not any(rule["message"] in problem for problem in told)]
    assert [message for message in untold if not message.startswith(tuple(changes))] == []


def refusals(parse: Callable[..., Any], spec: Any) -> tuple[str, ...]:
    """What the parser says about a spec that it refuses."""
    with pytest.raises(InvalidSpec) as refused:
        parse(spec, name="x")
    return refused.value.problems
