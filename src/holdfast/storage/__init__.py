"""Bytes on a medium: durable publishing, links as reference counts, locks, appends."""

from holdfast.storage.draft import Draft
from holdfast.storage.local import LocalStorage
from holdfast.storage.locks import FileLock, FolderGoneError
from holdfast.storage.moving import replace, set_aside
from holdfast.storage.posix import Posix
from holdfast.storage.probe import Capabilities, probe
from holdfast.storage.survey import Identity, identity, survey

__all__ = [
    "Capabilities",
    "Draft",
    "FileLock",
    "FolderGoneError",
    "Identity",
    "LocalStorage",
    "Posix",
    "identity",
    "probe",
    "replace",
    "set_aside",
    "survey",
]
