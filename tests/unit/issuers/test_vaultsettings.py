from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from yarl import URL

from bulkhead.issuers.vaultsettings import VaultSettings, is_path

WORKS = {"address": "https://vault.example:8200", "role": "bulkhead", "tokenFile": "/var/run/token"}

ACCEPTED = {
    "the least": {},
    "a slash at the end": {"address": "https://vault.example:8200/"},
    "an address of IPv6": {"address": "https://[fd00::1]:8200"},
    "a proxy in the same pod": {"address": "http://127.0.0.1:8100"},
    "a proxy in the same pod by name": {"address": "http://localhost:8100"},
    "a namespace below another": {"namespace": "platform/agents"},
    "an auth method mounted elsewhere": {"authMount": "clusters/one"},
    "a bundle": {"caFile": "/etc/vault/ca.crt"},
}

REFUSED = {
    "http over the network": ({"address": "http://vault.example:8200"}, "would show tokens and credentials"),
    "a path": ({"address": "https://vault.example/vault"}, "accepted is https://HOST:PORT"),
    "a password": ({"address": "https://me:secret@vault.example"}, "accepted is https://HOST:PORT"),
    "a question": ({"address": "https://vault.example?a"}, "accepted is https://HOST:PORT"),
    "no host": ({"address": "https://:8200"}, "accepted is https://HOST:PORT"),
    "no number of a port": ({"address": "https://vault.example:eight"}, "accepted is https://HOST:PORT"),
    "another scheme": ({"address": "ftp://vault.example"}, "accepted is https://HOST:PORT"),
    "no scheme": ({"address": "vault.example:8200"}, "accepted is https://HOST:PORT"),
    "a line break in the namespace": ({"namespace": "a\nX-Vault-Token: b"}, "namespace"),
    "a way up in the mount": ({"authMount": "../sys"}, "authMount"),
    "a way up inside of the mount": ({"authMount": "a/../../sys"}, "authMount"),
    "a slash in the role": ({"role": "a/b"}, "role"),
    "no role": ({"role": ""}, "role"),
    "a setting that there is not": ({"token": "hvs.abc"}, "token"),
}


@pytest.mark.parametrize("settings", ACCEPTED.values(), ids=ACCEPTED)
def test_what_leads_to_a_vault_is_accepted(settings: dict[str, str]) -> None:
    assert not VaultSettings.model_validate({**WORKS, **settings}).address.endswith("/")


@pytest.mark.parametrize(("settings", "message"), REFUSED.values(), ids=REFUSED)
def test_what_does_not_is_refused_by_its_name(settings: dict[str, str], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        VaultSettings.model_validate({**WORKS, **settings})


@given(
    st.lists(st.sampled_from(["a", "creds", ".", "..", "", "%2e", "a?b", "a#b", "ü", " ", "\n"]), max_size=5).map(
        "/".join
    )
)
def test_a_path_that_is_accepted_is_what_is_asked_for(path: str) -> None:
    if is_path(path):
        assert URL(f"https://vault.example/v1/{path}").raw_path == f"/v1/{path}"
        assert ".." not in path.split("/")
