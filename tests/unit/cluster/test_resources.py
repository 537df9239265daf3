"""Where objects live."""

from __future__ import annotations

import pytest

from bulkhead.cluster.resources import AGENTS, CLAIMS, KNOWN, NAMESPACES, PODS, Resource, resource_of, version_of


@pytest.mark.parametrize(
    ("resource", "arguments", "path"),
    [
        (PODS, {}, "/api/v1/pods"),
        (PODS, {"namespace": "a"}, "/api/v1/namespaces/a/pods"),
        (PODS, {"namespace": "a", "name": "b"}, "/api/v1/namespaces/a/pods/b"),
        (NAMESPACES, {"name": "a"}, "/api/v1/namespaces/a"),
        (
            AGENTS,
            {"namespace": "a", "name": "b", "subresource": "status"},
            "/apis/bulkhead.dev/v1alpha1/namespaces/a/agentdeployments/b/status",
        ),
        (PODS, {"namespace": "a/../b", "name": "c?d"}, "/api/v1/namespaces/a%2F..%2Fb/pods/c%3Fd"),
    ],
)
def test_a_path_addresses_exactly_what_was_named(resource: Resource, arguments: dict[str, str], path: str) -> None:
    assert resource.path(**arguments) == path


@pytest.mark.parametrize(
    ("resource", "arguments"),
    [
        (NAMESPACES, {"namespace": "a", "name": "b"}),
        (PODS, {"name": "b"}),
        (PODS, {"namespace": "a", "name": ""}),
        (PODS, {"namespace": "", "name": "b"}),
        (PODS, {"namespace": ""}),
        (PODS, {"namespace": "a", "subresource": "status"}),
    ],
    ids=[
        "namespace of a cluster-scoped kind",
        "name without namespace",
        "empty name",
        "empty namespace",
        "empty namespace of a collection",
        "subresource of a collection",
    ],
)
def test_what_would_address_something_else_is_refused(resource: Resource, arguments: dict[str, str]) -> None:
    with pytest.raises(ValueError, match=resource.kind):
        resource.path(**arguments)


@pytest.mark.parametrize("resource", KNOWN, ids=str)
def test_every_known_kind_is_found_by_its_objects_head(resource: Resource) -> None:
    assert resource_of({"apiVersion": resource.api_version, "kind": resource.kind}) is resource


def test_an_unknown_kind_is_refused_by_name() -> None:
    with pytest.raises(LookupError, match=r"'Job'.*PersistentVolumeClaim"):
        resource_of({"apiVersion": "v1", "kind": "Job"})
    with pytest.raises(LookupError):
        resource_of({"kind": CLAIMS.kind})


def test_versions_compare_as_numbers() -> None:
    versions = [version_of({"metadata": {"resourceVersion": text}}) for text in ("9", "10", "100")]
    assert versions == sorted(versions)
