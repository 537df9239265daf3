"""What an agent's conditions say of the world around it."""

from __future__ import annotations

from typing import Any

import pytest

from bulkhead.plan import worldview
from bulkhead.plan.assessment import Assessment
from bulkhead.plan.isolation import Evidence
from bulkhead.plan.refusals import Violation
from bulkhead.plan.rules import Rules
from bulkhead.plan.widening import Opened
from bulkhead.plan.worldview import Verdict
from tests.unit.plan import samples

EVIDENCE = Evidence(result="Proven", message="proven a minute ago")
OPENED = Opened(kind="NetworkPolicy", name="mine", message="opens 0.0.0.0/0", critical=True, touches={})
REFUSAL = Violation(policy="strict", field="spec.replicas", message="3 were asked for; SandboxPolicy strict accepts 1")


def said(kind: str, *, result: str = "Proven", runs: bool = True, admission: Any = (), **judged: Any) -> Verdict:
    assessment = Assessment(**{"policies": ("default",), "evidence": EVIDENCE, **judged})
    record = {"result": result, "targets": ["a", "b"], "answered": ["metadata accepted"], "lostAt": "T"}
    return worldview.verdicts(assessment, samples.surroundings(admission=admission), record, runs=runs)[kind]


CASES: dict[str, tuple[Verdict, str, str, str]] = {
    "accepted": (said("PolicyAccepted"), "True", "Accepted", "default"),
    "no policy": (said("PolicyAccepted", policies=()), "False", "NoPolicy", "no SandboxPolicy"),
    "refused": (said("PolicyAccepted", violations=(REFUSAL,)), "False", "Refused", "SandboxPolicy strict accepts 1"),
    "proven": (said("Isolated"), "True", "Proven", "2 targets"),
    "pending": (said("Isolated", result="Pending"), "Unknown", "Pending", "2 targets"),
    "open": (said("Isolated", result="Open"), "False", "Open", "proven a minute ago"),
    "lost": (said("Isolated", result="Lost"), "False", "Lost", "metadata accepted"),
    "lost and stopped": (said("Isolated", result="Lost", runs=False), "False", "Lost", "metadata accepted"),
    "unproven": (said("Isolated", result="Unknown", unproven="db is silent"), "Unknown", "Unproven", "db is silent"),
    "not running": (said("Isolated", result="Pending", runs=False), "Unknown", "NotRunning", "nothing runs"),
    "as planned": (said("NetworkAsPlanned"), "True", "AsPlanned", "NetworkPolicy"),
    "widened": (said("NetworkAsPlanned", opened=(OPENED,)), "False", "Widened", "NetworkPolicy mine: opens 0.0.0.0/0"),
    "a note": (said("NetworkAsPlanned", rules=Rules(policy=None, notes=("no Service x",))), "True", "AsPlanned", "x"),
    "in force": (said("AdmissionInForce"), "True", "InForce", "every"),
    "weakened": (said("AdmissionInForce", admission=("binding b is gone",)), "False", "Weakened", "binding b is gone"),
    "not told": (said("AdmissionInForce", admission=None), "Unknown", "NotInstalled", "not told"),
}


@pytest.mark.parametrize("case", CASES)
def test_each_condition_says_what_is_so_and_why(case: str) -> None:
    verdict, status, reason, words = CASES[case]
    assert (verdict.status, verdict.reason) == (status, reason)
    assert words in verdict.message


def test_a_long_list_of_problems_is_cut_and_says_so() -> None:
    verdict = said("AdmissionInForce", admission=tuple(f"policy {number} is gone" for number in range(40)))
    assert verdict.message.endswith("and 24 more")
