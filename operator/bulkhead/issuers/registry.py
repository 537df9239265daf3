"""Which issuers there are: the built-in ones, those of third parties, and what credentials ask of which."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

from bulkhead.api.credentials import SECRET_ISSUER, Credential
from bulkhead.issuers import settings
from bulkhead.issuers.base import Issuer, IssuerError, Refused
from bulkhead.issuers.guard import Guarded
from bulkhead.issuers.settings import Configuration, IssuerSettings, SettingsError

ENTRY_POINTS = "bulkhead.issuers"
"""Group of the entry points of third parties. Each is callable with the settings and gives an `Issuer`."""

Make = Callable[[Mapping[str, Any]], Issuer]

_BUILT_IN = {
    "postgres": ("bulkhead.issuers.postgres", "Postgres", "bulkhead.issuers.postgressettings", "PostgresSettings"),
    "vault": ("bulkhead.issuers.vault", "Vault", "bulkhead.issuers.vaultsettings", "VaultSettings"),
}
"""Type to the module and class of the issuer, and of its settings. Imported only where needed: drivers are big."""


class Unknown(Refused):
    """No issuer of that name is configured, or it is not of the type that was asked for."""


def load(path: Path | None) -> Configuration:
    """Reads the operator's file of issuers and checks all of it.

    Raises:
        SettingsError: something in it cannot be used; each problem is told.
    """
    configuration = settings.read(path)
    problems: list[str] = []
    for one in configuration.issuers.values():
        try:
            _check(one)
        except SettingsError as error:
            problems += error.problems
    if problems:
        raise SettingsError(problems)
    return configuration


class Issuers:
    """The issuers of one operator, each behind its guard. They are made here, at the start, not when first needed."""

    def __init__(self, configuration: Configuration, *, secret: Issuer | None = None) -> None:
        """Makes every configured issuer.

        Args:
            configuration: as `load` gives it.
            secret: what serves `secret` sources; it is always there under that name where the operator has a cluster.

        Raises:
            SettingsError: an issuer cannot be made of its settings.
        """
        self._settings = configuration.issuers
        self._issuers: dict[str, Guarded] = {}
        if secret is not None:
            self._issuers[SECRET_ISSUER] = Guarded(secret, name=SECRET_ISSUER)
        for one in configuration.issuers.values():
            self._issuers[one.name] = Guarded(_made(one), name=one.name)

    @property
    def types(self) -> Mapping[str, str]:
        """Gives the type of each issuer by its name; that of `secret` sources is called as its issuer is."""
        return {name: self._type(name) for name in self._issuers}

    def get(self, name: str) -> Guarded:
        """Gives the issuer of that name.

        Raises:
            Unknown: none is called so; the message lists what is configured.
        """
        if name not in self._issuers:
            known = ", ".join(sorted(self._issuers)) or "none"
            raise Unknown(f"no issuer is called {name}; configured are: {known}")
        return self._issuers[name]

    def for_source(self, credential: Credential) -> tuple[str, dict[str, Any]]:
        """Gives the issuer's name and what it is asked for by an entry of `spec.credentials`.

        A source of one type never reaches an issuer of another: the policies' ceilings are by type, and `custom` could
        ask a database for a role that `postgres` may not.

        Raises:
            Unknown: no issuer of that name is configured, or it is of another type than the source.
        """
        name, kind = credential.issuer, credential.kind
        self.get(name)
        type_ = self._type(name)
        if kind != ("custom" if type_ not in (*_BUILT_IN, SECRET_ISSUER) else type_):
            fitting = ", ".join(sorted(other for other in self._issuers if self._type(other) == kind)) or "none"
            accepted = "issuers of third parties" if kind == "custom" else f"issuers of type {kind}: {fitting}"
            raise Unknown(f"issuer {name} is of type {type_}, and a source {kind} was given; accepted are {accepted}")
        return name, credential.source

    async def close(self) -> None:
        """Closes every issuer, whatever another does about it. What was issued stays."""
        await asyncio.gather(*(one.close() for one in self._issuers.values()), return_exceptions=True)

    def _type(self, name: str) -> str:
        return SECRET_ISSUER if name == SECRET_ISSUER else self._settings[name].type


def _check(one: IssuerSettings) -> None:
    if one.type in _BUILT_IN:
        _, _, module, model = _BUILT_IN[one.type]
        settings.validated(getattr(import_module(module), model), one.settings, where=one.where)
    else:
        _entry_point(one)


def _made(one: IssuerSettings) -> Issuer:
    if one.type not in _BUILT_IN:
        return _made_elsewhere(one)
    module, name, settings_module, model = _BUILT_IN[one.type]
    checked = settings.validated(getattr(import_module(settings_module), model), one.settings, where=one.where)
    issuer: Issuer = getattr(import_module(module), name)(checked)
    return issuer


def _made_elsewhere(one: IssuerSettings) -> Issuer:
    entry_point = _entry_point(one)
    failed: Exception | None = None
    try:
        make: Make = entry_point.load()
        return make(one.settings)
    except Exception as error:
        failed = error
    # A ValueError is how its author tells of wrong settings. Other texts may come from anywhere.
    told = f": {failed}" if isinstance(failed, ValueError | IssuerError) else f" ({type(failed).__name__})"
    raise SettingsError([f"{one.where}: issuer {one.name} of type {one.type} could not be made of them{told}."])


def _entry_point(one: IssuerSettings) -> EntryPoint:
    installed = {found.name: found for found in entry_points(group=ENTRY_POINTS)}
    if one.type not in installed:
        known = ", ".join(sorted({*_BUILT_IN, *installed}))
        raise SettingsError(
            [
                f"issuers[{one.position}].type: no issuer of type {one.type} is installed; accepted are: {known}. "
                f"Others are Python packages with an entry point in the group {ENTRY_POINTS}."
            ]
        )
    return installed[one.type]
