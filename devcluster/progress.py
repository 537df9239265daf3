"""Telling people what goes on: a live line on a terminal, start and done lines elsewhere."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import TextIO

from rich.console import Console
from rich.progress import Progress as LiveProgress
from rich.progress import SpinnerColumn, TextColumn, TimeElapsedColumn


class Progress:
    """Reports steps to a stream (standard error by default, so that standard output stays for results).

    Steps may be inside steps, and in several threads at the same time.
    """

    def __init__(
        self, stream: TextIO | None = None, *, clock: Callable[[], float] = time.monotonic, quiet: bool = False
    ) -> None:
        """Make a reporter.

        Args:
            stream: where to write.
            clock: seconds, for the times shown.
            quiet: write nothing.
        """
        self._console = Console(file=stream or sys.stderr, highlight=False, quiet=quiet)
        self._clock = clock
        self._live: LiveProgress | None = None
        self._lock = threading.Lock()

    def say(self, text: str) -> None:
        """Write one line."""
        self._console.print(text, markup=False, soft_wrap=True)

    @contextmanager
    def step(self, what: str) -> Iterator[None]:
        """Report a piece of work.

        That it began, that it goes on (terminals only), how long it took, or that it failed.
        """
        began = self._clock()
        if not self._console.is_terminal:
            self.say(f"… {what}")
        try:
            with self._spinning(what) if self._console.is_terminal else nullcontext():
                yield
        except BaseException:
            self.say(f"✗ {what} ({self._clock() - began:.1f} s)")
            raise
        self.say(f"✓ {what} ({self._clock() - began:.1f} s)")

    @contextmanager
    def _spinning(self, what: str) -> Iterator[None]:
        """Show a step on the one live display there is, which stays as long as any step does."""
        with self._lock:
            if self._live is None:
                columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False), TimeElapsedColumn())
                self._live = LiveProgress(*columns, console=self._console, transient=True)
                self._live.start()
            task = self._live.add_task(what, total=None)
            live = self._live
        try:
            yield
        finally:
            with self._lock:
                live.remove_task(task)
                if not live.tasks:
                    live.stop()
                    self._live = None
