"""The one exception that devcluster raises on purpose."""

from __future__ import annotations


class DevclusterError(Exception):
    """Something people can act on: its text says what was wanted, what happened, and where to look.

    The command line prints the text without a traceback; any other exception is a bug and keeps its traceback.
    """
