"""A status of an AgentDeployment in which every field has a value."""

from __future__ import annotations

from typing import Any

EXIT: dict[str, Any] = {
    "pod": "agent-0",
    "container": "agent",
    "exitCode": 137,
    "reason": "OOMKilled",
    "finishedAt": "2026-01-02T03:04:05Z",
    "message": "reading page 7 of 900",
}
CIRCUIT: dict[str, Any] = {
    "state": "HalfOpen",
    "since": "2026-01-02T03:04:05.000006Z",
    "trips": [
        {
            "type": "Query",
            "name": "tool-calls",
            "at": "2026-01-02T03:04:05.000006Z",
            "message": "12 calls a second; accepted are up to 10",
            "value": "12",
            "threshold": "10",
            "query": "sum by (namespace, agent) (rate(tool_calls_total[1m]))",
        }
    ],
    "attempts": 2,
    "retryAt": "2026-01-02T03:04:05.000006Z",
    "trialEndsAt": "2026-01-02T03:09:05.000006Z",
    "resetAt": "2026-01-01T00:00:00.000000Z",
    "window": [
        {
            "at": "2026-01-02T03:04:05.000006Z",
            "type": "Restarts",
            "podUID": "0b2ff6c2-1f0e-4e5c-8f5a-7f6d3a4c9d10",
            "container": "agent",
            "count": 2,
        }
    ],
    "seen": ["default/tool-calls"],
    "blindSince": "2026-01-02T03:04:05.000006Z",
    "counted": [
        {
            "podUID": "0b2ff6c2-1f0e-4e5c-8f5a-7f6d3a4c9d10",
            "container": "agent",
            "restarts": 4,
            "oomAt": "2026-01-02T03:04:05.000006Z",
        }
    ],
}
SUSPENSION: dict[str, Any] = {
    "reasons": [{"type": "Requested", "message": "it misbehaves"}],
    "since": "2026-01-02T03:04:05.000006Z",
    "networkCutAt": "2026-01-02T03:04:05.000006Z",
    "credentialsRevokedAt": "2026-01-02T03:04:05.000006Z",
    "processesSignalledAt": "2026-01-02T03:04:05.000006Z",
    "stoppedAt": "2026-01-02T03:04:05.000006Z",
    "graceSeconds": 5,
    "pending": ["agent-0"],
    "unrevoked": ["warehouse: the issuer does not answer"],
    "exits": [EXIT],
}
CREDENTIAL: dict[str, Any] = {
    "name": "warehouse",
    "issuer": "postgres",
    "state": "Active",
    "lease": "a1b2c3d4e5f6",
    "issuedAt": "2026-01-02T03:04:05.000006Z",
    "expiresAt": "2026-01-02T03:19:05.000006Z",
    "rotatesAt": "2026-01-02T03:14:05.000006Z",
    "message": "role bulkhead_x_a1b2c3d4e5f6",
}
ISOLATION: dict[str, Any] = {
    "result": "Lost",
    "since": "2026-01-02T03:04:05.000006Z",
    "provenAt": "2026-01-02T03:04:05.000006Z",
    "targets": ["canary/db TCP 10.0.0.1 5432"],
    "answered": ["canary/db TCP 10.0.0.1 5432 accepted the connection"],
    "lostAt": "2026-01-02T03:04:05.000006Z",
    "layers": [{"name": "NetworkPolicy", "since": "2026-01-02T03:04:05Z"}],
}
STATUS: dict[str, Any] = {
    "observedGeneration": 3,
    "policies": ["default", "research"],
    "isolation": ISOLATION,
    "state": "Suspended",
    "ready": "0/1",
    "workflow": "nightly",
    "userNamespaces": True,
    "replicas": 1,
    "readyReplicas": 0,
    "selector": "bulkhead.dev/agent-uid=x",
    "runStartedAt": "2026-01-02T03:04:05.000006Z",
    "credentials": [CREDENTIAL],
    "suspension": SUSPENSION,
    "lastSuspension": SUSPENSION,
    "circuit": CIRCUIT,
    "lastExits": [EXIT],
    "conditions": [
        {
            "type": "Ready",
            "status": "False",
            "reason": "Requested",
            "message": "it misbehaves",
            "observedGeneration": 3,
            "lastTransitionTime": "2026-01-02T03:04:05Z",
        }
    ],
}
