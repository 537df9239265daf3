"""Taking out of a text whatever could be a secret, before it is kept anywhere.

The last lines of an agent's output tell why it ended, and the agent wrote them: a stack trace with a connection string
in it, a dump of the environment. They go into caches and into a status, which everybody with read access sees. So the
words of people stay and the rest goes: known formats of credentials (`api.secretformats`), what follows `password=` and
its like, credentials in URLs, and every token that looks chosen by a machine. Rather is a harmless number lost than a
key kept: who needs the whole output has the log.

This is no wall against an agent that wants to tell something: it can do that in words.
"""

from __future__ import annotations

import hashlib
import re
from itertools import pairwise
from typing import Final

from bulkhead.api.secretformats import FORMATS

MARK: Final = "[redacted]"
LONGEST: Final = 4096
"""Characters of a text that are looked at, the last ones; all others are dropped. A termination message has no more
bytes (Kubernetes, MaxContainerTerminationMessageLength)."""
KUBELET_BYTES: Final = 2048
"""What the kubelet takes of a log as a termination message (MaxContainerTerminationMessageLogLength)."""

REMEMBERED: Final = 2048
"""Messages whose redacted end is kept in memory."""

MIXED: Final = 6
"""Letters and digits mixed in so many characters or more are no word."""
WORD: Final = 32
"""Letters of the longest word that is kept: English ones end below 30."""
NUMBER: Final = 10
"""Digits of the longest number that is kept: seconds since 1970 are one."""
JUDGED: Final = 12
"""Letters from which a word is asked whether anybody could speak it."""

_KNOWN: Final = frozenset(
    "ascii85 base16 base32 base64 boto3 ed25519 float16 float32 float64 http2 iso8601 latin1 oauth2 psycopg2 python2 "
    "python3 sha224 sha256 sha384 sha512 sqlite3 uint16 uint32 uint64 urllib3 utf16 utf32".split()
)
"""Words of the trade that have digits in them."""

_MARKS: Final = re.compile("|".join(re.escape(mark) for one in FORMATS for mark in one.marks))
_STEMS: Final = tuple(
    "pass pwd secret token key auth credential cookie session sig bearer jwt salt nonce otp pin dsn seed "
    "mnemonic".split()
)
"""One of these is in every name of a secret: they are looked for first, for a plain text is found much faster."""
_COLOUR: Final = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_CONTROL: Final = re.compile(r"[^\S\n]|[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_PEM: Final = re.compile(r"-----BEGIN [^\n]{0,64}?-----.*?(?:-----END [^\n]{0,64}?-----|\Z)", re.DOTALL)
_USERINFO: Final = re.compile(r"""(?<=://)[^\s"']*@""")
_AFTER: Final = (
    r"(?:pass(?:word|wd|phrase|code)?|pwd|secret|token(?!s)|(?:api|access|private|secret|signing|encryption|account)"
    r"[-_. ]?key|(?<=[-_.])key|auth(?:orization)?|credential|cookie|session(?:[-_. ]?id)?|signature|sig|bearer|jwt"
    r"|salt|nonce|otp|pin|dsn|seed|mnemonic)s?"
)
_NAMED: Final = re.compile(
    rf"""(?i)({_AFTER}["'\]]{{0,2}}+\s{{0,4}}+(?:=>|:=|[=:])\s{{0,4}}+)(?!\[redacted\])"""
    r"""(?:"[^"\n]*(?:"|$)|'[^'\n]*(?:'|$)|[^\n]+)""",
    re.MULTILINE,
)
_FLAG: Final = re.compile(rf"(?i)((?:--?[\w-]{{0,40}}?{_AFTER}|\bbearer)[ ]{{1,4}}+)(?:\"[^\"\n]*\"?|\S+)")
_TIME: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,9})?(?:Z|[+-]\d\d:?\d\d)?[.:]?", re.ASCII)
_TOKEN: Final = re.compile(r"\S+")
_PIECE: Final = re.compile(r"[^\s\"'`()\[\]{}<>,;|]+")
_SEGMENT: Final = re.compile(r"[^/.:@\\?=]+")
_ATOM: Final = re.compile(r"[^\W_]+")
_ODD: Final = re.compile(r"[!$^&*#%+]")
_HUMP: Final = re.compile(r"(?<=[a-z])(?=[A-Z])")
_UNSPEAKABLE: Final = re.compile(r"[b-df-hj-np-tv-xz]{5}")


_remembered: dict[tuple[bytes, int], str] = {}


def redacted(text: str) -> str:
    """Returns a text without what could be a secret; the same again if it is given what it returned."""
    text = _CONTROL.sub(" ", _COLOUR.sub("", text[-LONGEST:]))
    text = _PEM.sub(MARK, text)
    text = _USERINFO.sub(f"{MARK}@", text)
    if _MARKS.search(text):
        text = _TOKEN.sub(lambda found: MARK if _is_known(found.group()) else found.group(), text)
    folded = text.casefold()
    if any(one in folded for one in _STEMS):
        text = _NAMED.sub(rf"\g<1>{MARK}", text)
        text = _FLAG.sub(rf"\g<1>{MARK}", text)
    return _PIECE.sub(lambda found: _piece(found.group()), text)


def tail(message: str, *, limit: int) -> str:
    """Returns the end of what a container wrote last, redacted, in at most so many characters.

    The kubelet cuts a log by bytes, maybe in the middle of a secret: of a message that is as long as it allows, what
    comes before the first gap is dropped.

    A pod's status is told again with each of its changes, so what was redacted is remembered: by a digest, for the
    message itself is what nothing shall keep. Of 2 KiB it takes a millisecond.
    """
    key = (hashlib.blake2b(message.encode(errors="replace"), digest_size=16).digest(), limit)
    found = _remembered.get(key)
    if found is None:
        while len(_remembered) >= REMEMBERED:
            _remembered.pop(next(iter(_remembered)))
        found = _remembered[key] = _tail(message, limit)
    return found


def _tail(message: str, limit: int) -> str:
    if len(message.encode(errors="replace")) >= KUBELET_BYTES:
        message = re.sub(r"^\S*", MARK, message, count=1)
    text = redacted(message).strip()
    return text if len(text) <= limit else "…" + text[1 - limit :]


def _is_known(token: str) -> bool:
    """Says whether a token holds a credential in a known format."""
    if not _MARKS.search(token):
        return False
    bare = token.strip("\"'`()[]{}<>,;:.")
    return any(one.found_in(bare if one.whole else token) for one in FORMATS)


def _piece(piece: str) -> str:
    """Returns what is kept of a piece without gaps, quotes and brackets: a word, a path, a number, a name in dots."""
    if len(piece) < MIXED or (len(piece) < JUDGED and piece.isalpha()) or _TIME.fullmatch(piece):
        return piece
    if _ODD.search(piece) and _is_mixed(piece):
        return MARK
    if not any(_is_secret(one) for one in _SEGMENT.findall(piece)):
        return piece
    # Base64 has slashes in it: beside a part of a secret only what is plainly a word is none.
    return _SEGMENT.sub(lambda found: found.group() if _is_plain(found.group()) else MARK, piece)


def _is_mixed(text: str) -> bool:
    return any(one.isalpha() for one in text) and any(one.isdigit() for one in text)


def _is_secret(segment: str) -> bool:
    """Says whether a segment looks chosen by a machine, as a whole or in one of its atoms."""
    atoms = _ATOM.findall(segment)
    mixed = sum(len(one) for one in atoms if _is_mixed(one) and one.lower() not in _KNOWN)
    digits = sum(len(one) for one in atoms if one.isdigit())
    return mixed >= 2 * MIXED or digits > NUMBER or any(map(_is_machine_made, atoms))


def _is_machine_made(atom: str) -> bool:
    if atom.isalpha():
        return len(atom) > WORD or (len(atom) >= JUDGED and _is_unspeakable(atom))
    return len(atom) > NUMBER or (len(atom) >= MIXED and _is_mixed(atom) and atom.lower() not in _KNOWN)


def _is_unspeakable(word: str) -> bool:
    """Says whether a long word has five consonants in a row, or changes between capitals and others all the time."""
    changes = sum(a.isupper() != b.isupper() for a, b in pairwise(word))
    return bool(_UNSPEAKABLE.search(_HUMP.sub(" ", word).lower())) or 5 * changes >= 2 * len(word)


def _is_plain(segment: str) -> bool:
    return not _is_secret(segment) and all(
        (one.isalpha() and (one.islower() or one.istitle())) or (one.isdigit() and len(one) <= 4)
        for one in _ATOM.findall(segment)
    )
