"""Whether the admission policies are as they were installed, seen within seconds of a change."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from bulkhead.cluster import resources
from bulkhead.cluster.client import Client
from bulkhead.cluster.informer import Informer
from bulkhead.plan import admission

Object = dict[str, Any]

OURS_BY_LABEL = "app.kubernetes.io/part-of=bulkhead"
"""Label of what the chart installs. Admission policies are watched by it: one that loses it counts as missing."""


class AdmissionWatch:
    """Compares the admission policies and bindings that there are with those that should be.

    Args:
        client: for the informers.
        expected: the policies and bindings that should be there; None where nobody said.
        on_change: told when what is wrong with them has changed.
    """

    def __init__(self, client: Client, *, expected: tuple[Object, ...] | None, on_change: Callable[[], None]) -> None:
        self._expected = expected
        self._on_change = on_change
        self._problems: tuple[str, ...] | None = None
        self.informers = tuple(
            Informer(client, resource, label_selector=OURS_BY_LABEL, on_change=self._changed)
            for resource in (
                resources.VALIDATING_ADMISSION_POLICIES,
                resources.VALIDATING_ADMISSION_POLICY_BINDINGS,
            )
        )

    def problems(self) -> tuple[str, ...] | None:
        """Returns what is wrong with them; None where the operator does not know what they should be."""
        if self._expected is None:
            return None
        if self._problems is None:
            live = [obj for informer in self.informers for obj in informer]
            self._problems = admission.problems(self._expected, live)
        return self._problems

    def _changed(self, _old: Object | None, _new: Object | None) -> None:
        before, self._problems = self._problems, None
        if all(informer.synced.is_set() for informer in self.informers) and self.problems() != before:
            self._on_change()
