"""The admission policies that the chart installs, by name."""

from __future__ import annotations

import yaml

from tests.packaging.rendering import CHART

GUARDS = [one["name"] for one in yaml.safe_load((CHART / "files" / "guards.yaml").read_text())]
CONTENTS = [
    "agent-accounts",
    "agent-credentials",
    "agent-floor",
    "agent-identity",
    "agent-network",
    "agent-rights",
    "agent-scale",
    "agent-switches",
    "agent-workload",
    "evictions",
    "killswitches",
    "marks",
    "namespaces",
    "network-floor",
    "network-production",
    "operator",
    "operator-deletions",
    "operator-elsewhere",
    "operator-networks",
    "operator-role-ceilings",
    "operator-roles",
    "operator-workloads",
    "orphans",
    "pod-labels",
    "records",
    "services",
    "services-elsewhere",
]
ADMISSION = ("ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding")
