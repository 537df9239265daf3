"""Access from a kubeconfig file: outside of a cluster, for development and tests.

The `kubernetes` package reads it, with credential plugins, token files and embedded data. It is imported only when a
file is read, and the image does without it: its client alone, which comes with any part of it, is 22 MB.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from yaml import YAMLError

from bulkhead.cluster.access import Access
from bulkhead.cluster.errors import NotConfigured

if TYPE_CHECKING:
    from kubernetes.aio.config.kube_config import KubeConfigLoader

HOME_CONFIG = str(Path.home() / ".kube" / "config")
"""Where it is when nobody says where."""


class Kubeconfig:
    """A kubeconfig file, or several as `KUBECONFIG` names them."""

    def __init__(self, *, path: str, context: str | None) -> None:
        """Keeps where to look; nothing is read yet."""
        self._path, self._context = path, context
        self._loader: KubeConfigLoader | None = None

    async def load(self) -> Access:
        """Reads the file, and runs the credential plugin that it may name.

        Raises:
            NotConfigured: there is none, it cannot be used, or what reads it is not installed.
        """
        if not self._present():
            raise NotConfigured(
                f"no kubeconfig at {self._path}: give one, set KUBECONFIG, or run in a pod with a service account token"
            )
        self._loader = None
        return await self._read()

    async def refresh(self) -> Access:
        """Reads token files again, and runs a plugin again only when what it gave is about to expire.

        Raises:
            NotConfigured: that cannot be done.
        """
        return await self._read()

    def _present(self) -> bool:
        return any(Path(part).expanduser().is_file() for part in self._path.split(os.pathsep) if part)

    async def _read(self) -> Access:
        try:
            from kubernetes.aio.client.configuration import Configuration
            from kubernetes.aio.config import ConfigException
            from kubernetes.aio.config.kube_config import load_kube_config
        except ImportError as error:
            raise NotConfigured(
                "kubeconfig files need the package `kubernetes`, which is not installed: "
                "pip install 'bulkhead[kubeconfig]'"
            ) from error
        configuration = Configuration()
        try:
            if self._loader is None:
                self._loader = await load_kube_config(  # type: ignore[no-untyped-call]
                    config_file=self._path,
                    context=self._context,
                    client_configuration=configuration,
                    persist_config=False,
                )
            else:
                await self._loader.load_and_set(configuration)  # type: ignore[no-untyped-call]
        # What it raises on a file that makes no sense; AttributeError and TypeError where it expected a mapping.
        except (ConfigException, YAMLError, OSError, ValueError, LookupError, TypeError, AttributeError) as error:
            raise NotConfigured(f"the kubeconfig cannot be used: {type(error).__name__}: {error}") from error
        return Access(
            server=str(configuration.host).rstrip("/"),
            ca_file=configuration.ssl_ca_cert,
            insecure=not configuration.verify_ssl,
            certificate_file=configuration.cert_file,
            key_file=configuration.key_file,
            proxy=configuration.proxy,
            tls_server_name=configuration.tls_server_name,
            authorization=_header(configuration.api_key.get("BearerToken")),
        )


def _header(value: str | None) -> str | None:
    """Gives the Authorization header that the loader's value stands for: a scheme and what was in a file, or pasted."""
    if not value:
        return None
    scheme, _, token = value.strip().partition(" ")
    return f"{scheme.capitalize()} {token.strip()}"
