"""The operator's file of issuers: which there are, and what each is told.

    issuers:
    - name: warehouse
      type: postgres
      settings: {host: warehouse.example, database: stock, ...}
    secretSources: [shared-secrets]

The file holds no secret: passwords and tokens are files of their own that it names. All the same, what was given is
never repeated in a message here, because people do write a password where the name of its file belongs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from bulkhead.api import configfile
from bulkhead.api.configfile import SettingsError
from bulkhead.api.credentials import SECRET_ISSUER
from bulkhead.api.fields import DNS_LABEL_PATTERN

__all__ = ["Configuration", "IssuerSettings", "SettingsError", "read", "validated"]

MAX_ISSUERS = 64

_WHAT = "the file of issuers"

_Name = Annotated[str, Field(max_length=63, pattern=rf"^{DNS_LABEL_PATTERN}$")]
_Model = TypeVar("_Model", bound=BaseModel)


@dataclass(frozen=True, slots=True, kw_only=True)
class IssuerSettings:
    """One issuer as the file has it.

    Attributes:
        name: what credentials and policies call it.
        type: `postgres`, `vault`, or the name of a third party's entry point.
        settings: what it is told; checked by whom it is for.
        position: its index in the file, for messages.
    """

    name: str
    type: str
    settings: Mapping[str, Any]
    position: int = 0

    @property
    def where(self) -> str:
        """Says where in the file its settings are."""
        return f"issuers[{self.position}].settings"


@dataclass(frozen=True, slots=True, kw_only=True)
class Configuration:
    """The file as a whole.

    Attributes:
        issuers: by name.
        secret_sources: the namespaces whose Secrets the operator may read for `secret` sources.
    """

    issuers: Mapping[str, IssuerSettings] = field(default_factory=dict)
    secret_sources: tuple[str, ...] = ()


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    name: _Name
    type: Annotated[str, Field(min_length=1, max_length=63)]
    settings: dict[str, Any] = Field(default_factory=dict)


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, alias_generator=to_camel)

    issuers: Annotated[list[_Entry], Field(max_length=MAX_ISSUERS)] = Field(default_factory=list)
    secret_sources: list[_Name] = Field(default_factory=list)


def read(path: Path | None) -> Configuration:
    """Reads the file; without one there is nothing but what is always there.

    Raises:
        SettingsError: it cannot be read, or something in it cannot be used.
    """
    if path is None:
        return Configuration()
    parsed = configfile.validated(
        _File, configfile.load(path, what=_WHAT), where="", what=_WHAT, parts={"issuers": _Entry}
    )
    problems = _clashes(parsed)
    if problems:
        raise SettingsError(problems)
    return Configuration(
        issuers={
            one.name: IssuerSettings(name=one.name, type=one.type, settings=one.settings, position=position)
            for position, one in enumerate(parsed.issuers)
        },
        secret_sources=tuple(dict.fromkeys(parsed.secret_sources)),
    )


def validated(model: type[_Model], raw: Any, *, where: str) -> _Model:
    """Checks the settings of one issuer against a model.

    Args:
        model: of what is expected.
        raw: what was given.
        where: the path of it in the file, for messages.

    Raises:
        SettingsError: with a sentence for each problem.
    """
    return configfile.validated(model, raw, where=where, what=_WHAT)


def _clashes(parsed: _File) -> list[str]:
    problems = []
    first: dict[str, int] = {}
    for position, one in enumerate(parsed.issuers):
        if one.name == SECRET_ISSUER:
            problems.append(
                f"issuers[{position}].name: {SECRET_ISSUER} is always there and cannot be configured; its namespaces "
                f"are secretSources."
            )
        elif one.name in first:
            problems.append(
                f"issuers[{position}].name: {one.name} is the name of issuers[{first[one.name]}] already; accepted is "
                f"one that no other has."
            )
        first.setdefault(one.name, position)
    return problems
