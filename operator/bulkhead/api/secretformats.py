"""Known formats of credentials, so that one is refused where only settings belong.

There it would be read by everyone who may read the object, stand in every backup of it, and outlive the agent. This is
no wall: who wants to hide a secret in a text can. So a pattern is as tight as its format is known, and what merely
resembles a credential passes.

The patterns are in the syntax that RE2 (CEL in the API server) and Python share, and they are short on purpose: the API
server estimates the cost of a rule as the greatest length of the text times the length of the pattern, and refuses a
CRD over its limit of 100 million. In `env` the whole table costs 57 million. For `command`, `args` and the like it
would be as much again: these are searched by the operator alone, which refuses the agent as it does any invalid one.
Python's own engine goes back and tries again, so a pattern must not have two ways to divide a text between its parts.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from bulkhead.api.fields import Rule

__all__ = ["FORMATS", "UNWRITTEN_RULES", "Format", "found", "message", "rules"]


@dataclass(frozen=True, slots=True)
class Format:
    """A format of credentials that texts are searched for.

    Attributes:
        name: what it is, with its article, for people.
        marks: of which every such credential has one. They are looked for first: Python finds a plain text a hundred
            times as fast as a pattern.
        pattern: found in a text that holds such a credential.
        source: where the format is described.
        whole: whether the pattern must match the text as a whole.
        unless: a part of a text that makes the same shape something else.
    """

    name: str
    marks: tuple[str, ...]
    pattern: str
    source: str
    whole: bool = False
    unless: str = ""

    def found_in(self, text: str) -> bool:
        """Tells whether the text holds such a credential."""
        for mark in self.marks:
            if mark in text:
                break
        else:
            return False
        if self.unless and self.unless in text:
            return False
        find = re.fullmatch if self.whole else re.search
        return find(self.pattern, text, re.ASCII) is not None

    def cel(self, text: str) -> str:
        """Returns the CEL expression that is true where `text`, one for a string, holds no such credential."""
        pattern = f"^{self.pattern}$" if self.whole else self.pattern
        absent = f"!{text}.matches(r'{pattern}')"
        return f"{absent} || {text}.contains('{self.unless}')" if self.unless else absent


FORMATS: Final = (
    Format(
        "an access key id of AWS",
        ("AKIA", "ASIA"),
        "A[KS]IA[A-Z2-7]{16}",
        "IAM User Guide, IAM identifiers: AKIA (access keys) and ASIA (temporary ones), then base 32",
    ),
    Format(
        "a token of GitHub",
        ("ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_"),
        r"\b(gh[pousr]|github_pat)_\w{22}",
        "GitHub Docs, About authentication to GitHub: token prefixes; 22 characters up to the next '_' in the new ones",
    ),
    Format(
        "a token of GitLab",
        ("glpat-",),
        r"glpat-[\w-]{20}",
        "GitLab Docs, Token overview: token prefixes",
    ),
    Format(
        "a token of Slack",
        ("xox",),
        r"xox[abeprs]-\d",
        "Slack API documentation, Token types",
    ),
    Format(
        "an API key of OpenAI, or of a service that took over its format",
        ("T3BlbkFJ", "sk-"),
        r"T3BlbkFJ|\bsk-\w{32}",
        "OpenAI's have base64 of 'OpenAI' in their middle (rules of gitleaks and TruffleHog), others sk- alone",
    ),
    Format(
        "an API key of Anthropic",
        ("sk-ant-",),
        r"sk-ant-\w+0\d-",
        "Anthropic, GitHub secret scanning partner patterns: sk-ant-api03-, sk-ant-admin01- and others",
    ),
    Format(
        "an API key of Google",
        ("AIza",),
        r"AIza[\w-]{35}",
        "Google Cloud documentation, Manage API keys: 39 characters that begin with AIza",
    ),
    Format(
        "a key of Stripe",
        ("k_live_",),
        r"\b[rs]k_live_\w",
        "Stripe documentation, API keys: sk_live_ (secret) and rk_live_ (restricted)",
    ),
    Format(
        "a token of Hugging Face",
        ("hf_",),
        r"\bhf_\w{34}",
        "Hugging Face Hub documentation, User access tokens",
    ),
    Format(
        "a token of Vault",
        ("hvs.", "hvb."),
        r"hv[bs]\.[\w-]{24}",
        "Vault documentation, Tokens: prefixes since version 1.10",
    ),
    Format(
        "a token of Vault or OpenBao",
        ("s.",),
        r"s\.\w{24}",
        "Vault documentation, Tokens: service tokens before version 1.10; OpenBao's to this day",
        whole=True,
    ),
    Format(
        "a private key",
        ("PRIVATE KEY-----",),
        r"PRIVATE KEY-{5}\W*\w{12}",
        "RFC 7468, and the older forms of OpenSSL and OpenSSH; line ends may be spelt out",
    ),
    Format(
        "a JSON web token",
        (".eyJ",),
        r"\w\.eyJ",
        'RFC 7519: two JSON objects in base64url (RFC 7515), each of which begins with {", joined by a dot',
    ),
    Format(
        "a URL with a password",
        ("://",),
        r'://[^/\s@[?":]*:[^/\s@"$<{*][^/\s@"?#]*@',
        "RFC 3986, section 3.2.1: user:password@; a placeholder ($, <, {, *) is no password",
        # docker-image://alpine:3.20@sha256:... is a tag and a digest.
        unless="@sha256:",
    ),
)


def found(text: str) -> Format | None:
    """Returns the first format of which the text holds a credential, or None."""
    return next((format for format in FORMATS if format.found_in(text)), None)


def message(format: Format) -> str:
    """Returns what would be accepted instead. The credential is not in it."""
    return (
        f"accepted is text without credentials, and this holds what looks like {format.name}: "
        "have it issued by spec.credentials, which delivers it as a file"
    )


def _lacks(format: Format, field: str = "") -> Callable[[Any], bool]:
    return lambda value: not format.found_in((getattr(value, field) if field else value) or "")


def rules(field: str) -> tuple[Rule, ...]:
    """Returns the rules for a model with a text that may hold no credential.

    They stand on the model and not on the text: the API server repeats a refused text in its answer, but not a refused
    object, and an answer ends up in terminals, in logs of pipelines and in the audit log.

    Args:
        field: name of the text, the same in the schema and in the model.
    """
    return tuple(
        Rule(
            f"!has(self.{field}) || {format.cel(f'self.{field}')}",
            message(format),
            _lacks(format, field),
            field=field,
        )
        for format in FORMATS
    )


UNWRITTEN_RULES: Final = tuple(Rule("", message(format), _lacks(format)) for format in FORMATS)
"""The same for a text itself, checked by the operator alone."""
