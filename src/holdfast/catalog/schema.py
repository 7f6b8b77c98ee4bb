"""The catalog's tables: one definition for SQLite and PostgreSQL.

Every name carries a prefix, so that a database which also holds something else is never touched
beyond our own tables. There are no migrations: `SCHEMA_VERSION` goes up with every change here,
and a catalog of another version is made anew from manifests and journals.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Double,
    Index,
    Integer,
    MetaData,
    Numeric,
    SmallInteger,
    Table,
    Text,
    text,
)

#: Raised by one with every change of a table or of the JSON documents inside.
SCHEMA_VERSION = "3"
PREFIX = "holdfast_"

# Bytewise order on both databases: names sort and compare the same wherever a store is indexed.
_Name = Text().with_variant(Text(collation="C"), "postgresql")
# SQLite numbers rows by itself only for a column that is spelled INTEGER.
_Sequence = BigInteger().with_variant(Integer(), "sqlite")

# Sums of what manifests claim, each up to 2^63: SQLite goes on in floating point by itself.
_Sum = BigInteger().with_variant(Numeric(40, 0), "postgresql")

metadata = MetaData()

meta = Table(
    f"{PREFIX}meta",
    metadata,
    Column("key", _Name, primary_key=True),
    Column("value", Text, nullable=False),
)

runs = Table(
    f"{PREFIX}runs",
    metadata,
    Column("name", _Name, primary_key=True),
    Column("created_at", Double, nullable=False),
    Column("status", Text, nullable=False),
    Column("document", Text, nullable=False),
)

#: How far into a run's journal and folder its rows reach; apart from `runs`, because either may
#: be written first. ``filling`` is another number each time that all rows of the run are written
#: anew: who follows them by the journal alone would not notice.
sync = Table(
    f"{PREFIX}sync",
    metadata,
    Column("run", _Name, primary_key=True),
    Column("journal_nbytes", BigInteger, nullable=False),
    Column("folder_mtime_ns", BigInteger, nullable=False),
    Column("filling", BigInteger, nullable=False),
)

pending = Table(
    f"{PREFIX}pending",
    metadata,
    Column("checkpoint", _Name, primary_key=True),
    Column("run", _Name, nullable=False),
)

#: ``rankable`` is 1 for what `best` and `latest` may answer with (full or weights, not damaged).
#: It stands in the middle of the indexes: an answer is their first entry, and a listing merges
#: two of their ranges instead of sorting.
checkpoints = Table(
    f"{PREFIX}checkpoints",
    metadata,
    Column("id", _Name, primary_key=True),
    Column("run", _Name, nullable=False),
    Column("step", BigInteger, nullable=False),
    Column("epoch", BigInteger),
    Column("created_at", Double, nullable=False),
    Column("kind", _Name, nullable=False),
    Column("code", _Name, nullable=False),
    Column("pinned", Boolean, nullable=False),
    Column("thinned", Boolean, nullable=False),
    Column("damaged", Boolean, nullable=False),
    Column("rankable", SmallInteger, nullable=False),
    Column("parent", _Name),
    Column("nbytes", BigInteger, nullable=False),
    Column("stored_nbytes", BigInteger, nullable=False),
    Column("generation", Integer, nullable=False),
    Column("document", Text, nullable=False),
)
# The columns behind the id let a filtered walk decide without reading the rows themselves.
_BY_TIME = (checkpoints.c.rankable, checkpoints.c.created_at, checkpoints.c.id)
_FILTERED = (checkpoints.c.step, checkpoints.c.kind, checkpoints.c.code)
Index(f"{PREFIX}checkpoints_newest", *_BY_TIME, checkpoints.c.run, *_FILTERED)
Index(f"{PREFIX}checkpoints_newest_of_run", checkpoints.c.run, *_BY_TIME, *_FILTERED)
Index(
    f"{PREFIX}checkpoints_at_step",
    checkpoints.c.run,
    checkpoints.c.step,
    checkpoints.c.created_at,
    checkpoints.c.id,
)
# Listings by these, and filters that ask for one value of them: newest first within the value.
for _column in ("step", "epoch", "nbytes", "kind", "code"):
    Index(
        f"{PREFIX}checkpoints_by_{_column}",
        checkpoints.c[_column],
        checkpoints.c.created_at,
        checkpoints.c.id,
    )
# Few rows are pinned, thinned or damaged, so these cost next to nothing to keep.
for _flag in (checkpoints.c.pinned, checkpoints.c.thinned, checkpoints.c.damaged):
    Index(
        f"{PREFIX}checkpoints_{_flag.name}",
        checkpoints.c.created_at,
        checkpoints.c.id,
        # Spelled as SQLAlchemy spells the question: SQLite compares the texts.
        sqlite_where=text(f"{_flag.name} = 1"),
        postgresql_where=_flag,
    )

#: Finite metric values only: what can rank. Exact values, NaN among them, are in the documents.
scores = Table(
    f"{PREFIX}scores",
    metadata,
    Column("checkpoint", _Name, primary_key=True),
    Column("name", _Name, primary_key=True),
    Column("run", _Name, nullable=False),
    Column("rankable", SmallInteger, nullable=False),
    Column("value", Double, nullable=False),
    Column("created_at", Double, nullable=False),
    sqlite_with_rowid=False,
)
_RANKED = (scores.c.rankable, scores.c.value, scores.c.created_at, scores.c.checkpoint)
Index(f"{PREFIX}scores_ranked", scores.c.name, *_RANKED)
Index(f"{PREFIX}scores_ranked_of_run", scores.c.run, scores.c.name, *_RANKED)

tags = Table(
    f"{PREFIX}tags",
    metadata,
    Column("checkpoint", _Name, primary_key=True),
    Column("tag", _Name, primary_key=True),
    Column("run", _Name, nullable=False),
    Column("created_at", Double, nullable=False),
    sqlite_with_rowid=False,
)
Index(f"{PREFIX}tags_newest", tags.c.tag, tags.c.created_at, tags.c.checkpoint)
Index(f"{PREFIX}tags_of_run", tags.c.run, tags.c.tag, tags.c.created_at, tags.c.checkpoint)

#: Which run holds which shard, and in how many of its checkpoints. What a checkpoint holds is in
#: its document; this is what tells when the first one of a run comes, and when the last one goes.
holdings = Table(
    f"{PREFIX}holdings",
    metadata,
    Column("run", _Name, primary_key=True),
    Column("shard", _Name, primary_key=True),
    Column("nbytes", BigInteger, nullable=False),
    Column("holders", BigInteger, nullable=False),
    sqlite_with_rowid=False,
)
Index(f"{PREFIX}holdings_of_shard", holdings.c.shard, holdings.c.run, holdings.c.nbytes)

#: What a run's checkpoints take, kept up with each write; under the empty name, what all of them
#: take. ``unique_nbytes`` are the bytes of shards that no other run holds.
totals = Table(
    f"{PREFIX}totals",
    metadata,
    Column("run", _Name, primary_key=True),
    Column("checkpoints", _Sum, nullable=False),
    Column("nbytes", _Sum, nullable=False),
    Column("stored_nbytes", _Sum, nullable=False),
    Column("unique_nbytes", _Sum, nullable=False),
)

metric_names = Table(
    f"{PREFIX}metric_names",
    metadata,
    Column("run", _Name, primary_key=True),
    Column("name", _Name, primary_key=True),
    sqlite_with_rowid=False,
)

steps = Table(
    f"{PREFIX}steps",
    metadata,
    Column("sequence", _Sequence, primary_key=True),
    Column("run", _Name, nullable=False),
    Column("step", BigInteger, nullable=False),
    Column("at", Double, nullable=False),
    Column("epoch", BigInteger),
    Column("saved", Boolean, nullable=False),
    Column("reason", Text, nullable=False),
    Column("metrics", Text, nullable=False),
)
Index(f"{PREFIX}steps_of_run", steps.c.run, steps.c.sequence)

decisions = Table(
    f"{PREFIX}decisions",
    metadata,
    Column("sequence", _Sequence, primary_key=True),
    Column("run", _Name, nullable=False),
    Column("at", Double, nullable=False),
    Column("fate", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("step", BigInteger, nullable=False),
    Column("checkpoint", _Name),
)
Index(f"{PREFIX}decisions_of_run", decisions.c.run, decisions.c.sequence)
Index(f"{PREFIX}decisions_of_step", decisions.c.run, decisions.c.step, decisions.c.sequence)
Index(
    f"{PREFIX}decisions_of_checkpoint",
    decisions.c.checkpoint,
    decisions.c.sequence,
    sqlite_where=text("checkpoint IS NOT NULL"),
    postgresql_where=text("checkpoint IS NOT NULL"),
)

times = Table(
    f"{PREFIX}times",
    metadata,
    Column("sequence", _Sequence, primary_key=True),
    Column("run", _Name, nullable=False),
    Column("checkpoint", _Name, nullable=False),
    Column("step", BigInteger, nullable=False),
    Column("at", Double, nullable=False),
    Column("stall_s", Double, nullable=False),
    Column("write_s", Double, nullable=False),
)
Index(f"{PREFIX}times_of_run", times.c.run, times.c.sequence)

#: What belongs to one run and goes with it, with the column that names the run. Holdings and totals
#: go with it, too, but other runs' totals change with them (`holdfast.catalog.shares`).
OF_RUN = (
    (runs, runs.c.name),
    (sync, sync.c.run),
    (pending, pending.c.run),
    (checkpoints, checkpoints.c.run),
    (scores, scores.c.run),
    (tags, tags.c.run),
    (metric_names, metric_names.c.run),
    (steps, steps.c.run),
    (decisions, decisions.c.run),
    (times, times.c.run),
)
