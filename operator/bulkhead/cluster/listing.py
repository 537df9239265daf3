"""Lists as the API server sends them, read object by object.

A list that is parsed as a whole is there twice for a moment, once as its parser made it and once as what is kept of it,
and both lie mixed in the same memory, which the process then keeps: 7 of 89 MB after a start with 500 agents.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from json import JSONDecoder

from bulkhead.cluster.resources import Object

_SPACE = re.compile(r"[ \t\n\r]*")
_decoded = JSONDecoder().raw_decode


def read_list(text: str, take: Callable[[Object], None]) -> Object:
    """Reads a JSON object; gives it without what is in `items`, which is handed over one by one.

    Args:
        text: of the object.
        take: given each item of `items`, as soon as it is read and before the next is.

    Raises:
        ValueError: it is no JSON, or no object. Some items may have been handed over before it was found out.
    """
    found: Object = {}
    at = _after(text, _next(text, 0), "{")
    while text[at : at + 1] != "}":
        key, at = _decoded(text, at)
        if not isinstance(key, str):
            raise ValueError("a key is no text")
        at = _after(text, _next(text, at), ":")
        if key == "items" and text[at : at + 1] == "[":
            at = _items(text, at, take)
        else:
            found[key], at = _decoded(text, at)
        at = _separated(text, at, "}")
    if _next(text, at + 1) != len(text):
        raise ValueError("something follows the object")
    return found


def _items(text: str, at: int, take: Callable[[Object], None]) -> int:
    """Hands the items of an array over; gives where it has ended."""
    at = _after(text, at, "[")
    while text[at : at + 1] != "]":
        item, at = _decoded(text, at)
        take(item)
        at = _separated(text, at, "]")
    return at + 1


def _separated(text: str, at: int, end: str) -> int:
    """Gives where the next begins, behind a comma, or where the end is."""
    at = _next(text, at)
    if text[at : at + 1] == end:
        return at
    at = _after(text, at, ",")
    if text[at : at + 1] == end:
        raise ValueError("nothing follows a comma")
    return at


def _after(text: str, at: int, sign: str) -> int:
    if text[at : at + 1] != sign:
        raise ValueError(f"{sign} is missing")
    return _next(text, at + 1)


def _next(text: str, at: int) -> int:
    """Gives where the next sign is that is no white space."""
    found = _SPACE.match(text, at)
    return at if found is None else found.end()
