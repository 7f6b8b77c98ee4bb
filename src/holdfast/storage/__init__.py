"""Bytes on a medium: durable publishing, links as reference counts, locks, appends."""

from holdfast.storage.local import LocalStorage
from holdfast.storage.locks import FileLock
from holdfast.storage.posix import Posix
from holdfast.storage.probe import Capabilities, probe

__all__ = ["Capabilities", "FileLock", "LocalStorage", "Posix", "probe"]
