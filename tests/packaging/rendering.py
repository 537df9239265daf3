"""Rendered manifests as tests look at them."""

from __future__ import annotations

import json
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from manifests.render import ROOT, template

Manifest = dict[str, Any]

CHART = ROOT / "charts" / "bulkhead"
EXAMPLES = ROOT / "manifests" / "examples"
DEMO = ROOT / "demo"


# The same values give the same text as long as nobody edits the chart, which no test does.
_template = cache(template)


def load(text: str) -> list[Manifest]:
    """The objects of a YAML stream, empty documents left out."""
    # The parser written in C: the other takes more than half a second for the chart.
    return [document for document in yaml.load_all(text, Loader=yaml.CSafeLoader) if document]


def render(helm: Path, values: Manifest | None = None, **release: str) -> list[Manifest]:
    """The chart's objects for these values. Each top-level value goes in as JSON, so that its type is the one given."""
    arguments = [part for key, value in (values or {}).items() for part in ("--set-json", f"{key}={json.dumps(value)}")]
    return load(_template(helm, *arguments, **release))


def of_kind(objects: Iterable[Manifest], kind: str) -> list[Manifest]:
    """Those of one kind."""
    return [item for item in objects if item["kind"] == kind]


def the(objects: Iterable[Manifest], kind: str, name: str | None = None) -> Manifest:
    """The one object of a kind, and of a name where several have it."""
    (found,) = [item for item in of_kind(objects, kind) if name in (None, item["metadata"]["name"])]
    return found


def name_of(item: Manifest) -> str:
    """Kind and name, as findings and exceptions write them."""
    return f"{item['kind']}/{item['metadata']['name']}"


def mounted(pod_spec: Manifest) -> dict[str, tuple[Manifest, Any]]:
    """What is mounted in the operator's pod, by its path, with the part of it."""
    volumes = {one["name"]: one for one in pod_spec["volumes"]}
    (container,) = pod_spec["containers"]
    assert all(one["readOnly"] for one in container["volumeMounts"] if one["name"] != "tmp")
    return {one["mountPath"]: (volumes[one["name"]], one.get("subPath")) for one in container["volumeMounts"]}
