"""No value of a credential is in what anybody may read: asked of everything that a session of tests has brought forth.

While tests run, two things are gathered: the values of all credentials that were issued (`learn`, and every version of
every lease's Secret in the clusters under `tests.leakwatch.watching`), and the evidence: logs (`follow`), what the API
server was told in events, statuses and records (`tests.leakwatch`), metrics (`note`) and what the tests themselves
wrote and failed with (`pytest_runtest_logreport`). When all is over the values are looked for in the evidence, as they
are and as they look encoded. What is found fails the session, by name of the value and of the place, never the value.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import subprocess
import tempfile
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

PUBLIC = frozenset({"host", "port", "database", "username", "sslmode", "ca.crt"})
"""Keys of a lease that say where it leads and as whom: records and statuses may have them."""

SHORTEST = 8
"""Bytes that a value must have to be told from chance."""

_LINE = 16  # bytes that a line of a value of several lines must have to be looked for by itself
_AROUND = 60  # bytes of evidence shown on either side


@dataclass(frozen=True)
class Finding:
    """A value that was found.

    Attributes:
        value: whose value it is, in words.
        place: in what.
        excerpt: what is around it there, without any value.
    """

    value: str
    place: str
    excerpt: str

    def __str__(self) -> str:
        return f"{self.value} is in {self.place}: {self.excerpt}"


class Book:
    """Values, and the evidence they must not be in."""

    def __init__(self) -> None:
        self._needles: dict[bytes, str] = {}
        self._values: set[bytes] = set()
        self._complaints: dict[str, None] = {}
        self._evidence: dict[tuple[int, int], tuple[str, int]] = {}
        self._notes: dict[str, int] = {}
        self._lock = threading.Lock()

    def learn(self, words: str, value: bytes | str) -> None:
        """Take note of a value.

        Args:
            words: whose it is.
            value: the value; of `SHORTEST` bytes or more.
        """
        raw = value.encode() if isinstance(value, str) else value
        with self._lock:
            if raw in self._values or not raw.strip():
                return
            self._values.add(raw)
            if (size := len(raw.strip())) < SHORTEST:
                self.complain(f"{words} has {size} bytes, which nobody can tell from chance: give it {SHORTEST}")
                return
            for form in forms(raw):
                self._needles.setdefault(form, words)

    def follow(self, place: str, path: Path) -> None:
        """Take a file as evidence, with all that will yet be written to it, also once it is deleted or renamed."""
        with contextlib.suppress(FileNotFoundError):
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            found = os.fstat(descriptor)
            with self._lock:
                # The descriptor keeps the inode, so that its number is nobody else's.
                if self._evidence.setdefault((found.st_dev, found.st_ino), (place, descriptor))[1] != descriptor:
                    os.close(descriptor)

    def note(self, place: str, text: bytes | str) -> None:
        """Add a text to the evidence."""
        raw = text.encode(errors="surrogateescape") if isinstance(text, str) else text
        with self._lock:
            if place not in self._notes:
                # A file without a name goes with its last descriptor.
                descriptor = os.open(tempfile.gettempdir(), os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
                found = os.fstat(descriptor)
                self._notes[place] = descriptor
                self._evidence[found.st_dev, found.st_ino] = (place, descriptor)
            view = memoryview(raw + b"\n")
            while view:
                view = view[os.write(self._notes[place], view) :]

    def complain(self, what: str) -> None:
        """Say that something was not gathered as it should be: then nothing found would prove nothing."""
        self._complaints[what] = None

    @property
    def extent(self) -> str:
        """How much was gathered, in words."""
        size = sum(os.fstat(descriptor).st_size for _, descriptor in self._evidence.values())
        return f"{len(self._values)} values, {len(self._evidence)} places of {size / 1e6:.1f} MB in all"

    def search(self) -> list[Finding]:
        """Look for every value in all the evidence; once for each value and place."""
        found: dict[tuple[str, str], Finding] = {}
        descriptors = {descriptor: place for place, descriptor in self._evidence.values()}
        for descriptor, offset, match in _grep(descriptors, self._needles):
            key = (self._needles[match], descriptors[descriptor])
            if key not in found:
                found[key] = Finding(*key, self._excerpt(descriptor, offset, len(match)))
        return list(found.values())

    def verdict(self) -> str:
        """What is wrong, in words; nothing if nothing is."""
        return "\n".join([*map(str, self.search()), *self._complaints])

    def close(self) -> None:
        """Forget everything."""
        for _, descriptor in self._evidence.values():
            os.close(descriptor)
        self.__init__()  # type: ignore[misc]

    def _excerpt(self, descriptor: int, offset: int, length: int) -> str:
        """What is around a match, read so widely that no other value in it is cut in two and so not recognised."""
        width = _AROUND + max(map(len, self._needles))
        begun = max(0, offset - width)
        before = self._masked(os.pread(descriptor, offset - begun, begun))[-_AROUND:]
        after = self._masked(os.pread(descriptor, width, offset + length))[:_AROUND]
        return f"…{before}«value»{after}…".replace("\n", " ")

    def _masked(self, text: bytes) -> str:
        for needle in sorted(self._needles, key=len, reverse=True):
            text = text.replace(needle, "«value»".encode())
        return text.decode(errors="replace")


BOOK = Book()
"""The session's."""

learn, follow, note, complain = BOOK.learn, BOOK.follow, BOOK.note, BOOK.complain


def forms(value: bytes) -> set[bytes]:
    """What a value looks like where somebody wrote it down: as it is, in JSON, in a URL, in base64, line by line."""
    found = _base64(value)
    try:
        text = value.decode()
    except UnicodeDecodeError:
        return {one for one in found if len(one) >= SHORTEST}
    plain = {text, text.strip(), *(line for line in text.splitlines() if len(line) >= _LINE)}
    for one in plain:
        if "\n" in one or one.startswith("-----"):  # of the same armour as every key's
            continue
        escaped = json.dumps(one)[1:-1]
        go = escaped.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")
        found |= {one.encode(), escaped.encode(), go.encode(), quote(one).encode(), quote(one, safe="").encode()}
        found |= _base64(one.encode())
    return {one for one in found if len(one) >= SHORTEST}


def _base64(value: bytes) -> set[bytes]:
    """The base64 of a value wherever it stands in what is encoded: what of it does not depend on its neighbours."""
    if len(value) < _LINE // 2 + 4:
        return {base64.b64encode(value)}
    found = set()
    for before in range(3):
        whole = base64.b64encode(b"\0" * before + value)
        inner = whole[-(-before * 4 // 3) :]
        inner = inner.rstrip(b"=")[:-1] if whole.endswith(b"=") else inner
        found |= {inner, inner.replace(b"+", b"-").replace(b"/", b"_")}
    return found


def _grep(descriptors: Iterable[int], needles: Iterable[bytes]) -> Iterator[tuple[int, int, bytes]]:
    """Give file, place and text of every match. The values go through a pipe: a command line is everybody's to read."""
    files, patterns = list(descriptors), b"\n".join(needles)
    if not files or not patterns:
        return
    done = subprocess.run(
        [
            *("grep", "--fixed-strings", "--only-matching", "--byte-offset", "--text", "--with-filename", "--file=-"),
            *(f"/proc/self/fd/{descriptor}" for descriptor in files),
        ],
        input=patterns,
        capture_output=True,
        check=False,
        pass_fds=files,
        env={"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C"},
    )
    if done.returncode > 1:
        raise RuntimeError(f"grep could not read the evidence: {done.stderr.decode(errors='replace')}")
    for line in done.stdout.splitlines():
        file, offset, match = line.split(b":", 2)
        yield int(file.rpartition(b"/")[2]), int(offset), match


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Take what a test wrote, logged and failed with as evidence."""
    for title, content in report.sections:
        note("the tests' output", f"{report.nodeid} {title}\n{content}")
    if report.longrepr is not None:
        note("the tests' output", f"{report.nodeid}\n{report.longreprtext}")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say how much was searched."""
    for extent in _SEARCHED:
        terminalreporter.write_line(f"searched for values of credentials: {extent}")


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Hand what was searched by a worker of pytest-xdist to the process that tells it."""
    if (output := getattr(session.config, "workeroutput", None)) is not None:
        output["searched"] = _SEARCHED


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Take over what a worker has searched."""
    _SEARCHED.extend(getattr(node, "workeroutput", {}).get("searched", ()))


@pytest.fixture(scope="session", autouse=True)
def no_leaks() -> Iterator[None]:
    """When all tests are over, no value of a credential is to be found in any evidence."""
    yield
    try:
        verdict = BOOK.verdict()
        _SEARCHED.append(BOOK.extent)
    finally:
        BOOK.close()
    assert not verdict, verdict


_SEARCHED: list[str] = []
