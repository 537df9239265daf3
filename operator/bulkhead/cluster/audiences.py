"""Which audiences the API server takes as its own.

A token for one of these is a token for the API server, whoever asked for it and for what. A token that is requested
without an audience carries all of them (`--api-audiences`, by default the issuer), and so does the operator's own.
"""

from __future__ import annotations

import base64
import binascii
import json
from typing import Any


def audiences(authorization: str | None) -> tuple[str, ...]:
    """Returns the audiences and the issuer of a service account's token, sorted; none where it is no JWT.

    The token is only read, not verified: it is the operator's own.

    Args:
        authorization: value of an Authorization header (`Bearer …`), or None.
    """
    token = (authorization or "").rpartition(" ")[2]
    parts = token.split(".")
    if len(parts) != 3:
        return ()
    try:
        claims: Any = json.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
    except (binascii.Error, ValueError):
        return ()
    if not isinstance(claims, dict):
        return ()
    listed = claims.get("aud")
    named = listed if isinstance(listed, list) else [listed]
    return tuple(sorted({one for one in (*named, claims.get("iss")) if isinstance(one, str) and one}))
