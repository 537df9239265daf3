"""The operator's picture of what is its own: one informer for each kind of child, and the agents."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from bulkhead.api import meta
from bulkhead.cluster import resources
from bulkhead.cluster.client import Client
from bulkhead.cluster.informer import Informer
from bulkhead.engine.agents import AgentStore
from bulkhead.engine.departed import Departed
from bulkhead.engine.queue import Key
from bulkhead.plan import exits, isolation, pods
from bulkhead.plan.exits import Exit

Object = dict[str, Any]
Notify = Callable[[Key], None]

MANAGED = f"{meta.MANAGED_BY_LABEL}={meta.MANAGED_BY_VALUE}"
AGENT = meta.AGENT_KIND
NAMESPACE = "Namespace"
POLICY = meta.POLICY_KIND


def agent_key(namespace: str, name: str) -> Key:
    """Returns the key of an agent."""
    return Key(AGENT, namespace, name)


def namespace_key(name: str) -> Key:
    """Returns the key of a namespace."""
    return Key(NAMESPACE, "", name)


def policy_key(name: str) -> Key:
    """Returns the key of a SandboxPolicy."""
    return Key(POLICY, "", name)


class View:
    """Caches of what agents are made of, and the keys that each change concerns.

    Args:
        client: for the informers.
        agents: the agents.
        network_policies: the informer of all NetworkPolicies; who runs it is told of changes.
        cilium_policies: the informer of all CiliumNetworkPolicies, likewise.
        notify: told the key of what a change concerns; must be quick.
        suspect: told first, where the caches alone cannot be believed about an agent's pods.
        alarm: told first, where a pod says that its isolation is lost.
    """

    def __init__(
        self,
        client: Client,
        *,
        agents: AgentStore,
        network_policies: Informer,
        cilium_policies: Informer,
        notify: Notify,
        suspect: Notify,
        alarm: Notify,
    ) -> None:
        self.agents = agents
        self.network_policies = network_policies
        self.cilium_policies = cilium_policies
        self._notify = notify
        self._suspect = suspect
        self._alarm = alarm
        self._departed = Departed()
        self.service_accounts = self._children(client, resources.SERVICE_ACCOUNTS)
        self.roles = self._children(client, resources.ROLES)
        self.role_bindings = self._children(client, resources.ROLE_BINDINGS)
        self.stateful_sets = self._children(client, resources.STATEFUL_SETS)
        self.claims = self._children(client, resources.CLAIMS)
        self.pods = Informer(
            client,
            resources.PODS,
            label_selector=MANAGED,
            on_change=self._pod_changed,
            transform=pods.slim,
            index=_marked,
        )
        self.default_accounts = Informer(
            client,
            resources.SERVICE_ACCOUNTS,
            field_selector="metadata.name=default",
            on_change=self._default_account_changed,
            transform=_pull_secrets_only,
        )
        self._by_kind = {
            informer.resource.kind: informer
            for informer in (
                self.network_policies,
                cilium_policies,
                self.service_accounts,
                self.roles,
                self.role_bindings,
                self.stateful_sets,
                self.claims,
            )
        }

    @property
    def informers(self) -> tuple[Informer, ...]:
        """Every informer that is this view's own, to be run and waited for."""
        return (
            self.service_accounts,
            self.roles,
            self.role_bindings,
            self.stateful_sets,
            self.claims,
            self.pods,
            self.default_accounts,
        )

    def of_kind(self, kind: str) -> Informer:
        """Returns the informer of a kind of child. Raises KeyError for a kind that is none."""
        return self._by_kind[kind]

    def agents_of(self, namespace: str) -> Iterable[Key]:
        """Yields the keys of the agents in a namespace."""
        for agent in self.agents.in_namespace(namespace):
            yield agent_key(namespace, agent["metadata"]["name"])

    def exits(self, agent: Object) -> tuple[Exit, ...]:
        """Returns how the containers of an agent ended: of pods that are there, and of departed ones.

        A departed pod's are given until the agent's status tells of them. Read from the cache alone, where the
        messages are redacted.
        """
        data = agent["metadata"]
        there = self.pods.by_index((data["namespace"], data["uid"]))
        return (*self._departed.of(agent), *(one for pod in there for one in exits.of_pod(pod)))

    def _children(self, client: Client, resource: resources.Resource) -> Informer:
        return Informer(client, resource, label_selector=MANAGED, on_change=self._child_changed)

    def _child_changed(self, old: Object | None, new: Object | None) -> None:
        concerned = {key for key in (_owner_key(old), _owner_key(new)) if key is not None}
        for key in concerned:
            self._notify(key)

    def _pod_changed(self, old: Object | None, new: Object | None) -> None:
        if old is not None and new is not None and _telling(old) == _telling(new):
            return
        # The marks of a pod cannot be edited, unlike its labels: they say whose it is.
        marks = pods.agent_of(new or old or {})
        if marks is None:
            return
        key = agent_key((new or old or {})["metadata"]["namespace"], marks.name)
        self._remember(old, new)
        if new is None and old is not None and not pods.is_being_deleted(old):
            # Out of our sight without having been told to end: its labels may have been taken off.
            self._suspect(key)
        if isolation.is_lost(new or old or {}):
            self._alarm(key)
        self._notify(key)

    def _remember(self, old: Object | None, new: Object | None) -> None:
        """Keeps how a pod ended that is gone, or that another of its name has replaced."""
        if old is None or (new is not None and new["metadata"]["uid"] == old["metadata"]["uid"]):
            return
        marks = pods.agent_of(old)
        if marks is not None:
            self._departed.remember(old, agent_uid=marks.uid)

    def _default_account_changed(self, old: Object | None, new: Object | None) -> None:
        known = new or old
        if known is None or (old or {}).get("imagePullSecrets") == (new or {}).get("imagePullSecrets"):
            return
        for key in self.agents_of(known["metadata"]["namespace"]):
            self._notify(key)


def _owner_key(obj: Object | None) -> Key | None:
    if obj is None:
        return None
    name = meta.labels_of(obj).get(meta.AGENT_LABEL)
    return agent_key(obj["metadata"]["namespace"], name) if name else None


def _marked(pod: Object) -> tuple[str, str] | None:
    marks = pods.agent_of(pod)
    return (pod["metadata"]["namespace"], marks.uid) if marks else None


def _telling(pod: Object) -> object:
    """What of a pod a decision turns on: not its heartbeat times."""
    metadata, status = pod["metadata"], pod["status"]
    return (
        metadata["uid"],
        metadata.get("deletionTimestamp"),
        metadata.get("labels"),
        metadata.get("ownerReferences"),
        pod["spec"].get("nodeName"),
        status.get("phase"),
        [(one.get("type"), one.get("status"), one.get("reason")) for one in status.get("conditions") or ()],
        pods.trouble(pod),
        exits.telling(pod),
        isolation.telling(pod),
    )


def _pull_secrets_only(account: Object) -> Object:
    kept = ("name", "namespace", "uid", "resourceVersion")
    return {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": {key: account["metadata"][key] for key in kept},
        "imagePullSecrets": account.get("imagePullSecrets") or [],
    }
