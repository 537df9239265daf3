"""What is kept of an agent's last words, and what is not."""

from __future__ import annotations

import base64
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bulkhead.api import secretformats
from bulkhead.plan import redaction
from bulkhead.plan.redaction import MARK, redacted, tail

KEPT = {
    "a sentence": "the tool answered 503 three times, giving up after 5.3 s",
    "a place in a stack trace": 'File "/usr/lib/python3.11/site-packages/app/main.py", line 42, in <module>',
    "an exception": "MemoryError: createHttpServerFactory failed in getURLs",
    "an address": "connect to 10.0.0.1:8080 or [fd00::1]:80: connection refused",
    "a name in a cluster": "warehouse.lab.svc.cluster.local of pod scout-0",
    "a time": "2026-03-01T12:00:00.123456Z and 2026-03-01T12:00:00+02:00: done",
    "a time of a logger": "2026-03-01 12:00:00,123 ERROR scout: no route",
    "a version": "openssl 3.0.15 and v1.36.2 with sha256",
    "counts": "used 512 tokens of 100000 in 17 calls, exit code 137",
    "other languages": "Überlauf im Zähler, メモリ不足 です",
    "an identifier": "KeyError: 'agent' in handle_tool_call",
    "lines": "first\nsecond\tthird\n",
    "a URL without a password": "GET https://warehouse.lab.svc/v1/items gave 404",
    "nothing": "",
}


@pytest.mark.parametrize("text", KEPT.values(), ids=KEPT)
def test_the_words_of_people_are_kept(text: str) -> None:
    assert redacted(text) == text.replace("\t", " ")


GONE = {
    "a password in a URL": ("cannot reach postgresql://bob:correct@db.lab:5432/x", "correct"),
    "a password with slashes in a URL": ("amqp://bob:co/rr/ect@mq.lab", "rr"),
    "a named value": ("password=correct", "correct"),
    "a named value with gaps": ("Password : correct horse battery", "horse"),
    "a named value in quotes": ("{'db_password': 'correct horse', 'other': 'stays'}", "horse"),
    "a named value in quotes that never end": ('"secret": "correct horse', "horse"),
    "a variable": ("WAREHOUSE_KEY=correct", "correct"),
    "a key of two words": ("api key: correct", "correct"),
    "a header": ("> Authorization: Basic dXNlcjpwYXNz", "dXNlcjpwYXNz"),
    "a cookie": ("Set-Cookie: sid=abc; Path=/", "abc"),
    "a bearer": ("sent Bearer correct to the gateway", "correct"),
    "a flag": ("exec: tool --api-token correct --verbose", "correct"),
    "a password by its looks": ("it was hunter2", "hunter2"),
    "a password with signs": ("it was p4$$wd!", "p4$$wd!"),
    "hexadecimal digits": ("digest 3f5a9c1d", "3f5a9c1d"),
    "a UUID": ("3f5a9c1d-aaaa-4bbb-8ccc-0123456789ab", "aaaa"),
    "a licence key": ("AB12-CD34-EF56-GH78", "CD34"),
    "the number of a card": ("4111-1111-1111-1111", "4111"),
    "base64 with slashes": ("got Ab3/xYz9kLmPq/Qx+7== there", "Qx+7"),
    "letters nobody could speak": ("it was xkqzvbnmwrtp", "xkqzvbnmwrtp"),
    "letters with capitals in between": ("it was aBcDeFgHiJkLm", "aBcDeFgHiJkLm"),
    "a very long word": ("a" * 33, "aaaa"),
    "a value of a query": ("GET /v1?signature=correct", "correct"),
    "a private key": ("-----BEGIN RSA PRIVATE KEY-----\nMIIabc\nxyz\n-----END RSA PRIVATE KEY-----", "MIIabc"),
    "a private key that is cut off": ("-----BEGIN PRIVATE KEY-----\nMIIabc\nxyz", "xyz"),
    "what is coloured": ("pass\x1b[31mword=correct", "correct"),
}


@pytest.mark.parametrize(("text", "secret"), GONE.values(), ids=GONE)
def test_what_could_be_a_secret_is_taken_out(text: str, secret: str) -> None:
    found = redacted(text)
    assert secret not in found
    assert MARK in found


def test_what_stands_beside_a_secret_is_kept() -> None:
    text = 'ERROR {"password": "correct horse", "tool": "search"} failed on https://bob:x@gateway.lab/v1'
    assert redacted(text) == f'ERROR {{"password": {MARK}, "tool": "search"}} failed on https://{MARK}@gateway.lab/v1'


def test_a_number_after_a_plural_of_tokens_is_a_count() -> None:
    assert redacted("tokens: 512, seconds: 3") == "tokens: 512, seconds: 3"


GAPS = st.sampled_from([" ", "\n", "'", '"', ", ", " (", ") ", "; ", "<", ">", " = ", ": "])
MACHINE_MADE = st.one_of(
    st.binary(min_size=12, max_size=64).map(lambda raw: raw.hex()),
    st.binary(min_size=18, max_size=64).map(lambda raw: base64.b64encode(raw).decode()),
    st.binary(min_size=18, max_size=64).map(lambda raw: base64.urlsafe_b64encode(raw).decode()),
    st.text("ABCDEFGHIJKLMNOPQRSTUVWXYZ234567", min_size=16, max_size=64),
    st.uuids().map(str),
).filter(lambda token: any(one.isdigit() for one in token) and any(one.isalpha() for one in token))
WORDS = st.lists(st.sampled_from("the tool call failed with status and was given up at line".split()), max_size=6)


def _parts(token: str) -> list[str]:
    """The parts of a token that mix letters and digits: these betray something of it."""
    return [token[at : at + 8] for at in range(len(token) - 7)]


@given(before=WORDS, gap=GAPS, token=MACHINE_MADE, other=GAPS, after=WORDS)
def test_no_eight_characters_of_a_random_token_are_kept(
    before: list[str], gap: str, token: str, other: str, after: list[str]
) -> None:
    found = redacted(" ".join(before) + gap + token + other + " ".join(after))
    kept = [one for one in _parts(token) if one in found]
    # Zeros, or letters alone that make a word by chance, tell nothing.
    assert [one for one in kept if any(map(str.isdigit, one)) and any(map(str.isalpha, one))] == []


@given(
    name=st.sampled_from(["password", "DB_PASSWORD", "client-secret", "apiKey", "auth", "token"]),
    sign=st.sampled_from(["=", ": ", " = ", " => ", '": ']),
    value=st.text(st.characters(codec="ascii"), min_size=1),
)
def test_nothing_of_a_named_value_is_kept(name: str, sign: str, value: str) -> None:
    value = "".join(value.split()).strip("\"'[]") + "secretvalue"
    assert "secretvalue" not in redacted(f"{name}{sign}{value}")


@given(st.text(max_size=400) | st.text("pasword=: ://@.-_'\"[]{}BEGIN\naA1+/", max_size=200))
def test_what_was_redacted_once_is_not_changed_again(text: str) -> None:
    once = redacted(text)
    assert redacted(once) == once


@given(st.text(max_size=200), st.sampled_from(secretformats.FORMATS))
def test_no_known_credential_is_left_whatever_is_around_it(text: str, known: secretformats.Format) -> None:
    found = redacted(text + known.marks[0] + text)
    assert [one.name for one in secretformats.FORMATS for token in found.split() if one.found_in(token)] == []


LONG = {
    "one word": "a" * redaction.LONGEST,
    "keys without ends": "-----BEGIN a-----" * 300,
    "colons and slashes": "://a:" * 900,
    "names of secrets": "password" * 600,
    "flags": "--a" * 1400,
    "quotes": "token:'" * 700,
    "dots": "a.1/" * 1100,
}


@pytest.mark.parametrize("text", LONG.values(), ids=LONG)
def test_a_hostile_text_takes_no_longer_than_another(text: str) -> None:
    began = time.thread_time()
    redacted(text * 4)
    assert time.thread_time() - began < 2.0


def test_of_a_long_message_the_end_is_kept() -> None:
    found = tail("first line\n" + "words and words\n" * 100 + "the end", limit=64)
    assert found.startswith("…")
    assert found.endswith("words and words\nthe end")
    assert len(found) == 64


def test_what_the_kubelet_cut_in_the_middle_is_dropped() -> None:
    cut = "rest of a secret"
    assert tail(f"correct{'-' * 10} {'words ' * 339}", limit=4096).startswith(f"{MARK} words")
    assert tail(cut, limit=64) == cut


def test_what_is_remembered_of_messages_is_bounded_and_holds_none_of_them() -> None:
    secret = "password=correct-horse"
    for number in range(redaction.REMEMBERED + 10):
        tail(f"{secret} {number}", limit=64)
    assert len(redaction._remembered) == redaction.REMEMBERED
    assert "horse" not in repr(redaction._remembered)
    assert tail(f"{secret} 5", limit=64) == tail(f"{secret} 5", limit=64) == f"password={MARK}"
    assert tail("words and words", limit=8) == "…d words"
