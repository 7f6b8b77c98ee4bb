"""The SQL index of all manifests and of the histories of metrics. No SQL stands anywhere else."""

from holdfast.catalog.database import Catalog
from holdfast.catalog.opening import CatalogState
from holdfast.catalog.queries import SyncState
from holdfast.catalog.tails import Cursor, Tail, Watcher
from holdfast.catalog.usage import RunUsage, Usage

__all__ = ["Catalog", "CatalogState", "Cursor", "RunUsage", "SyncState", "Tail", "Usage", "Watcher"]
