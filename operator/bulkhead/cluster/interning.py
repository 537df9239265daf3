"""Objects that are kept for long, with what they have in common stored once.

JSON is parsed document by document, so that 500 StatefulSets hold 500 times the same field names and values, and 500
times the same security contexts, probes and gates. `docs/performance.md` says what sharing them saves.
"""

from __future__ import annotations

from itertools import chain, repeat
from operator import is_
from sys import intern
from typing import Any, Final

_NOTHING: Final = object()
"""What stands at the place where nothing is."""


def interned(value: Any, *, like: Any = None) -> Any:
    """Returns an equal value that shares what it can; nobody may change it from then on, nor what it shares.

    Its strings are Python's interned ones, which go when nobody uses them any more. Whatever else is the same at the
    same place of `like` is that, and not a copy.

    Args:
        value: what JSON knows: dictionaries with strings for keys, lists, strings, numbers, booleans and None.
        like: what this function once returned for a value that may be similar; it need not be.
    """
    return intern(value) if type(value) is str else _shared(value, like)


def _shared(value: Any, like: Any) -> Any:
    """Does so for what is no string. Written for speed: it goes through every event of every watch."""
    kind = type(value)
    if kind is dict:
        return _shared_dict(value, like)
    if kind is list:
        return _shared_list(value, like)
    return like if kind is int and type(like) is int and value == like else value


def _shared_dict(value: dict[str, Any], like: Any) -> Any:
    made = {}
    other = like if type(like) is dict else {}
    same = other is like and len(value) == len(other)
    for name, one in value.items():
        key = intern(name)
        its = other.get(key, _NOTHING)
        made[key] = kept = intern(one) if type(one) is str else _shared(one, its)
        if kept is not its:
            same = False
    # Equal in another order is not the same.
    return like if same and all(map(is_, made, other)) else made


def _shared_list(value: list[Any], like: Any) -> Any:
    made = []
    items = like if type(like) is list else []
    same = items is like and len(value) == len(items)
    for one, its in zip(value, chain(items, repeat(_NOTHING)), strict=False):
        kept = intern(one) if type(one) is str else _shared(one, its)
        made.append(kept)
        if kept is not its:
            same = False
    return like if same else made
