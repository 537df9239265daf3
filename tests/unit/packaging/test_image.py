"""What the operator's image holds: the packages of `requirements.lock`, and so without `kubernetes`."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from devcluster.pki import Authority

ROOT = Path(__file__).parents[3]

IN_A_POD = """
import asyncio, importlib, pkgutil, sys

sys.modules["kubernetes"] = None  # as where it is not installed
import bulkhead.main
from bulkhead.cluster.client import Client
from bulkhead.cluster.connection import Connection

for module in pkgutil.walk_packages(bulkhead.__path__, "bulkhead."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)

async def connect():
    connection = await Connection.load(token_file=sys.argv[1], ca_file=sys.argv[2])
    async with Client(connection):
        print(connection.server, await connection.authorization())

asyncio.run(connect())
"""


def test_the_images_packages_are_without_the_kubernetes_package_and_what_comes_with_it() -> None:
    """It costs 22 MB resident: kopf imports its client wherever it is installed."""
    names = set(re.findall(r"^([\w.-]+)==", (ROOT / "requirements.lock").read_text(), re.MULTILINE))
    assert {"aiohttp", "kopf", "pydantic"} <= names
    assert not names & {"kubernetes", "kubernetes-asyncio", "pykube-ng", "requests", "urllib3"}


def test_without_the_kubernetes_package_every_module_is_imported_and_a_pods_service_account_is_read(
    tmp_path: Path,
) -> None:
    token = tmp_path / "token"
    token.write_text("of-a-pod")
    ca = Authority(tmp_path, "ca").files.certificate
    environment = {name: value for name, value in os.environ.items() if name != "KUBECONFIG"}
    environment |= {
        "PYTHONPATH": str(ROOT / "operator"),
        "KUBERNETES_SERVICE_HOST": "10.96.0.1",
        "KUBERNETES_SERVICE_PORT": "443",
    }
    ran = subprocess.run(
        [sys.executable, "-c", IN_A_POD, token, ca], env=environment, capture_output=True, text=True, timeout=120
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout == "https://10.96.0.1:443 Bearer of-a-pod\n"
