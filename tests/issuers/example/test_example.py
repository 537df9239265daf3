"""The worked example of a third party's issuer: it is built, installed and used as its documentation says."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from devcluster.pki import Authority
from tests import leaks
from tests.issuers.example.gateway import Gateway, running

REPOSITORY = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which pip has installed the example, from its source alone."""
    source, target = tmp_path_factory.mktemp("source") / "issuer", tmp_path_factory.mktemp("target")
    shutil.copytree(REPOSITORY / "examples" / "issuer", source)  # a build writes beside its sources
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", f"--target={target}"]
    command += ["--no-index", "--no-deps", "--no-build-isolation", str(source)]
    subprocess.run(command, check=True)
    return target


def run(installed: Path, folder: Path, gateway: Gateway, authority: Authority, **settings: Any) -> Any:
    """Runs an operator's part with the example; gives what it printed, or its complaint."""
    (folder / "token").write_text(f"{gateway.token}\n")
    chosen = {"url": f"https://localhost:{gateway.port}", "tokenFile": str(folder / "token"), **settings}
    file = folder / "issuers.yaml"
    file.write_text(yaml.safe_dump({"issuers": [{"name": "models", "type": "gateway", "settings": chosen}]}))
    program = Path(__file__).with_name("program.py")
    paths = [str(installed), str(REPOSITORY / "operator")]
    environment = {"PYTHONPATH": os.pathsep.join(paths), "SSL_CERT_FILE": str(authority.files.certificate)}
    finished = subprocess.run(
        [sys.executable, program, file], env=environment, capture_output=True, text=True, check=False
    )
    leaks.note("the output of the worked example", finished.stdout + finished.stderr)
    return json.loads(finished.stdout) if finished.returncode == 0 else finished.stderr


def test_a_package_of_a_third_party_serves_leases(installed: Path, tmp_path: Path) -> None:
    authority = Authority(tmp_path, "ca")
    with running(authority.server("gateway", ["localhost"])) as gateway:
        leaks.learn("the token of the example's gateway", gateway.token)
        seen = run(installed, tmp_path, gateway, authority)
        for key in gateway.issued:
            leaks.learn("a key of the example's gateway", key)
    assert seen == {
        "types": {"models": "gateway"},
        "describes": f"the gateway at https://localhost:{gateway.port}",
        "external": True,
        "handle": {"name": "bulkhead-test1234-abcdefabcdef"},
        "files": ["key", "url"],
        "repr": seen["repr"],
        "digest": hashlib.sha256(gateway.issued[0].encode()).hexdigest(),
        "renewed": True,
        "outstanding": [{"name": "bulkhead-test1234-abcdefabcdef"}],
        "left": 0,
        "errors": [
            [
                "Refused",
                "issuer models: the parameter model is missing; accepted is the name of a model of the gateway",
            ],
            ["Refused", "issuer models: the gateway has no model secret-project for the operator"],
            ["Unavailable", "issuer models: the gateway answered with HTTP status 500"],
        ],
    }
    assert gateway.keys == {}
    assert not any(key in seen["repr"] for key in gateway.issued)


def test_settings_that_the_example_refuses_end_the_start_with_its_words(installed: Path, tmp_path: Path) -> None:
    authority = Authority(tmp_path, "ca")
    with running(authority.server("gateway", ["localhost"])) as gateway:
        complaint = run(installed, tmp_path, gateway, authority, url="http://localhost")
    assert "issuers[0].settings: issuer models of type gateway could not be made of them: accepted are url" in complaint


def test_what_the_documentation_shows_is_the_example() -> None:
    shown = re.findall(r"```(?:python|toml)\n(.*?)```", (REPOSITORY / "docs" / "issuers.md").read_text(), re.DOTALL)
    sources = [path.read_text() for path in (REPOSITORY / "examples" / "issuer").rglob("*") if path.is_file()]
    assert len(shown) >= 3
    for excerpt in shown:
        assert any(excerpt in source for source in sources), excerpt
