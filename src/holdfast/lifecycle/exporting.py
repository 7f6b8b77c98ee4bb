"""A checkpoint in forms that need no Holdfast: verified while it is copied, whole or not there."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import secrets
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from holdfast import frameworks
from holdfast.engine import reader
from holdfast.engine.manifest import Manifest
from holdfast.engine.sealed import encode_numbers
from holdfast.errors import ConfigError, SaveError, StorageFullError
from holdfast.lifecycle.loading import load_item, telling_deleted
from holdfast.lifecycle.place import Place
from holdfast.lifecycle.plainfiles import Tensors, index_of, split, write_tensors

#: What says what an exported folder is, for people and for `holdfast import`.
DESCRIPTION: Final = "checkpoint.json"
#: Files of more than this are split, as Hugging Face's tools do; they read any size.
SHARD_NBYTES: Final = 5 * 10**9

_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})
#: Bytes of a name, on nearly every medium.
_MAX_NAME: Final = 255
_MODEL: Final = "model"
#: Where people keep what a Hugging Face `config.json` holds.
_MODEL_CONFIGS: Final = ("config.json", "model_config", "hf_config")


def export(
    place: Place,
    manifest: Manifest,
    path: Path,
    *,
    format: str,
    item: str | None = None,
    shard_nbytes: int = SHARD_NBYTES,
) -> Path:
    """Writes a checkpoint in a form that needs no Holdfast.

    It is written under a temporary name beside `path`, and renamed when all of it is there.

    Args:
        place: The store.
        manifest: The checkpoint.
        path: What to write; it must not exist yet, its folder must.
        format: ``"safetensors"``: a folder with one file per item, and ``checkpoint.json`` with
            everything that is no tensor. ``"huggingface"``: a folder with the tensors of one
            item and ``config.json``. ``"torch"``: one ``.pt`` file with a dict of items, for
            ``torch.load(weights_only=True)``.
        item: Only this item; ``"torch"`` writes its state alone then. ``"huggingface"`` takes the
            item ``model``, or the only one that has tensors, where it is left out.
        shard_nbytes: Where ``"huggingface"`` begins another file.

    Returns:
        What was written.

    Raises:
        ConfigError: An unknown format, the path is taken, or the item is not clear.
        NotFoundError: No such item.
        IntegrityError, FormatError: Something is damaged; nothing is left behind.
        SaveError, StorageFullError: It could not be written; nothing is left behind.
    """
    writers: Mapping[str, Callable[[Path], None]] = {
        "safetensors": lambda target: _write_safetensors(place, manifest, target, item),
        "huggingface": lambda target: _write_hugging_face(
            place, manifest, target, item, shard_nbytes
        ),
        "torch": lambda target: _write_torch(place, manifest, target, item),
    }
    if format not in writers:
        raise ConfigError(
            f"format={format!r} is no format of an export",
            hint=f"pass one of {', '.join(map(repr, writers))}",
        )
    if item is not None:
        reader.stored_item(manifest, item)
    path = path.expanduser().absolute()
    _require_free(path)
    chosen = manifest.items if item is None else [item]
    with _temporary(path) as target, telling_deleted(place, manifest, chosen):
        writers[format](target)
        _require_free(path)
        target.rename(path)
        _sync_folder(path.parent)
    return path


# -- formats -----------------------------------------------------------------------------------


def _write_safetensors(place: Place, manifest: Manifest, folder: Path, item: str | None) -> None:
    folder.mkdir()
    chosen = [item] if item is not None else list(manifest.items)
    described: dict[str, object] = {}
    for name in chosen:
        file = f"{name}.safetensors"
        tensors = _tensors(place, manifest, name)
        if tensors:
            write_tensors(place.storage, folder / file, tensors)
        described[name] = {
            "file": file if tensors else None,
            "skeleton": manifest.items[name].skeleton,
        }
    _write_json(folder / DESCRIPTION, {**_description(place, manifest), "items": described})
    _sync_folder(folder)


def _write_hugging_face(
    place: Place, manifest: Manifest, folder: Path, item: str | None, shard_nbytes: int
) -> None:
    name = item if item is not None else _only_model(manifest)
    groups = split(_tensors(place, manifest, name), limit=shard_nbytes)
    folder.mkdir()
    files: dict[str, Tensors] = {}
    for number, tensors in enumerate(groups, start=1):
        suffix = f"-{number:05d}-of-{len(groups):05d}" if len(groups) > 1 else ""
        files[f"model{suffix}.safetensors"] = tensors
    for file, tensors in files.items():
        write_tensors(place.storage, folder / file, tensors)
    if len(files) > 1:
        _write_json(folder / "model.safetensors.index.json", index_of(files))
    config = _model_config(manifest)
    if config:
        _write_json(folder / "config.json", config)
    _write_json(folder / DESCRIPTION, _description(place, manifest))
    _sync_folder(folder)


def _write_torch(place: Place, manifest: Manifest, file: Path, item: str | None) -> None:
    torch = frameworks.load("torch")
    if torch is None:
        raise ConfigError(
            "the format 'torch' needs torch, which is not installed",
            hint="install torch, or export as 'safetensors'",
        )
    if not manifest.items:
        raise ConfigError(
            f"{manifest.id} holds no items, only metrics, so there is nothing for a .pt file",
            hint="export it as 'safetensors': its checkpoint.json holds the metrics",
        )
    chosen = [item] if item is not None else list(manifest.items)
    states = {name: load_item(place, manifest, name) for name in chosen}
    torch.write_file(states if item is None else states[item], file)
    with file.open("rb") as written:
        os.fsync(written.fileno())


# -- parts -------------------------------------------------------------------------------------


def _tensors(place: Place, manifest: Manifest, item: str) -> Tensors:
    """Returns an item's tensors by name, tied ones under each of their names."""
    return dict(sorted(reader.locate(place.storage, manifest, item).items()))


def _only_model(manifest: Manifest) -> str:
    with_arrays = [name for name, item in manifest.items.items() if item.shards]
    if _MODEL in with_arrays:
        return _MODEL
    if len(with_arrays) == 1:
        return with_arrays[0]
    raise ConfigError(
        f"{manifest.id} does not say which of its items is the model: "
        f"{', '.join(with_arrays) or 'none has tensors'}",
        hint="pass item=" if with_arrays else "choose a checkpoint that holds a model",
    )


def _model_config(manifest: Manifest) -> Mapping[str, Any]:
    for holder in (manifest.metadata, manifest.config):
        for key in _MODEL_CONFIGS:
            if isinstance(holder.get(key), dict):
                return dict(holder[key])
    return manifest.config


def _description(place: Place, manifest: Manifest) -> dict[str, object]:
    known = place.catalog.get(manifest.id)
    metrics = known.info.metrics if known is not None else manifest.metrics
    return {
        "holdfast": 1,
        "id": manifest.id,
        "run": manifest.run,
        "step": manifest.step,
        "epoch": manifest.epoch,
        "created_at": manifest.created_at,
        "reason": manifest.reason,
        "kind": manifest.kind,
        "thinned": list(manifest.thinned),
        "parent": manifest.parent,
        "metrics": encode_numbers(metrics),
        "metadata": encode_numbers(manifest.metadata),
        "config": encode_numbers(manifest.config),
    }


def _write_json(path: Path, value: object) -> None:
    with path.open("xb") as file:
        file.write(json.dumps(value, indent=2, allow_nan=False).encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())


# -- whole or not there ------------------------------------------------------------------------


def _require_free(path: Path) -> None:
    if "\0" in str(path) or len(os.fsencode(path.name)) > _MAX_NAME:
        raise ConfigError(
            f"{str(path)!r:.300} cannot be the name of a file", hint="choose a shorter, plain one"
        )
    if os.path.lexists(path):
        raise ConfigError(f"{path} exists already", hint="choose a path that does not exist yet")
    if not path.parent.is_dir():
        raise ConfigError(
            f"the folder {path.parent} does not exist", hint="create it, or choose another path"
        )


@contextlib.contextmanager
def _temporary(path: Path) -> Iterator[Path]:
    """Gives a name beside a path, and takes away what is left under it."""
    target = path.with_name(f".{path.name[: _MAX_NAME // 4]}.tmp-{secrets.token_hex(4)}")
    try:
        yield target
    except OSError as error:
        raise _failed(path, error) from error
    finally:
        if target.is_dir():
            shutil.rmtree(target, ignore_errors=True)
        else:
            target.unlink(missing_ok=True)


def _failed(path: Path, error: OSError) -> SaveError | StorageFullError:
    reason = error.strerror or str(error)
    kind = StorageFullError if error.errno in _FULL else SaveError
    return kind(f"exporting to {path} failed: {reason}", hint="nothing was left there")


def _sync_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
