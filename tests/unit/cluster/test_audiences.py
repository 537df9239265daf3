"""What the operator's own token tells of the API server's audiences."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from bulkhead.cluster.audiences import audiences

ISSUER = "https://kubernetes.default.svc.cluster.local"


def bearer(claims: Any) -> str:
    middle = base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")
    return f"Bearer eyJhbGciOiJSUzI1NiJ9.{middle}.c2lnbmF0dXJl"


@pytest.mark.parametrize(
    ("authorization", "found"),
    [
        pytest.param(bearer({"aud": [ISSUER, "k3s"], "iss": ISSUER}), (ISSUER, "k3s"), id="several, and the issuer"),
        pytest.param(bearer({"aud": "one", "iss": ISSUER}), (ISSUER, "one"), id="a single one as text"),
        pytest.param(bearer({"iss": ISSUER}), (ISSUER,), id="none but the issuer"),
        pytest.param(bearer(["aud"]), (), id="claims that are no object"),
        pytest.param(bearer({"aud": [1, None, ""]}), (), id="audiences that are no text"),
        pytest.param("Bearer opaque", (), id="no JWT"),
        pytest.param("Bearer a.%%%.c", (), id="a JWT that cannot be read"),
        pytest.param(None, (), id="no token"),
    ],
)
def test_the_audiences_of_the_operators_own_token_are_the_api_servers(
    authorization: str | None, found: tuple[str, ...]
) -> None:
    assert audiences(authorization) == found
