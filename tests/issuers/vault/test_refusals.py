"""What a real Vault refuses, and what people are told: what was refused, why, and what would be accepted."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from bulkhead.issuers.base import IssuerError, Refused, Unavailable
from bulkhead.issuers.vault import Vault
from devcluster import vault
from devcluster.api import RunningCluster
from tests.issuers.vault.conftest import POLICY
from tests.issuers.vault.world import OPERATOR, Doors, asked, lease, write_token

PATHS = {
    "a value that does not change": ("kv/numbers", "kv/numbers gives no lease.*database/creds/ROLE.*source `secret`"),
    "an engine's own settings": ("database/config/orders", "database/config/orders gives no lease"),
    "an engine that is not mounted": ("elsewhere/creds/reader", "has no secrets engine at elsewhere/creds/reader"),
    "a role that the engine does not have": ("database/creds/missing", "has nothing at database/creds/missing"),
    "a path that is only written to": (
        "database/rotate-root/orders",
        "cannot be read: accepted is a path that issues on GET",
    ),
    "a path that the policy does not have": (
        "database/creds/writer",
        "denies the operator database/creds/writer: a policy of role bulkhead of auth/kubernetes must have path "
        '"database/creds/writer" { capabilities = ["read"] }'.replace("[", r"\[").replace("{", r"\{"),
    ),
    "Vault itself": ("sys/health", "sys/ is no secrets engine"),
    "a login": ("auth/token/lookup-self", "auth/ is no secrets engine"),
    "an engine alone": ("database", "accepted are segments"),
    "a way up": ("database/../sys/health", "accepted are segments"),
    "a way up that is encoded": ("database/%2e%2e/sys/health", "accepted are segments"),
    "a question": ("database/creds/reader?list=true", "accepted are segments"),
    "an empty segment": ("database//creds/reader", "accepted are segments"),
    "a trailing slash": ("database/creds/reader/", "accepted are segments"),
    "a newline": ("database/creds/reader\n", "accepted are segments"),
    "nothing": ("", "accepted are segments"),
}


@pytest.mark.parametrize(("path", "message"), PATHS.values(), ids=PATHS)
async def test_a_path_that_gives_no_lease_is_refused_with_what_would_be_accepted(
    issuer: Vault, path: str, message: str
) -> None:
    with pytest.raises(Refused, match=message):
        await lease(issuer, path)


@pytest.fixture
def lacking(real: vault.Server) -> Iterator[str]:
    """The name of a role of the auth method whose policy a test takes something from."""
    namespace, account = OPERATOR
    real.admit(
        "lacking",
        namespace=namespace,
        service_account=account,
        policies=["lacking"],
        token_no_default_policy=True,
    )
    yield "lacking"
    real.do("DELETE", "auth/kubernetes/role/lacking")


@pytest.mark.parametrize(
    "path",
    [
        "auth/token/renew-self",
        "auth/token/renew-accessor",
        "auth/token/revoke-accessor",
        "sys/leases/renew",
        "sys/leases/revoke",
    ],
)
async def test_what_the_policy_lacks_is_named_as_the_line_that_it_needs(
    real: vault.Server, doors: Doors, lacking: str, path: str
) -> None:
    real.write_policy("lacking", {name: wanted for name, wanted in POLICY.items() if name != path})
    issuer = doors.open(role=lacking)
    with pytest.raises(Refused) as refused:
        credential = await lease(issuer)
        await issuer.renew(credential.handle, until=datetime.now(UTC) + timedelta(seconds=900))
        await issuer.revoke(credential.handle)
    assert f'path "{path}" {{ capabilities = ["update"] }}' in refused.value.message
    assert "role lacking of auth/kubernetes" in refused.value.message


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"token_type": "batch"}, "accepted is token_type service"),
        ({"token_num_uses": 3}, "accepted is token_type service and token_num_uses 0"),
    ],
)
async def test_a_role_whose_tokens_cannot_be_a_handle_is_refused(
    real: vault.Server, doors: Doors, settings: dict[str, object], message: str
) -> None:
    namespace, account = OPERATOR
    real.do("DELETE", "auth/kubernetes/role/odd")
    real.admit("odd", namespace=namespace, service_account=account, policies=["bulkhead"], **settings)
    with pytest.raises(Refused, match=message):
        await doors.open(role="odd").prepare(asked())


async def test_a_role_that_vault_does_not_have_is_named(doors: Doors) -> None:
    with pytest.raises(Refused, match="has no role nobody in auth/kubernetes"):
        await doors.open(role="nobody").prepare(asked())


async def test_where_no_auth_method_is_mounted_it_is_said_what_should_be(doors: Doors) -> None:
    with pytest.raises(IssuerError, match="accepted is a kubernetes auth method mounted there"):
        await doors.open(authMount="elsewhere").prepare(asked())


@pytest.mark.parametrize(("account", "audience"), [("somebody", "vault"), ("bulkhead", "another")])
async def test_a_token_that_vault_does_not_let_in_is_tried_again_and_what_it_needs_is_said(
    cluster: RunningCluster, doors: Doors, tmp_path: Path, account: str, audience: str
) -> None:
    token = write_token(cluster, tmp_path / "token", account=account, audience=audience)
    with pytest.raises(
        IssuerError, match="bound to the operator's service account, its namespace and the audience"
    ) as no:
        await doors.open(tokenFile=str(token)).prepare(asked())
    assert not isinstance(no.value, Refused)


async def test_a_token_file_that_is_not_there_is_named(doors: Doors, tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match=r"tokenFile .*/none cannot be read: No such file"):
        await doors.open(tokenFile=str(tmp_path / "none")).prepare(asked())
