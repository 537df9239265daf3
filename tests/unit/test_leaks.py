"""The search for leaked values finds them, in whatever form and place, and tells of them without telling them."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.leaks import Book

ROOT = Path(__file__).parents[2]
VALUE = 'p&ss/wörd+"Zq9?<7f3c>'
KEY = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIJ3bYQ0Qq0Xn\nZkUo1kT9aVYx0s8f\n-----END PRIVATE KEY-----\n"

WRITTEN: dict[str, Callable[[str], str]] = {
    "as it is": lambda value: f"connected by {value} to it",
    "in a URL": lambda value: f"postgresql://reader:{quote(value, safe='')}@db/warehouse",
    "in JSON": lambda value: json.dumps({"password": value}),
    "in Go's JSON": lambda value: (
        json.dumps(value).replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")
    ),
    "in base64": lambda value: base64.b64encode(value.encode()).decode(),
    "in the base64 of more": lambda value: base64.b64encode(f"user:{value}@host".encode()).decode(),
    "in the base64 of still more": lambda value: base64.b64encode(f"users:{value}".encode()).decode(),
    "in base64 for URLs": lambda value: base64.urlsafe_b64encode(f"ab{value}".encode()).decode(),
}


@pytest.fixture
def book() -> Iterator[Book]:
    made = Book()
    yield made
    made.close()


@pytest.mark.parametrize("form", WRITTEN)
def test_a_value_is_found_however_it_was_written(book: Book, form: str) -> None:
    book.learn("the password of one", VALUE)
    book.learn("the password of another", "6fd1b1c5e0c6")
    book.note("a log", "nothing yet")
    assert book.verdict() == ""
    book.note("a log", f"x {WRITTEN[form](VALUE)} y")
    (found,) = book.search()
    assert (found.value, found.place) == ("the password of one", "a log")
    assert "«value»" in found.excerpt


def test_what_is_learned_after_it_was_written_is_found_too(book: Book) -> None:
    book.note("a log", f"the password is {VALUE}")
    book.learn("it", VALUE)
    assert [finding.value for finding in book.search()] == ["it"]


def test_a_finding_does_not_tell_the_value_nor_another_one_beside_it(book: Book) -> None:
    book.learn("one", VALUE)
    book.learn("another", "c0ffee-c0ffee-c0ffee")
    book.note("a log", f"{'.' * 90}c0ffee-c0ffee-c0ffee, {VALUE}, c0ffee-c0ffee-c0ffee{'.' * 90}")
    assert {finding.value for finding in book.search()} == {"one", "another"}
    told = book.verdict()
    assert VALUE not in told
    assert "c0ffee" not in told


def test_a_line_of_a_key_is_enough_and_the_armour_that_all_keys_have_is_not(book: Book) -> None:
    book.learn("the key", KEY)
    book.note("a log", "-----BEGIN PRIVATE KEY----- is how keys begin")
    assert book.search() == []
    book.note("a log", "cut off: ...\nMC4CAQAwBQYDK2VwBCIEIJ3bYQ0Qq0Xn")
    assert len(book.search()) == 1


def test_bytes_that_are_no_text_are_found_in_base64(book: Book) -> None:
    raw = bytes(range(128, 160))
    book.learn("a raw key", raw)
    book.note("a record", json.dumps({"data": base64.b64encode(raw).decode()}))
    assert len(book.search()) == 1


def test_a_file_is_read_to_its_end_also_when_it_was_deleted_and_another_took_its_name(
    book: Book, tmp_path: Path
) -> None:
    path = tmp_path / "operator.log"
    path.write_text("begun\n")
    book.follow("the log", path)
    with path.open("a") as log:
        path.unlink()
        path.write_text("another one\n")
        book.follow("the next log", path)
        book.follow("the next log", path)
        log.write(f"the password is {VALUE}\n")
    book.learn("it", VALUE)
    assert [finding.place for finding in book.search()] == ["the log"]


def test_a_value_that_chance_could_write_is_complained_of(book: Book) -> None:
    book.learn("the value of pin", "12345")
    assert "5 bytes" in book.verdict()
    assert "12345" not in book.verdict()


def test_a_gap_in_what_was_gathered_is_no_success(book: Book) -> None:
    book.complain("some of the events were missed")
    assert book.verdict() == "some of the events were missed"


LEAKING = """
from tests import leaks
from tests.leaks import no_leaks, pytest_runtest_logreport, pytest_terminal_summary

def test_it():
    leaks.learn("the password", "c0ffee-c0ffee-c0ffee")
    {act}
"""

SESSIONS = {
    "a test that tells nothing": ("pass", 0),
    "a test that prints the value": ("print('it is c0ffee-c0ffee-c0ffee')", 1),
    "a test that logs the value": ("import logging; logging.getLogger('x').warning('c0ffee-c0ffee-c0ffee')", 1),
    "a test that notes it as evidence": ("leaks.note('an event', 'c0ffee-c0ffee-c0ffee')", 1),
}


@pytest.mark.parametrize("name", SESSIONS)
def test_a_session_of_tests_in_which_a_value_was_told_fails(tmp_path: Path, name: str) -> None:
    act, code = SESSIONS[name]
    # As a folder has it: what is imported into its conftest holds for all its tests.
    conftest, test = LEAKING.format(act=act).split("\ndef ", 1)
    (tmp_path / "conftest.py").write_text(conftest)
    (tmp_path / "test_it.py").write_text(f"from tests import leaks\n\ndef {test}")
    # A session of its own: with the variables of this one it would take itself for one of pytest-xdist's workers.
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--rootdir={tmp_path}", str(tmp_path)],
        env={**inherited, "PYTHONPATH": f"{ROOT / 'operator'}:{ROOT}"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == code, done.stdout
    assert "searched for values of credentials: 1 values" in done.stdout
    if code:
        assert "the password is in " in done.stdout
