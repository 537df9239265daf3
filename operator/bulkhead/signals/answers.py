"""Reading what Prometheus answers, a series at a time: 100,000 of them take a second that the event loop needs.

`json.loads` holds the interpreter until it is done, in a thread as well: for 100,000 series nothing else, a cut
included, would run for a third of a second. So the document is walked, and only its parts are decoded at once.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

_DECODER = json.JSONDecoder()
_SPACE = " \t\r\n"
_SPACES = re.compile(f"[{_SPACE}]*")
_LARGEST_PART = 64 * 1024
"""Characters of one part that is no series: an error's text, warnings."""


class Malformed(Exception):  # noqa: N818 (it says what the answer is)
    """The answer is not what the API of Prometheus gives."""


@dataclass(slots=True)
class Document:
    """What stands in an answer beside the series. Complete when the walk has ended.

    Attributes:
        top: `status`, `errorType`, `error`, …
        data: `resultType`, …
    """

    top: dict[str, Any] = field(default_factory=dict)
    data: dict[str, Any] = field(default_factory=dict)


def walk(text: str, document: Document) -> Iterator[Mapping[str, Any]]:
    """Yields every element of `data.result`, and fills the document with the rest.

    Args:
        text: the answer.
        document: an empty one.

    Raises:
        Malformed: it is not JSON, or no object.
    """
    try:
        walker = _Walker(text)
        for key in walker.members():
            if key == "data" and walker.at("{"):
                yield from _data(walker, document)
            else:
                document.top[key] = walker.value()
        walker.end()
    except (ValueError, IndexError, RecursionError):
        raise Malformed from None


def _data(walker: _Walker, document: Document) -> Iterator[Mapping[str, Any]]:
    for key in walker.members():
        if key == "result" and walker.at("["):
            for element in walker.elements():
                # A scalar's result is a list too: of a time and a text.
                if isinstance(element, dict):
                    yield element
        else:
            document.data[key] = walker.value()


class _Walker:
    """A place in a JSON text."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._place = 0

    def at(self, character: str) -> bool:
        return self._next() == character

    def members(self) -> Iterator[str]:
        """Yields the keys of an object; who takes one reads its value before the next."""
        self._take("{")
        if self.at("}"):
            self._place += 1
            return
        while True:
            key = self.value()
            if not isinstance(key, str):
                raise ValueError
            self._take(":")
            self._next()
            yield key
            if self._take(",}") == "}":
                return

    def elements(self) -> Iterator[Any]:
        self._take("[")
        if self.at("]"):
            self._place += 1
            return
        while True:
            yield self.value()
            if self._take(",]") == "]":
                return

    def value(self) -> Any:
        self._next()
        found, end = _DECODER.raw_decode(self._text, self._place)
        if end - self._place > _LARGEST_PART:
            raise ValueError
        self._place = end
        return found

    def end(self) -> None:
        if self._text[self._place :].strip(_SPACE):
            raise ValueError

    def _next(self) -> str:
        """Skips white space; gives the character at the place."""
        found = self._text[self._place]
        if found in _SPACE:
            # Not one by one: of 32 MiB of nothing else that would be seconds.
            self._place = _SPACES.match(self._text, self._place).end()  # type: ignore[union-attr] # it matches
            found = self._text[self._place]
        return found

    def _take(self, accepted: str) -> str:
        found = self._next()
        if found not in accepted:
            raise ValueError
        self._place += 1
        return found
