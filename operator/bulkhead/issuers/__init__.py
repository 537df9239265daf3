"""Issuers of external credentials: one small interface, and what stands behind it.

Nothing here is imported before a credential asks for it: an operator whose agents need no database loads no driver.
"""
