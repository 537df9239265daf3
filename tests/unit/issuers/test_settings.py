"""The file of issuers: what is wrong with it is told to the person who wrote it, and nothing secret is repeated."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from bulkhead.issuers import registry, settings
from bulkhead.issuers.settings import Configuration, SettingsError

POSTGRES: dict[str, Any] = {
    "host": "warehouse.example",
    "database": "stock",
    "passwordFile": "/etc/bulkhead/issuers/warehouse/password",
    "caFile": "/etc/bulkhead/issuers/warehouse/ca.crt",
}
VAULT: dict[str, Any] = {
    "address": "https://vault.example:8200",
    "role": "bulkhead",
    "tokenFile": "/var/run/bulkhead/operator-tokens/vault",
}


def entry(type_: str = "postgres", name: str = "warehouse", **given_: Any) -> dict[str, Any]:
    return {"name": name, "type": type_, "settings": given_}


def one(given_: dict[str, Any], type_: str = "postgres") -> dict[str, Any]:
    return {"issuers": [entry(type_, **given_)]}


WRONG: dict[str, tuple[Any, str]] = {
    "a list": ([], "the file of issuers: accepted is a map"),
    "a word": ("issuers", "the file of issuers: accepted is a map"),
    "another key": ({"issuer": []}, "issuer is not a setting"),
    "issuers that are a map": ({"issuers": {}}, "issuers: accepted is a list"),
    "an issuer that is a word": ({"issuers": ["postgres"]}, "issuers[0]: accepted is a map"),
    "no name": ({"issuers": [{"type": "postgres"}]}, "issuers[0].name is required and was not given"),
    "no type": ({"issuers": [{"name": "a"}]}, "issuers[0].type is required and was not given"),
    "a name with capitals": ({"issuers": [entry(name="Warehouse", **POSTGRES)]}, "issuers[0].name: "),
    "the name of what is always there": (
        {"issuers": [entry(name="secret", **POSTGRES)]},
        "issuers[0].name: secret is always there and cannot be configured",
    ),
    "one name for two": (
        {"issuers": [entry(**POSTGRES), entry(**POSTGRES)]},
        "issuers[1].name: warehouse is the name of issuers[0] already",
    ),
    "a type that nobody has": (
        one({}, "oracle"),
        "issuers[0].type: no issuer of type oracle is installed; accepted are: postgres, vault",
    ),
    "too many": ({"issuers": [entry(name=f"n{n}", **POSTGRES) for n in range(65)]}, "issuers: "),
    "a sandbox's capital letters": ({"secretSources": ["Shared"]}, "secretSources[0]: "),
    "no host": (
        one({key: value for key, value in POSTGRES.items() if key != "host"}),
        "issuers[0].settings.host is required and was not given",
    ),
    "a password in place of its file": (
        one({**POSTGRES, "passwordFile": "hunter2-hunter2"}),
        "issuers[0].settings.passwordFile: accepted is the absolute path of a file",
    ),
    "a password": (one({**POSTGRES, "password": "hunter2-hunter2"}), "issuers[0].settings.password is not a setting"),
    "a password as the port": (one({**POSTGRES, "port": "hunter2-hunter2"}), "issuers[0].settings.port: "),
    "a port that is none": (one({**POSTGRES, "port": 70000}), "issuers[0].settings.port: "),
    "several hosts": (one({**POSTGRES, "host": "a,b"}), "issuers[0].settings.host: "),
    "a socket's folder": (one({**POSTGRES, "host": "/var/run/postgresql"}), "issuers[0].settings.host: "),
    "parameters of a connection": (one({**POSTGRES, "host": "a sslmode=disable"}), "issuers[0].settings.host: "),
    "a certificate that is not looked at": (
        one({**POSTGRES, "sslmode": "prefer"}),
        "issuers[0].settings.sslmode: accepted is 'disable', 'require', 'verify-ca' or 'verify-full'",
    ),
    "nothing to look at it with": (
        one({key: value for key, value in POSTGRES.items() if key != "caFile"}),
        "issuers[0].settings: sslmode verify-full verifies the server's certificate and needs caFile",
    ),
    "no connection at all": (one({**POSTGRES, "connectionLimit": 0}), "issuers[0].settings.connectionLimit: "),
    "a Vault without TLS": (one({**VAULT, "address": "http://vault.example"}, "vault"), "issuers[0].settings.address"),
    "a Vault without a role": (
        one({key: value for key, value in VAULT.items() if key != "role"}, "vault"),
        "issuers[0].settings.role is required and was not given",
    ),
}


def written(tmp_path: Path, content: Any) -> Path:
    file = tmp_path / "issuers.yaml"
    file.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
    return file


@pytest.mark.parametrize(("content", "told"), WRONG.values(), ids=WRONG)
def test_what_is_wrong_is_told_where_it_is(content: Any, told: str, tmp_path: Path) -> None:
    with pytest.raises(SettingsError) as caught:
        registry.load(written(tmp_path, content))
    assert any(told in problem for problem in caught.value.problems), caught.value.problems
    assert "hunter2" not in str(caught.value)
    assert all(problem.endswith(".") for problem in caught.value.problems)


def test_every_problem_is_told_at_once(tmp_path: Path) -> None:
    content = {
        "issuers": [
            entry(name="a", **{**POSTGRES, "port": 0}),
            entry("oracle", name="b"),
            entry("vault", name="c", **{**VAULT, "address": "vault"}),
        ]
    }
    with pytest.raises(SettingsError) as caught:
        registry.load(written(tmp_path, content))
    assert [problem.split(".")[0] for problem in caught.value.problems] == ["issuers[0]", "issuers[1]", "issuers[2]"]


@pytest.mark.parametrize(
    ("content", "told"),
    {
        "no YAML": ("issuers: [}", "The file of issuers is not YAML: {file} near line 1."),
        "a control character": ("a: \x07", "The file of issuers is not YAML: {file}."),
    }.values(),
)
def test_a_file_that_is_no_yaml_is_told_without_its_content(content: str, told: str, tmp_path: Path) -> None:
    file = written(tmp_path, content)
    with pytest.raises(SettingsError) as caught:
        registry.load(file)
    assert caught.value.problems == (told.format(file=file),)


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"cannot be read: .*absent: FileNotFoundError"):
        registry.load(tmp_path / "absent")


def test_without_a_file_there_is_nothing_but_what_is_always_there() -> None:
    assert registry.load(None) == Configuration()


@pytest.mark.parametrize("content", ["", "{}", "issuers: []", "# nothing\n"])
def test_an_empty_file_is_fine(content: str, tmp_path: Path) -> None:
    assert registry.load(written(tmp_path, content)) == Configuration()


def test_a_good_file_is_read(tmp_path: Path) -> None:
    content = {
        "issuers": [entry(**POSTGRES), entry("vault", name="central", **VAULT)],
        "secretSources": ["shared", "shared", "keys"],
    }
    found = registry.load(written(tmp_path, content))
    assert {name: one.type for name, one in found.issuers.items()} == {"warehouse": "postgres", "central": "vault"}
    assert found.secret_sources == ("shared", "keys")


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
        max_leaves=12,
    )
)
def test_whatever_the_file_holds_it_is_read_or_refused(tmp_path_factory: pytest.TempPathFactory, content: Any) -> None:
    file = tmp_path_factory.getbasetemp() / "anything.yaml"
    file.write_text(yaml.safe_dump({"issuers": content}))
    try:
        registry.load(file)
    except SettingsError as error:
        assert error.problems


def test_a_name_that_is_nearly_right_is_suggested(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="issuers\\[0\\]\\.setting is not a setting; perhaps settings was meant"):
        settings.read(written(tmp_path, {"issuers": [{"name": "a", "type": "vault", "setting": {}}]}))


@pytest.mark.parametrize(
    ("type_", "loaded", "absent"), [("", "", "psycopg"), ("vault", "aiohttp", "psycopg"), ("postgres", "psycopg", "")]
)
def test_a_driver_is_loaded_only_where_it_is_needed(type_: str, loaded: str, absent: str, tmp_path: Path) -> None:
    given_ = {"postgres": POSTGRES, "vault": VAULT}
    file = written(tmp_path, one(given_[type_], type_) if type_ else {})
    program = (
        "import sys; from pathlib import Path; from bulkhead.issuers import registry; "
        f"registry.Issuers(registry.load(Path({str(file)!r}))); print('\\n'.join(sys.modules))"
    )
    modules = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, env={"PYTHONPATH": "operator"}
    ).stdout.split()
    assert not loaded or loaded in modules
    assert not absent or absent not in modules
