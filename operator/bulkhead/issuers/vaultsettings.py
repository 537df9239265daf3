"""What an issuer of type `vault` is configured with."""

from __future__ import annotations

import ipaddress
import re
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

_PATH = re.compile(r"[A-Za-z0-9._-]+(/[A-Za-z0-9._-]+)*")


def is_path(text: str) -> bool:
    """Says whether a text is a path of Vault's that means what it says: plain segments, none of them `.` or `..`."""
    return _PATH.fullmatch(text) is not None and not {".", ".."} & set(text.split("/"))


def _path(value: str) -> str:
    if not is_path(value):
        raise ValueError("accepted are segments of letters, digits, dots, dashes and underscores, joined by /")
    return value


def _address(value: str) -> str:
    try:
        parts = urlsplit(value)
        _ = parts.port
    except ValueError:
        raise ValueError("accepted is https://HOST:PORT") from None
    beside = parts.username or parts.password or parts.path.strip("/") or parts.query or parts.fragment
    if parts.scheme not in ("http", "https") or not parts.hostname or beside:
        raise ValueError("accepted is https://HOST:PORT")
    if parts.scheme == "http" and not _is_loopback(str(parts.hostname)):
        raise ValueError("http:// would show tokens and credentials to the network; accepted is https://HOST:PORT")
    return value.rstrip("/")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class VaultSettings(BaseModel):
    """Settings of one Vault or OpenBao.

    Attributes:
        address: `https://HOST:PORT`; plain `http` to loopback only, for a proxy in the operator's own pod.
        namespace: of Vault Enterprise or OpenBao; empty for none.
        auth_mount: where the kubernetes auth method is mounted, below auth/.
        role: the role of that method that the operator logs in to.
        token_file: the operator's own projected token, whose audience the role names.
        ca_file: PEM bundle that Vault's certificate is verified with; the system's by default.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, alias_generator=to_camel)

    address: Annotated[str, AfterValidator(_address), Field(max_length=512)]
    namespace: Annotated[str, AfterValidator(_path), Field(max_length=256)] = ""
    auth_mount: Annotated[str, AfterValidator(_path), Field(max_length=256)] = "kubernetes"
    role: Annotated[str, Field(min_length=1, max_length=256, pattern=r"^[A-Za-z0-9._-]+$")]
    token_file: Path
    ca_file: Path | None = None
