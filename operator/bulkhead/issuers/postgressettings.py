"""What an issuer of type `postgres` is configured with."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator
from pydantic.alias_generators import to_camel

VERIFYING = ("verify-ca", "verify-full")


def _absolute(path: Path) -> Path:
    if not path.is_absolute():
        raise ValueError("accepted is the absolute path of a file")
    return path


_File = Annotated[Path, AfterValidator(_absolute)]
_Text = Annotated[str, Field(min_length=1, max_length=255, pattern=r"^[^\x00-\x20\x7f,'\\/]+$")]


class PostgresSettings(BaseModel):
    """Settings of one database.

    Attributes:
        host: name or address of the server, for the operator and for agents alike: the server itself, no pooler.
        port: its TCP port.
        database: the one in which agents work.
        user: the operator's own role there. It needs CREATEROLE, and ADMIN OPTION on the template roles.
        password_file: holds that role's password; read anew for each connection, so that it may change.
        sslmode: as libpq's. What does not verify the server's certificate is for loopback and tests.
        ca_file: PEM bundle that the server's certificate is verified with; agents get a copy of it.
        connection_limit: connections at once that one lease may have.
        connect_timeout: seconds to connect.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, alias_generator=to_camel)

    host: _Text
    port: Annotated[int, Field(ge=1, le=65535)] = 5432
    database: Annotated[str, Field(min_length=1, max_length=63, pattern=r"^[^\x00-\x1f\x7f]+$")]
    user: Annotated[str, Field(min_length=1, max_length=63, pattern=r"^[^\x00-\x1f\x7f]+$")] = "bulkhead"
    password_file: _File
    sslmode: Literal["disable", "require", "verify-ca", "verify-full"] = "verify-full"
    ca_file: _File | None = None
    connection_limit: Annotated[int, Field(ge=1, le=1000)] = 4
    connect_timeout: Annotated[int, Field(ge=2, le=8)] = 5

    @model_validator(mode="after")
    def _verifies_with_something(self) -> PostgresSettings:
        if self.sslmode in VERIFYING and self.ca_file is None:
            raise ValueError(
                f"sslmode {self.sslmode} verifies the server's certificate and needs caFile; accepted is also "
                f"sslmode require, which encrypts without knowing to whom"
            )
        return self
