"""Generates the CustomResourceDefinitions from the models: `python -m bulkhead.api.crd [--check]`.

For developers only; the operator never imports it.
"""

import sys
from pathlib import Path
from typing import Any, Final

import yaml
from pydantic import BaseModel

from bulkhead.api import agentdeployment, generated, killswitch, sandboxpolicy
from bulkhead.api.fields import Rule, validations
from bulkhead.api.killswitchstatus import KillSwitchStatus
from bulkhead.api.meta import (
    AGENT_KIND,
    AGENT_PLURAL,
    GROUP,
    KILL_SWITCH_KIND,
    KILL_SWITCH_PLURAL,
    POLICY_KIND,
    POLICY_PLURAL,
    VERSION,
)
from bulkhead.api.policystatus import SandboxPolicyStatus
from bulkhead.api.status import AgentDeploymentStatus
from bulkhead.api.structural import structural

HEADER: Final = "# Generated from operator/bulkhead/api by `python -m bulkhead.api.crd`. Do not edit.\n"

_METADATA_OF_CHART: Final = """\
metadata:
  {{- if .Values.crds.keep }}
  annotations:
    helm.sh/resource-policy: keep
  {{- end }}
"""

AGENT_COLUMNS: Final = (
    {"name": "State", "type": "string", "jsonPath": ".status.state", "description": "State in one word."},
    {"name": "Ready", "type": "string", "jsonPath": ".status.ready", "description": "Ready of wanted replicas."},
    {"name": "Tenant", "type": "string", "jsonPath": ".spec.tenant", "description": "Tenant of the agent."},
    {"name": "Workflow", "type": "string", "jsonPath": ".status.workflow", "description": "Workflow of the agent."},
    {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp", "description": "Time since creation."},
    {
        "name": "Owner",
        "type": "string",
        "jsonPath": ".spec.owner",
        "priority": 1,
        "description": "Who answers for the agent.",
    },
    {"name": "Image", "type": "string", "jsonPath": ".spec.image", "priority": 1, "description": "Container image."},
    {
        "name": "Suspended-Since",
        "type": "date",
        "jsonPath": ".status.suspension.since",
        "priority": 1,
        "description": "Time since the suspension began.",
    },
    {
        "name": "Circuit",
        "type": "string",
        "jsonPath": ".status.circuit.state",
        "priority": 1,
        "description": "State of the circuit breaker.",
    },
    {
        "name": "Message",
        "type": "string",
        "jsonPath": '.status.conditions[?(@.type=="Ready")].message',
        "priority": 1,
        "description": "What the Ready condition says.",
    },
)
POLICY_COLUMNS: Final = (
    {
        "name": "Namespaces",
        "type": "integer",
        "jsonPath": ".status.namespaces",
        "description": "Sandbox namespaces that the policy selects.",
    },
    {"name": "Agents", "type": "integer", "jsonPath": ".status.agents", "description": "Agents in them."},
    {
        "name": "Violating",
        "type": "integer",
        "jsonPath": ".status.violating",
        "description": "Agents that the policy does not accept.",
    },
    {
        "name": "Ready",
        "type": "string",
        "jsonPath": '.status.conditions[?(@.type=="Ready")].status',
        "description": "Whether the policy is understood and in force.",
    },
    {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp", "description": "Time since creation."},
    {
        "name": "Message",
        "type": "string",
        "jsonPath": '.status.conditions[?(@.type=="Ready")].message',
        "priority": 1,
        "description": "What the Ready condition says.",
    },
)
KILL_SWITCH_COLUMNS: Final = (
    {"name": "Matched", "type": "integer", "jsonPath": ".status.matched", "description": "Agents that it selects."},
    {
        "name": "Cut-Off",
        "type": "integer",
        "jsonPath": ".status.cutOff",
        "description": "Agents of these that have no network any more.",
    },
    {
        "name": "Stopped",
        "type": "integer",
        "jsonPath": ".status.stopped",
        "description": "Agents of these that have no pod any more.",
    },
    {
        "name": "Seconds",
        "type": "string",
        "jsonPath": ".status.seconds",
        "description": "Seconds until all of them were stopped.",
    },
    {"name": "Reason", "type": "string", "jsonPath": ".spec.reason", "description": "Why they must not run."},
    {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp", "description": "Time since creation."},
    {
        "name": "Pending",
        "type": "string",
        "jsonPath": ".status.pending",
        "priority": 1,
        "description": "Agents that are not stopped yet.",
    },
)


def agent_deployment_crd() -> dict[str, Any]:
    """Returns the CustomResourceDefinition of AgentDeployment (apiextensions.k8s.io/v1)."""
    return _crd(
        scope="Namespaced",
        names={"kind": AGENT_KIND, "plural": AGENT_PLURAL, "shortNames": ["agent", "agents"]},
        schema=_schema(
            "An AI agent that runs where it can do its work and nothing else.",
            spec=agentdeployment.AgentDeploymentSpec,
            status=AgentDeploymentStatus,
            name_rule=agentdeployment.NAME_RULE,
        ),
        version={
            "subresources": {
                "status": {},
                "scale": {
                    "specReplicasPath": ".spec.replicas",
                    "statusReplicasPath": ".status.replicas",
                    "labelSelectorPath": ".status.selector",
                },
            },
            "selectableFields": [{"jsonPath": ".spec.suspend"}],
            "additionalPrinterColumns": list(AGENT_COLUMNS),
        },
    )


def sandbox_policy_crd() -> dict[str, Any]:
    """Returns the CustomResourceDefinition of SandboxPolicy (apiextensions.k8s.io/v1)."""
    return _crd(
        scope="Cluster",
        names={"kind": POLICY_KIND, "plural": POLICY_PLURAL, "shortNames": ["sbxp"]},
        schema=_schema(
            "What is production for the agents of some sandbox namespaces, and what they may ask for.",
            spec=sandboxpolicy.SandboxPolicySpec,
            status=SandboxPolicyStatus,
            name_rule=sandboxpolicy.NAME_RULE,
        ),
        version={"subresources": {"status": {}}, "additionalPrinterColumns": list(POLICY_COLUMNS)},
    )


def kill_switch_crd() -> dict[str, Any]:
    """Returns the CustomResourceDefinition of KillSwitch (apiextensions.k8s.io/v1)."""
    return _crd(
        scope="Cluster",
        names={"kind": KILL_SWITCH_KIND, "plural": KILL_SWITCH_PLURAL, "shortNames": ["ks"]},
        schema=_schema(
            "Stops many agents. As long as it exists, what it selects is suspended, and what matches later never "
            "starts.",
            spec=killswitch.KillSwitchSpec,
            status=KillSwitchStatus,
            name_rule=killswitch.NAME_RULE,
        ),
        version={"subresources": {"status": {}}, "additionalPrinterColumns": list(KILL_SWITCH_COLUMNS)},
    )


def _schema(description: str, *, spec: type[BaseModel], status: type[BaseModel], name_rule: Rule) -> dict[str, Any]:
    return {
        "type": "object",
        "description": description,
        "required": ["spec"],
        "properties": {
            "apiVersion": {"type": "string", "description": "Version of the schema of this object."},
            "kind": {"type": "string", "description": "Kind of this object."},
            "metadata": {"type": "object"},
            "spec": structural(spec),
            "status": structural(status),
        },
        **validations((name_rule,)),
    }


def _crd(*, scope: str, names: dict[str, Any], schema: dict[str, Any], version: dict[str, Any]) -> dict[str, Any]:
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{names['plural']}.{GROUP}"},
        "spec": {
            "group": GROUP,
            "names": {
                **names,
                "listKind": f"{names['kind']}List",
                "singular": names["kind"].lower(),
                "categories": ["bulkhead"],
            },
            "scope": scope,
            "versions": [
                {"name": VERSION, "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}, **version}
            ],
        },
    }


def plain_file(crd: dict[str, Any]) -> str:
    """Returns the text of the file that `kubectl apply -f` takes."""
    return HEADER + _dump(crd)


def chart_file(crd: dict[str, Any]) -> str:
    """Returns the text of the chart's template: as an option, and kept when the release is uninstalled.

    Helm's own crds/ folder would neither upgrade a CRD nor make it an option.

    Raises:
        ValueError: the text has what Helm would take for a template.
    """
    text = _dump(crd)
    if "{{" in text or "}}" in text:
        raise ValueError("the CRD has '{{' or '}}' in it, which Helm would take for a template")
    annotated = text.replace("metadata:\n", _METADATA_OF_CHART, 1)
    return "{{- if .Values.crds.enabled }}\n" + HEADER + annotated + "{{- end }}\n"


def file_name(crd: dict[str, Any]) -> str:
    """Returns the name of the CRD's file in each of its folders."""
    return f"{crd['spec']['group']}_{crd['spec']['names']['plural']}.yaml"


def files(root: Path) -> dict[Path, str]:
    """Returns all generated files below the root of the repository, with their texts."""
    texts: dict[Path, str] = {}
    for crd in (agent_deployment_crd(), sandbox_policy_crd(), kill_switch_crd()):
        texts[root / "crds" / file_name(crd)] = plain_file(crd)
        texts[root / "charts" / "bulkhead" / "templates" / "crds" / file_name(crd)] = chart_file(crd)
    return texts


def main(arguments: list[str] | None = None) -> int:
    """Writes what is generated here, or with `--check` only says what is not current. Returns the exit code."""
    return generated.run("bulkhead.api.crd", files, arguments)


class _Dumper(yaml.SafeDumper):
    """Writes shared parts out in full: anchors in a manifest help nobody."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _dump(obj: dict[str, Any]) -> str:
    return yaml.dump(obj, Dumper=_Dumper, sort_keys=False, width=120, allow_unicode=False)


if __name__ == "__main__":
    sys.exit(main())
