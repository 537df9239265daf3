"""Which issuer serves which source."""

from __future__ import annotations

from importlib.metadata import EntryPoint
from typing import Any

import pytest

from bulkhead.api.credentials import Credential
from bulkhead.issuers import registry
from bulkhead.issuers.base import Refused
from bulkhead.issuers.guard import Guarded
from bulkhead.issuers.registry import Issuers, Unknown
from bulkhead.issuers.settings import Configuration, IssuerSettings, SettingsError
from tests.unit.issuers.issuers import VALUE, Told, gives
from tests.unit.issuers.test_settings import POSTGRES, VAULT

MADE: list[Told] = []


def make(settings: Any) -> Told:
    if settings.get("wrong"):
        raise ValueError("wrong must not be given")
    if settings.get("broken"):
        raise KeyError(VALUE)
    MADE.append(gives({}))
    return MADE[-1]


@pytest.fixture(autouse=True)
def third_party(monkeypatch: pytest.MonkeyPatch) -> None:
    """An installed package of somebody else, of the type `keys`."""
    found = EntryPoint(name="keys", group=registry.ENTRY_POINTS, value=f"{__name__}:make")
    monkeypatch.setattr(EntryPoint, "load", lambda self: make)
    monkeypatch.setattr(registry, "entry_points", lambda group: [found] if group == "bulkhead.issuers" else [])
    MADE.clear()


def configured(**more: Any) -> Issuers:
    given = {
        "warehouse": IssuerSettings(name="warehouse", type="postgres", settings=POSTGRES),
        "central": IssuerSettings(name="central", type="vault", settings=VAULT),
        "gateway": IssuerSettings(name="gateway", type="keys", settings=more),
    }
    return Issuers(Configuration(issuers=given), secret=gives({}))


def asked(**source: Any) -> Credential:
    return Credential.model_validate({"name": "a", **source})


FITTING = {
    "postgres": ({"postgres": {"issuer": "warehouse", "role": "reader"}}, "warehouse", {"role": "reader"}),
    "vault": ({"vault": {"issuer": "central", "path": "db/creds/a"}}, "central", {"path": "db/creds/a"}),
    "secret": (
        {"secret": {"namespace": "shared", "name": "key", "keys": ["a"]}},
        "secret",
        {"namespace": "shared", "name": "key", "keys": ["a"]},
    ),
    "custom": ({"custom": {"issuer": "gateway", "parameters": {"m": "n"}}}, "gateway", {"parameters": {"m": "n"}}),
}

OTHERS = {
    "custom at a database": (
        {"custom": {"issuer": "warehouse", "parameters": {"role": "admin"}}},
        "issuer warehouse is of type postgres, and a source custom was given; accepted are issuers of third parties",
    ),
    "custom at a vault": ({"custom": {"issuer": "central"}}, "issuer central is of type vault"),
    "postgres at a vault": (
        {"postgres": {"issuer": "central", "role": "reader"}},
        "accepted are issuers of type postgres: warehouse",
    ),
    "vault at a database": (
        {"vault": {"issuer": "warehouse", "path": "a/b"}},
        "accepted are issuers of type vault: central",
    ),
    "vault at a third party": ({"vault": {"issuer": "gateway", "path": "a/b"}}, "issuer gateway is of type keys"),
    "nobody": (
        {"vault": {"issuer": "missing", "path": "a/b"}},
        "no issuer is called missing; configured are: central, gateway, secret, warehouse",
    ),
}


@pytest.mark.parametrize(("source", "name", "plain"), FITTING.values(), ids=FITTING)
def test_a_source_finds_its_issuer(source: Any, name: str, plain: Any) -> None:
    assert configured().for_source(asked(**source)) == (name, plain)


@pytest.mark.parametrize(("source", "told"), OTHERS.values(), ids=OTHERS)
def test_a_source_never_reaches_an_issuer_of_another_type(source: Any, told: str) -> None:
    with pytest.raises(Unknown) as caught:
        configured().for_source(asked(**source))
    assert told in caught.value.message
    assert isinstance(caught.value, Refused)


def test_every_issuer_is_behind_its_guard_and_its_type_is_known() -> None:
    issuers = configured()
    assert issuers.types == {"secret": "secret", "warehouse": "postgres", "central": "vault", "gateway": "keys"}
    assert all(isinstance(issuers.get(name), Guarded) for name in issuers.types)


def test_without_a_cluster_there_is_no_copy_of_secrets() -> None:
    with pytest.raises(Unknown, match="no issuer is called secret; configured are: none"):
        Issuers(Configuration()).for_source(asked(secret={"namespace": "a", "name": "b", "keys": ["c"]}))


async def test_closing_closes_all() -> None:
    issuers = configured()
    await issuers.close()
    assert [one.closed for one in MADE] == [True]


async def test_one_that_cannot_be_closed_keeps_no_other_open(monkeypatch: pytest.MonkeyPatch) -> None:
    issuers = configured()

    async def fail(self: Guarded) -> None:
        raise RuntimeError("no")

    monkeypatch.setattr(issuers.get("warehouse"), "close", lambda: fail(issuers.get("warehouse")))
    await issuers.close()
    assert [one.closed for one in MADE] == [True]


def test_what_a_third_party_says_about_its_settings_is_told() -> None:
    with pytest.raises(SettingsError, match="issuer gateway of type keys could not be made of them: wrong must not be"):
        configured(wrong=True)


def test_what_else_a_third_party_throws_is_told_by_its_kind_alone() -> None:
    with pytest.raises(SettingsError, match="issuer gateway of type keys could not be made") as caught:
        configured(broken=True)
    assert VALUE not in str(caught.value)
    assert caught.value.__cause__ is None and caught.value.__context__ is None
