"""Specs of AgentDeployments, put to the API server without being stored, and to the parser."""

from __future__ import annotations

from typing import Any

from bulkhead.api.agentdeployment import InvalidSpec, parse_spec
from tests.apiserver.rest import AGENTS, Answer, Rest


def agent(spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "bulkhead.dev/v1alpha1",
        "kind": "AgentDeployment",
        "metadata": {"name": "agent"},
        "spec": spec,
    }


def dry_run(rest: Rest, spec: Any, **query: str) -> Answer:
    return rest.post(AGENTS.format(namespace="default"), agent(spec), dryRun="All", fieldValidation="Strict", **query)


def accepts(spec: Any) -> bool:
    try:
        parse_spec(spec, name="agent")
    except InvalidSpec:
        return False
    return True
