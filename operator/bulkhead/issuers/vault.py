"""Leases of Vault's and OpenBao's dynamic secrets engines.

Each lease has a login of its own (the kubernetes auth method, by a token of the operator's service account), and that
login's token never leaves this module. Its accessor is the handle: Vault revokes whatever was issued under a token with
that token, and an accessor cannot be used for anything else. So a crash at any moment leaves something that can be
revoked, and what nobody revokes ends with the token, whose life is cut to that of the credential.

See https://developer.hashicorp.com/vault/docs/concepts/lease and, for the requests,
https://developer.hashicorp.com/vault/api-docs/system/leases and .../auth/token.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from bulkhead.issuers import vaultapi
from bulkhead.issuers.base import Credential, Handle, IssuerError, NotRenewable, Refused, Request, Unavailable
from bulkhead.issuers.vaultapi import Api, Rejected
from bulkhead.issuers.vaultsettings import VaultSettings, is_path

ACCESSOR = "accessor"
LEASE = "lease"

MARGIN = timedelta(seconds=60)
"""How much longer a token lives than the credential issued under it, so that the lease's own end comes first."""

SHORTEST = timedelta(seconds=60)
"""A credential that lives less than what may be asked for at least is of no use: it would be rotated without end."""

SECONDS = 10.0
"""For one request. Who calls has a deadline of its own; this one is for connections that nobody waits for any more."""

_FILE_NAME = re.compile(r"[-._a-zA-Z0-9]{1,253}")
_NO_ENGINES = frozenset({"auth", "cubbyhole", "identity", "sys"})


@dataclass(frozen=True, slots=True)
class _Login:
    """A token of Vault's. Neither printed nor compared by its value."""

    accessor: str
    expires_at: datetime
    token: str = field(repr=False)


class Vault:
    """One Vault, entered in one role of its kubernetes auth method."""

    external = True

    def __init__(self, settings: VaultSettings, *, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._settings = settings
        self._now = now
        self._api = Api(
            address=settings.address, namespace=settings.namespace, ca_file=settings.ca_file, seconds=SECONDS
        )
        # Tokens between `prepare` and `issue`; no file and no record has them.
        self._prepared: dict[str, _Login] = {}
        # The operator's own login, for what is done by handle: the token of a lease is forgotten once it is issued.
        self._own: _Login | None = None
        self._entering = asyncio.Lock()

    def describe(self) -> str:
        """Says which Vault."""
        namespace = f", namespace {self._settings.namespace}" if self._settings.namespace else ""
        return f"Vault at {self._settings.address}{namespace}"

    async def prepare(self, request: Request) -> Handle:
        """Logs in for this one lease. The token may read nothing yet that lives, and its life is cut here."""
        _checked_path(request.source)
        login = await self._log_in()
        login = await self._fit(login, timedelta(seconds=request.ttl_seconds) + MARGIN)
        now = self._now()
        for accessor in [one.accessor for one in self._prepared.values() if one.expires_at <= now]:
            del self._prepared[accessor]
        self._prepared[login.accessor] = login
        return {ACCESSOR: login.accessor}

    async def issue(self, request: Request, handle: Handle) -> Credential:
        """Reads the path with the lease's own token, and cuts the lease to what was asked for."""
        path = _checked_path(request.source)
        login = self._prepared.pop(handle.get(ACCESSOR, ""), None)
        if login is None:
            raise IssuerError("the login of this lease is not known here any more; a new one has to be prepared")
        asked_at = self._now()
        try:
            answer = await self._api.call("GET", path, token=login.token)
        except Rejected as rejected:
            raise self._read_refused(path, rejected) from None
        lease, lives = _lease(path, answer)
        values = _values(path, answer)
        expires_at = await self._cut(answer, login, asked_at + lives, request.ttl_seconds)
        if expires_at - asked_at < SHORTEST:
            raise Refused(
                f"what {path} gives lives {(expires_at - asked_at).total_seconds():.0f} s: accepted is at least "
                f"{SHORTEST.total_seconds():.0f} s; see max_ttl of the engine's role and token_max_ttl of "
                f"{self._role()}"
            )
        return Credential(
            values=values,
            expires_at=expires_at,
            handle={**handle, LEASE: lease},
            description=f"lease {lease} of {self.describe()}",
        )

    async def renew(self, handle: Handle, *, until: datetime) -> datetime:
        """Extends the token, without which its lease would end, and then the lease."""
        accessor, lease = handle.get(ACCESSOR), handle.get(LEASE)
        if not accessor or not lease:
            raise NotRenewable("nothing was issued under this handle")
        asked_at = self._now()
        seconds = math.ceil((until - asked_at).total_seconds())
        longer = seconds + math.ceil(MARGIN.total_seconds())
        token = await self._extend("POST", "auth/token/renew-accessor", {"accessor": accessor, "increment": longer})
        renewed = await self._extend("PUT", "sys/leases/renew", {"lease_id": lease, "increment": seconds})
        lives = min(_seconds(token.get("auth"), "lease_duration"), _seconds(renewed, "lease_duration"))
        if lives <= 0:
            raise NotRenewable("its longest life is over")
        return asked_at + timedelta(seconds=lives)

    async def revoke(self, handle: Handle) -> None:
        """Revokes the lease and waits for it, then the token with whatever else was issued under it.

        Where the handle has no lease (nobody lived to record it), Vault itself ends what there is as soon as the token
        is gone, and does not tell when: it was in milliseconds wherever this was measured.
        """
        if lease := handle.get(LEASE):
            await self._end("PUT", "sys/leases/revoke", {"lease_id": lease, "sync": True})
        if accessor := handle.get(ACCESSOR):
            await self._end("POST", "auth/token/revoke-accessor", {"accessor": accessor})
            self._prepared.pop(accessor, None)

    async def outstanding(self, installation: str) -> Collection[Handle]:
        """Nothing: Vault lists accessors and leases to administrators only, and does not say whose they are.

        Nothing is lost by that: a login that nobody recorded has no lease, and ends with its short life.
        """
        return ()

    async def close(self) -> None:
        """Gives the operator's own token back and closes the connections."""
        own, self._own = self._own, None
        if own is not None:
            # It expires by itself, and an operator that stops does not wait for Vault to come back.
            with contextlib.suppress(Rejected, Unavailable, TimeoutError):
                async with asyncio.timeout(2.0):
                    await self._api.call("POST", "auth/token/revoke-self", token=own.token)
        await self._api.close()

    async def _log_in(self) -> _Login:
        settings = self._settings
        asked_at = self._now()
        body = {"role": settings.role, "jwt": _token_of(settings.token_file)}
        try:
            answer = await self._api.call("POST", f"auth/{settings.auth_mount}/login", body=body)
        except Rejected as rejected:
            raise self._login_refused(rejected) from None
        return self._login_of(answer, asked_at)

    def _login_of(self, answer: Mapping[str, Any], asked_at: datetime) -> _Login:
        auth = answer.get("auth")
        auth = auth if isinstance(auth, dict) else {}
        token, accessor = auth.get("client_token"), auth.get("accessor")
        if auth.get("token_type") == "batch" or auth.get("num_uses"):
            raise Refused(
                f"{self._role()} gives tokens that cannot be revoked or end after some uses: accepted is token_type "
                "service and token_num_uses 0"
            )
        if not isinstance(token, str) or not token or not isinstance(accessor, str) or not accessor:
            raise Unavailable(f"{self.describe()} answered the login with something that is not Vault's")
        lives = _seconds(auth, "lease_duration")
        return _Login(accessor, asked_at + timedelta(seconds=lives), token)

    async def _fit(self, login: _Login, lives: timedelta) -> _Login:
        """Asks for a token's life to be this long from now: shorter, or longer as far as its role lets."""
        asked_at = self._now()
        body = {"increment": math.ceil(lives.total_seconds())}
        try:
            answer = await self._api.call("POST", "auth/token/renew-self", token=login.token, body=body)
        except Rejected as rejected:
            if rejected.meaning in (vaultapi.DENIED, vaultapi.INVALID_TOKEN):
                raise Refused(self._policy_lacks("auth/token/renew-self", "update")) from None
            raise Refused(
                f"{self._role()} gives tokens that cannot be renewed, so that their life cannot be fitted to a "
                "credential's: accepted is a role whose tokens are renewable, as they are by default"
            ) from None
        lasts = timedelta(seconds=_seconds(answer.get("auth"), "lease_duration"))
        return _Login(login.accessor, asked_at + lasts, login.token)

    async def _cut(self, answer: Mapping[str, Any], login: _Login, ends: datetime, ttl_seconds: int) -> datetime:
        """Shortens a lease to what was asked for; gives when it ends, or its token, with which it ends too."""
        asked_at = self._now()
        if ends > asked_at + timedelta(seconds=ttl_seconds) and answer.get("renewable") is True:
            body = {"lease_id": answer["lease_id"], "increment": ttl_seconds}
            try:
                renewed = await self._api.call("PUT", "sys/leases/renew", token=login.token, body=body)
            except Rejected:
                raise Refused(self._policy_lacks("sys/leases/renew", "update")) from None
            ends = asked_at + timedelta(seconds=_seconds(renewed, "lease_duration"))
        return min(ends, login.expires_at)

    async def _extend(self, method: str, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        try:
            return await self._as_operator(method, path, body)
        except Rejected as rejected:
            if rejected.meaning == vaultapi.DENIED:
                raise Refused(self._policy_lacks(path, "update")) from None
            raise NotRenewable("it has ended, or Vault does not extend it") from None

    async def _end(self, method: str, path: str, body: Mapping[str, Any]) -> None:
        try:
            await self._as_operator(method, path, body)
        except Rejected as rejected:
            if rejected.meaning in (vaultapi.GONE, vaultapi.NOT_FOUND):
                return
            if rejected.meaning == vaultapi.DENIED:
                raise Refused(self._policy_lacks(path, "update")) from None
            # A database that is down answers so, by way of its engine.
            raise Unavailable(f"{self.describe()} could not revoke: HTTP status {rejected.status}") from None

    async def _as_operator(self, method: str, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Sends a request by the operator's own login, entered anew where Vault knows its token no longer.

        Vault says "permission denied" to a token that has ended and to one that may not; one new login tells which.
        """
        own, is_new = await self._enter(instead_of=None)
        try:
            return await self._api.call(method, path, token=own.token, body=body)
        except Rejected as rejected:
            if is_new or rejected.meaning not in (vaultapi.DENIED, vaultapi.INVALID_TOKEN):
                raise
        own, _ = await self._enter(instead_of=own)
        return await self._api.call(method, path, token=own.token, body=body)

    async def _enter(self, *, instead_of: _Login | None) -> tuple[_Login, bool]:
        """Gives the operator's own login and whether it was made just now, by one of those who wait for it."""
        async with self._entering:
            own = self._own
            if own is not None and own is not instead_of and own.expires_at > self._now() + timedelta(seconds=SECONDS):
                return own, False
            self._own = await self._log_in()
            return self._own, True

    def _login_refused(self, rejected: Rejected) -> IssuerError:
        if rejected.meaning == vaultapi.UNKNOWN_ROLE:
            return Refused(f"{self.describe()} has no role {self._settings.role} in auth/{self._settings.auth_mount}")
        # Not for good: Vault says the same when the API server did not answer its token review. And where nothing is
        # mounted.
        return IssuerError(
            f"{self.describe()} does not let the operator in by {self._role()} (HTTP status {rejected.status}): "
            "accepted is a kubernetes auth method mounted there whose role is bound to the operator's service account, "
            "its namespace and the audience of its token, and that can review tokens at this cluster's API server"
        )

    def _read_refused(self, path: str, rejected: Rejected) -> IssuerError:
        match rejected.meaning:
            case vaultapi.DENIED:
                return Refused(self._policy_lacks(path, "read"))
            case vaultapi.INVALID_TOKEN:
                return IssuerError("the login of this lease has ended before it was used; a new one has to be prepared")
            case vaultapi.NO_ROUTE:
                return Refused(f"{self.describe()} has no secrets engine at {path}")
            case vaultapi.NOT_FOUND | vaultapi.UNKNOWN_ROLE:
                return Refused(f"{self.describe()} has nothing at {path}: accepted is a role that its engine has")
            case vaultapi.UNSUPPORTED:
                return Refused(f"{path} cannot be read: accepted is a path that issues on GET, as database/creds/ROLE")
        return Unavailable(f"{self.describe()} could not issue {path}: HTTP status {rejected.status}; see its own log")

    def _policy_lacks(self, path: str, capability: str) -> str:
        return (
            f"{self.describe()} denies the operator {path}: a policy of {self._role()} must have "
            f'path "{path}" {{ capabilities = ["{capability}"] }}'
        )

    def _role(self) -> str:
        return f"role {self._settings.role} of auth/{self._settings.auth_mount}"


def _token_of(file: Path) -> str:
    """Reads the operator's token, each time: the kubelet puts a new one there."""
    try:
        return file.read_text(encoding="ascii").strip()
    except (OSError, ValueError) as error:
        problem = getattr(error, "strerror", None) or "it is no text"
    raise Unavailable(f"tokenFile {file} cannot be read: {problem}")


def _checked_path(source: Mapping[str, Any]) -> str:
    path = str(source.get("path", ""))
    mount, _, below = path.partition("/")
    if not is_path(path) or not below:
        raise Refused("path: accepted are segments of letters, digits, dots, dashes and underscores, joined by /")
    if mount in _NO_ENGINES:
        raise Refused(f"path {path}: {mount}/ is no secrets engine; accepted is such as database/creds/ROLE")
    return path


def _lease(path: str, answer: Mapping[str, Any]) -> tuple[str, timedelta]:
    lease, seconds = answer.get("lease_id"), _seconds(answer, "lease_duration")
    if not isinstance(lease, str) or not lease or seconds <= 0:
        raise Refused(
            f"{path} gives no lease, so that it neither ends nor can be revoked: accepted is a path of a dynamic "
            "secrets engine, such as database/creds/ROLE; what does not change is delivered by a source `secret`"
        )
    return lease, timedelta(seconds=seconds)


def _values(path: str, answer: Mapping[str, Any]) -> dict[str, bytes]:
    data = answer.get("data")
    if not isinstance(data, dict) or not data:
        raise Unavailable(f"what was read from {path} has no data")
    for key in data:
        if not _FILE_NAME.fullmatch(key) or key in (".", ".."):
            raise Refused(f"{path} gives a key that cannot be a file's name: accepted are letters, digits, -, _ and .")
    return {key: (value if isinstance(value, str) else json.dumps(value)).encode() for key, value in data.items()}


def _seconds(answer: Any, key: str) -> int:
    """A number of seconds of an answer; 0 where there is none."""
    value = answer.get(key) if isinstance(answer, dict) else None
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 < value < 1 << 31 else 0
