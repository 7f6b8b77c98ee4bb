"""Snapshot, shards, commit, read back: a checkpoint as bytes."""
