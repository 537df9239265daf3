"""Debian's Prometheus and Alertmanager on loopback, and what Prometheus scrapes; gone with the tests."""

from __future__ import annotations

import contextlib
import http.server
import json
import shutil
import signal
import ssl
import subprocess
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from devcluster import monitoring
from devcluster.pki import KeyPair
from devcluster.ports import PortReservation
from devcluster.progress import Progress
from tests.machine import halt

T = TypeVar("T")

SCRAPE = "200ms"
READY_SECONDS = 60.0


class Exporter:
    """Serves metrics in Prometheus' text format; what they are can be changed while it serves."""

    def __init__(self) -> None:
        self.text = ""
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = outer.text.encode()
                self.send_response(200)
                self.send_header("Content-Type", "text/plain; version=0.0.4")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                    self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                """Write nothing: pytest would show it."""

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))

    def __enter__(self) -> Exporter:
        """Begin to serve."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def show(self, metric: str, values: Mapping[tuple[str, str], float | str]) -> None:
        """Serve one metric with a value for each agent, beside no other."""
        self.text = "".join(
            f'{metric}{{namespace="{namespace}",agent="{agent}"}} {value}\n'
            for (namespace, agent), value in values.items()
        )


@dataclass
class Server:
    """A running Prometheus or Alertmanager.

    Attributes:
        url: of it.
        process: it.
        log: the file it logs to.
    """

    url: str
    process: subprocess.Popen[bytes]
    log: Path

    def get(self, path: str) -> Any:
        """The answer to a GET, as JSON."""
        with urllib.request.urlopen(self.url + path, timeout=10) as answer:  # noqa: S310 (http)
            return json.load(answer)

    def post(self, path: str, content: Any) -> None:
        """Send JSON."""
        headers = {"Content-Type": "application/json"}
        body = json.dumps(content).encode()
        request = urllib.request.Request(self.url + path, data=body, headers=headers)  # noqa: S310 (http)
        urllib.request.urlopen(request, timeout=10).close()  # noqa: S310 (http)

    @contextlib.contextmanager
    def halted(self) -> Iterator[None]:
        """Let it stand still: connections are taken in by the kernel, and nothing answers."""
        try:
            halt(self.process.pid)
            yield
        finally:
            self.process.send_signal(signal.SIGCONT)


def wait_until(holds: Callable[[], T], what: str, *, seconds: float = READY_SECONDS) -> T:
    """Poll a condition; give what it gave when it held."""
    deadline = time.monotonic() + seconds
    while not (found := holds()):
        assert time.monotonic() < deadline, f"not within {seconds:g} s: {what}"
        time.sleep(0.02)
    return found


def when_scraped(server: Server, metric: str, *, series: int) -> datetime:
    """Wait until Prometheus has so many series of a metric, all of one scrape; give the time of that.

    Evaluated for that time, a query gives the same whenever it is asked. Evaluated for now it may give nothing: a
    scrape that takes longer than `SCRAPE`, as now and then on a busy machine, ends all series until the next.
    """

    def times() -> set[str]:
        found = server.get(f"/api/v1/query?query=timestamp({metric})")["data"]["result"]
        different = {str(one["value"][1]) for one in found}
        return different if len(found) == series and len(different) == 1 else set()

    (time_of_it,) = wait_until(times, f"{metric} is scraped")
    return datetime.fromtimestamp(float(time_of_it), UTC)


@contextlib.contextmanager
def prometheus(
    targets: Mapping[str, str],
    *,
    rules: str = "",
    alertmanager: str = "",
    scrape: Sequence[Mapping[str, Any]] = (),
    serving: KeyPair | None = None,
) -> Iterator[Server]:
    """A Prometheus that scrapes `targets` (addresses) at the given intervals.

    Args:
        targets: address to how often.
        rules: a file of rules, evaluated as often as is scraped.
        alertmanager: address of the one that it tells.
        scrape: what else it scrapes, as its configuration has it.
        serving: its certificate; without one it speaks no TLS.
    """
    config: dict[str, Any] = {
        "global": {"evaluation_interval": SCRAPE, "scrape_timeout": SCRAPE, "scrape_interval": SCRAPE},
        "rule_files": ["rules.yml"],
        "scrape_configs": [
            {
                "job_name": f"job{number}",
                "scrape_interval": interval,
                "scrape_timeout": interval,
                "static_configs": [{"targets": [address]}],
            }
            for number, (address, interval) in enumerate(targets.items())
        ]
        + [dict(one) for one in scrape],
        "alerting": {"alertmanagers": [{"static_configs": [{"targets": [alertmanager]}]}] if alertmanager else []},
    }
    program = monitoring.programs(progress=Progress()).prometheus
    with _folder() as folder, _port() as chosen:
        (folder / "prometheus.yml").write_text(json.dumps(config))
        (folder / "rules.yml").write_text(rules or "groups: []")
        command: list[str | Path] = [
            program,
            "--config.file=prometheus.yml",
            "--storage.tsdb.path=data",
            f"--web.listen-address=127.0.0.1:{chosen}",
            "--query.max-samples=500000000",
        ]
        if serving is not None:
            tls = {"cert_file": str(serving.certificate), "key_file": str(serving.key)}
            (folder / "web.yml").write_text(json.dumps({"tls_server_config": tls}))
            command.append("--web.config.file=web.yml")
        with _running(command, folder, f"{'https' if serving else 'http'}://127.0.0.1:{chosen}") as server:
            yield server


@contextlib.contextmanager
def alertmanager(config: Mapping[str, Any]) -> Iterator[Server]:
    """An Alertmanager by itself."""
    with _folder() as folder, _port() as chosen:
        (folder / "alertmanager.yml").write_text(json.dumps(config))
        command: list[str | Path] = [
            *monitoring.programs(progress=Progress()).alertmanager,
            f"--config.file={folder / 'alertmanager.yml'}",
            f"--storage.path={folder / 'data'}",
            f"--web.listen-address=127.0.0.1:{chosen}",
            "--cluster.listen-address=",
        ]
        with _running(command, folder, f"http://127.0.0.1:{chosen}") as server:
            yield server


@contextlib.contextmanager
def _running(command: Sequence[str | Path], folder: Path, url: str) -> Iterator[Server]:
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            ["/usr/bin/setpriv", "--pdeathsig=KILL", *command],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    server = Server(url, process, folder / "log")
    try:
        wait_until(lambda: _ready(server), f"{url} is ready; {server.log.read_text()[-2000:]}")
        yield server
    finally:
        process.kill()  # its data dies with it, and to end by itself it takes seconds
        process.wait(timeout=30)


def _ready(server: Server) -> bool:
    assert server.process.poll() is None, server.log.read_text()[-2000:]
    try:
        with urllib.request.urlopen(f"{server.url}/-/ready", timeout=1) as answer:  # noqa: S310 (http)
            return bool(answer.status == 200)
    except urllib.error.URLError as error:
        # It shows a certificate that nobody here vouches for, so it is there.
        return isinstance(error.reason, ssl.SSLCertVerificationError)
    except OSError:
        return False


@contextlib.contextmanager
def _folder() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="bulkhead-signals-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


@contextlib.contextmanager
def _port() -> Iterator[int]:
    with PortReservation() as ports:
        yield ports.take()
