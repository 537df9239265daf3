"""The rules that are delivered and the pages' examples, given to the programs they are for."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from bulkhead.api.sandboxpolicy import parse_policy
from bulkhead.signals import settings
from devcluster import discovery, monitoring, monitoringpods
from devcluster.progress import Progress
from tests.signals import servers
from tests.signals.servers import Exporter, wait_until

ROOT = Path(__file__).parents[2]
RULES = ROOT / "manifests" / "rules" / "agents.yaml"
PAGE = (ROOT / "docs" / "signals.md").read_text(encoding="utf-8")


def blocks() -> list[str]:
    """The YAML of the page: the file of signals, a policy, scraping, Alertmanager's."""
    return re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)


def run(program: Path, *arguments: str | Path, cwd: Path) -> None:
    finished = subprocess.run([program, *arguments], cwd=cwd, capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stdout + finished.stderr


@pytest.fixture(scope="module")
def programs() -> monitoring.Programs:
    return monitoring.programs(progress=Progress())


def test_the_rules_do_what_the_page_says(programs: monitoring.Programs, tmp_path: Path) -> None:
    shutil.copy(RULES, tmp_path)
    shutil.copy(Path(__file__).with_name("rules_test.yaml"), tmp_path)
    run(programs.promtool, "check", "rules", "--lint-fatal", "agents.yaml", cwd=tmp_path)
    run(programs.promtool, "test", "rules", "rules_test.yaml", cwd=tmp_path)


def test_a_prometheus_loads_the_rules() -> None:
    with servers.prometheus({}, rules=RULES.read_text()) as server:
        groups = server.get("/api/v1/rules")["data"]["groups"]
    written = yaml.safe_load(RULES.read_text())["groups"]
    assert {group["name"]: len(group["rules"]) for group in groups} == {
        group["name"]: len(group["rules"]) for group in written
    }


def test_the_pages_file_of_signals_is_one(tmp_path: Path) -> None:
    file = tmp_path / "signals.yaml"
    file.write_text(blocks()[0])
    found = settings.read(file)
    assert found.prometheus is not None and found.alertmanager is not None
    assert len(found.notifications) == 1


def test_the_pages_policy_is_one_and_asks_for_what_the_rules_record() -> None:
    policy = yaml.safe_load(blocks()[1])
    spec = parse_policy(policy["spec"], name=policy["metadata"]["name"])
    assert spec.circuit_breaker is not None
    asked = re.findall(r"agent:\w+:\w+", json.dumps(policy["spec"]["circuitBreaker"]["queries"]))
    rules = [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]
    assert set(asked) <= {rule.get("record") for rule in rules}
    assert policy["spec"]["circuitBreaker"]["alerts"]["names"] == [rule["alert"] for rule in rules if "alert" in rule]


def test_the_pages_scraping_is_what_labels_the_development_clusters_agents() -> None:
    (page,) = yaml.safe_load(blocks()[2])["scrape_configs"]
    assert page.pop("kubernetes_sd_configs") == [{"role": "pod"}]
    own = monitoringpods.scraping("/data/targets.json")
    assert own.pop("file_sd_configs") == [{"files": ["/data/targets.json"]}]
    assert page == own


def pod(name: str, address: str | None, port: int, **labels: str) -> dict[str, Any]:
    """A pod with one port for metrics and one for calls."""
    ports = [{"name": "metrics", "containerPort": port}, {"name": "calls", "containerPort": 1}, {"containerPort": 2}]
    return {
        "metadata": {"name": name, "namespace": "research", "labels": labels},
        "spec": {"containers": [{"ports": ports}, {}]},
        "status": {"podIP": address} if address else {},
    }


def test_an_agent_that_says_it_is_another_is_not_taken_for_it(tmp_path: Path) -> None:
    targets = tmp_path / "targets.json"
    with Exporter() as exporter:
        exporter.text = 'calls{namespace="ops",agent="somebody-else",tool="web"} 7\n'
        port = int(exporter.address.rpartition(":")[2])
        pods = [
            pod("liar-0", "127.0.0.1", port, **{"bulkhead.dev/agent": "liar"}),
            pod("pending-0", None, port, **{"bulkhead.dev/agent": "pending"}),
            pod("stranger", "127.0.0.1", port),
        ]
        targets.write_text(json.dumps(discovery.targets(pods)))
        with servers.prometheus({}, scrape=[monitoringpods.scraping(str(targets))]) as server:
            # What was seen then: asked again, there may be nothing, where a scrape took too long meanwhile.
            found = wait_until(lambda: server.get("/api/v1/query?query=calls")["data"]["result"], "it has scraped")
            series = [one["metric"] for one in found]
            up = server.get("/api/v1/query?query=up")["data"]["result"]
    assert [(one["namespace"], one["agent"], one["exported_agent"]) for one in series] == [
        ("research", "liar", "somebody-else")
    ]
    assert len(up) == 1


def test_the_pages_routes_are_alertmanagers(programs: monitoring.Programs, tmp_path: Path) -> None:
    config: dict[str, Any] = yaml.safe_load(blocks()[3])
    (hook,) = config["receivers"][1]["webhook_configs"]
    hook["http_config"]["authorization"]["credentials_file"] = str(tmp_path / "token")
    (tmp_path / "token").write_text("x")
    (tmp_path / "alertmanager.yml").write_text(json.dumps(config))
    run(programs.files / "usr/bin/amtool", "check-config", "alertmanager.yml", cwd=tmp_path)


def test_the_development_clusters_own_files_are_what_the_programs_read(
    programs: monitoring.Programs, tmp_path: Path
) -> None:
    made = monitoringpods.manifests(token="a-token", webhook="http://10.96.0.1:8083/alerts", rules=RULES.read_text())
    files: dict[str, str] = {}
    for one in made:
        files |= one.get("data", {}) | one.get("stringData", {})
    for name, text in files.items():
        (tmp_path / name).write_text(text.replace("/etc/prometheus/", f"{tmp_path}/"))
    run(programs.promtool, "check", "config", "--syntax-only", "prometheus.yml", cwd=tmp_path)
    run(programs.promtool, "check", "rules", "rules.yml", cwd=tmp_path)
    run(programs.files / "usr/bin/amtool", "check-config", "alertmanager.yml", cwd=tmp_path)
