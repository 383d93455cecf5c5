"""What can go wrong, by who is to blame; see each class for who is told."""

from __future__ import annotations


class ZabError(Exception):
    """Base of every error this project raises on purpose."""


class RemoteProtocolError(ZabError):
    """A peer broke the protocol: its link is closed, nothing else happens."""


class LocalProtocolError(ZabError):
    """Our own caller misused us; the caller must be fixed."""


class HistoryError(ZabError):
    """A batch or a zxid does not fit a history: a hole, a dead branch, a counter out of step."""


class StorageError(ZabError):
    """The disk holds something we must not go on with; the message names file and offset (L3)."""
