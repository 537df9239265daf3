"""Decisions, as pure functions of what was observed and of the time."""
