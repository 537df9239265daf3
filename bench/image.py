"""The operator as a process, with what its image has: the packages of `requirements.lock`, in a pod's surroundings.

The environment that the tests and this benchmark run in has more packages than the image. One that is only installed
counts, too: kopf imports the `kubernetes` package, of 22 MB, wherever it finds it.
"""

from __future__ import annotations

import functools
import hashlib
import os
import subprocess
import sys
import venv
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

from devcluster.kubeconfig import read
from devcluster.locks import locked
from devcluster.paths import cache_dir
from devcluster.progress import Progress
from manifests.render import ROOT
from tests.operator_process import OperatorProcess

LOCK = ROOT / "requirements.lock"
# $0 is the folder with the service account's files; what follows is the command. The mounts are this process's own.
MOUNTED = """
mount -t tmpfs tmpfs /var/run
mkdir -p /var/run/secrets/kubernetes.io/serviceaccount
mount --bind "$0" /var/run/secrets/kubernetes.io/serviceaccount
exec "$@"
"""


class ImageOperator(OperatorProcess):
    """One replica of the operator, started as its image starts it, with a service account for its credentials.

    Args:
        kubeconfig: whose token, address and CA the service account has.
        folder: where its log goes, and the service account's files.
        extra: further arguments.
        packages: folders with what is installed beside it.
    """

    def __init__(
        self, kubeconfig: Path, folder: Path, *, extra: Sequence[str] = (), packages: Sequence[Path] = ()
    ) -> None:
        super().__init__(kubeconfig, folder, extra=extra, packages=packages)
        config = read(kubeconfig)
        self._server = urlsplit(config.server)
        self._account = folder.absolute() / "serviceaccount"
        self._account.mkdir(mode=0o700, exist_ok=True)
        (self._account / "token").write_text(str(config.token), encoding="utf-8")
        (self._account / "ca.crt").write_text(config.authority, encoding="utf-8")
        self._python = python()

    def launcher(self) -> list[str]:
        """Gives the command up to the operator's arguments; its process becomes the operator's."""
        alone = ["unshare", "--mount"] if os.geteuid() == 0 else ["unshare", "--mount", "--map-root-user"]
        return [*alone, "sh", "-ec", MOUNTED, str(self._account), str(self._python), "-P", "-m", "bulkhead.main"]

    def environment(self) -> dict[str, str]:
        """Gives what the kubelet would set, and the rest of this process's own."""
        inherited = {name: value for name, value in super().environment().items() if name != "KUBECONFIG"}
        return inherited | {
            "KUBERNETES_SERVICE_HOST": str(self._server.hostname),
            "KUBERNETES_SERVICE_PORT": str(self._server.port),
        }


@functools.cache
def python() -> Path:
    """Gives a Python with the packages of `requirements.lock` and no others, which is made where there is none yet.

    Raises:
        subprocess.CalledProcessError: the packages cannot be installed.
    """
    digest = hashlib.sha256(LOCK.read_bytes() + sys.version.encode()).hexdigest()[:16]
    folder = cache_dir() / "image-python" / digest
    progress = Progress()
    with locked(folder.with_suffix(".lock"), progress, "another installation of the image's packages"):
        done = folder / ".done"
        if not done.exists():
            with progress.step("the packages of the image are installed"):
                venv.create(folder, clear=True)
                install = ["install", "--quiet", "--disable-pip-version-check", "--require-hashes", "-r", str(LOCK)]
                subprocess.run([sys.executable, "-m", "pip", "--python", str(folder), *install], check=True)
            done.touch()
    return folder / "bin" / "python"
