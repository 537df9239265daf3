"""JSON logs: one object a line, with the agent's name where a line is about one."""

from __future__ import annotations

import logging
import sys
from typing import Any

from pythonjsonlogger.json import JsonFormatter

QUIET = {
    # kopf logs one line for every event it handles, and its own view of an object's fields.
    "kopf.objects": logging.WARNING,
    "kopf": logging.WARNING,
    "aiohttp.access": logging.WARNING,
    "asyncio": logging.WARNING,
}


def configure(level: str) -> None:
    """Sends everything to standard output as JSON lines.

    Args:
        level: the name of the lowest level of ours that is shown, such as `info`.
    """
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(
        JsonFormatter(
            "{asctime}{levelname}{name}{message}",
            style="{",
            rename_fields={"asctime": "time", "levelname": "level", "name": "logger"},
            datefmt="%Y-%m-%dT%H:%M:%S%z",
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for name, least in QUIET.items():
        logging.getLogger(name).setLevel(max(least, root.level))


def about(agent: dict[str, Any]) -> dict[str, Any]:
    """Returns the `extra` of a log line about an agent: who it is and whose."""
    metadata, spec = agent.get("metadata") or {}, agent.get("spec")
    spec = spec if isinstance(spec, dict) else {}
    return {
        "namespace": metadata.get("namespace"),
        "agent": metadata.get("name"),
        "uid": metadata.get("uid"),
        "tenant": spec.get("tenant"),
        "workflow": spec.get("workflow") or metadata.get("name"),
    }
