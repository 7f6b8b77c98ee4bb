"""Bytes on a medium: durable publishing, links as reference counts, locks, appends."""

from holdfast.storage.draft import Draft
from holdfast.storage.local import LocalStorage
from holdfast.storage.locks import FileLock
from holdfast.storage.moving import set_aside
from holdfast.storage.posix import Posix
from holdfast.storage.probe import Capabilities, probe
from holdfast.storage.survey import Identity, identity, survey

__all__ = [
    "Capabilities",
    "Draft",
    "FileLock",
    "Identity",
    "LocalStorage",
    "Posix",
    "identity",
    "probe",
    "set_aside",
    "survey",
]
