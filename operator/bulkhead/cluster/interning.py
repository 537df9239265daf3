"""Objects that are kept for long, with what they have in common stored once.

JSON is parsed document by document, so that 500 StatefulSets hold 500 times the same field names and values, and 500
times the same security contexts, probes and gates. `docs/performance.md` says what sharing them saves.
"""

from __future__ import annotations

from collections.abc import Collection
from itertools import zip_longest
from operator import is_
from sys import intern
from typing import Any


def interned(value: Any, *, like: Any = None) -> Any:
    """Returns an equal value that shares what it can; nobody may change it from then on, nor what it shares.

    Its strings are Python's interned ones, which go when nobody uses them any more. Whatever else is the same at the
    same place of `like` is that, and not a copy.

    Args:
        value: what JSON knows: dictionaries with strings for keys, lists, strings, numbers, booleans and None.
        like: what this function once returned for a value that may be similar; it need not be.
    """
    if type(value) is str:
        return intern(value)
    if type(value) is dict:
        other = like if type(like) is dict else {}
        made = {intern(key): interned(one, like=other.get(key)) for key, one in value.items()}
        return like if other is like and _are_same(made, other) and _are_same(made.values(), other.values()) else made
    if type(value) is list:
        items = like if type(like) is list else []
        parts = [interned(one, like=like_one) for one, like_one in zip_longest(value, items[: len(value)])]
        return like if items is like and _are_same(parts, items) else parts
    if type(value) is int and type(like) is int and value == like:
        return like
    return value


def _are_same(mine: Collection[Any], others: Collection[Any]) -> bool:
    """Says whether the two have the very same items in the same order, and do not merely have equal ones."""
    return len(mine) == len(others) and all(map(is_, mine, others))
