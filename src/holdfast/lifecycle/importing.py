"""Checkpoints of other tools: safetensors files, torch's own files, Hugging Face's folders."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeGuard, cast

from holdfast import frameworks, tree
from holdfast.engine.names import is_item
from holdfast.engine.sealed import check_nesting, decode_metrics, parse_strict
from holdfast.engine.shardfile import TensorEntry
from holdfast.errors import ConfigError, FormatError
from holdfast.lifecycle.exporting import DESCRIPTION
from holdfast.lifecycle.plainfiles import open_plain, read_tensors
from holdfast.model import KINDS, Kind

_MODEL: Final = "model"
_TORCH: Final = (".pt", ".pth", ".bin", ".ckpt")
_SAFETENSORS: Final = ".safetensors"
_INDEX: Final = ".index.json"
#: Whole files that Hugging Face's tools write, in the order in which they look for them.
_WEIGHTS: Final = ("model.safetensors", "pytorch_model.bin")
_STATE_DICT: Final = re.compile(r"_?state_?dict$", re.IGNORECASE)
_NO_NAME: Final = re.compile(r"[^A-Za-z0-9._-]+")
_STEPS: Final = ("step", "global_step", "iteration")

#: What a file in a description may be called: no medium takes longer names.
_MAX_NAME: Final = 255
#: What an index, a configuration or a description may have.
_JSON_NBYTES: Final = 64 << 20
#: What an index holds.
_INTEGERS: Final = 1 << 63

#: safetensors dtype to torch's name of it.
_TENSORS: Final[Mapping[str, str]] = {
    "F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16",
    "F8_E4M3": "float8_e4m3fn", "F8_E5M2": "float8_e5m2", "C64": "complex64",
    "I64": "int64", "I32": "int32", "I16": "int16", "I8": "int8",
    "U64": "uint64", "U32": "uint32", "U16": "uint16", "U8": "uint8", "BOOL": "bool",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Foreign:
    """What was read from another tool's files.

    Attributes:
        items: Item name to its state: what a run can attach.
        step: Training step, where the files say it.
        epoch: Epoch, where the files say it.
        metrics: Metric name to value.
        config: The model's or the run's configuration.
        metadata: Whatever else the files say, and where they were.
        kind: ``weights`` where there is a model and nothing else.
    """

    items: Mapping[str, object]
    step: int | None = None
    epoch: int | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)
    metadata: Mapping[str, Any] = field(default_factory=dict)
    kind: Kind = "weights"


def read_foreign(path: Path) -> Foreign:
    """Returns what another tool's checkpoint holds; no code in it runs.

    Args:
        path: A ``.safetensors`` file; a file of torch's (``.pt``, ``.pth``, ``.bin``, ``.ckpt``);
            a folder of safetensors files, with or without an index; a checkpoint folder of
            Hugging Face's tools; or what `Checkpoint.export` wrote.

    Raises:
        ConfigError: There is nothing there, or nothing that is understood.
        FormatError: A file is damaged, or cannot be read without running code in it.
    """
    path = path.expanduser().absolute()
    if path.is_dir():
        return _read_folder(path)
    if not path.exists():
        raise ConfigError(f"there is nothing at {path}", hint="check the path")
    if path.name.endswith(_SAFETENSORS + _INDEX):
        return Foreign({_MODEL: _indexed(path)}, metadata=_origin(path))
    if path.suffix == _SAFETENSORS:
        return Foreign({_MODEL: _plain_tensors(path)}, metadata=_origin(path))
    if path.suffix in _TORCH:
        return _of_torch(path)
    raise ConfigError(
        f"{path} is no kind of file that can be imported",
        hint=f"pass {_SAFETENSORS}, {', '.join(_TORCH)}, or a folder of them",
    )


# -- folders -----------------------------------------------------------------------------------


def _read_folder(folder: Path) -> Foreign:
    if (folder / DESCRIPTION).is_file():
        described = _json(folder / DESCRIPTION)
        if "items" in described:
            return _exported(folder, described)
    else:
        described = {}
    state = _weights(folder)
    config = _json(folder / "config.json") if (folder / "config.json").is_file() else {}
    trainer = folder / "trainer_state.json"
    step, epoch, metrics = _trainer(_json(trainer)) if trainer.is_file() else (None, None, {})
    if described:
        step, epoch, metrics = _described(described, folder)
    return Foreign(
        items=state if isinstance(state, dict) and _is_split(folder) else {_MODEL: state},
        step=step,
        epoch=epoch,
        metrics=metrics,
        config=config,
        metadata={**_origin(folder), **_object(described, "metadata", folder)},
        kind="full" if _is_split(folder) else "weights",
    )


def _is_split(folder: Path) -> bool:
    """Returns whether a folder holds several files that are items of their own, side by side."""
    if _weights_file(folder) is not None:
        return False
    return len(_plain_files(folder)) > 1


def _weights_file(folder: Path) -> Path | None:
    for name in _WEIGHTS:
        for file in (folder / f"{name}{_INDEX}", folder / name):
            if file.is_file():
                return file
    others = sorted(folder.glob(f"*{_SAFETENSORS}{_INDEX}"))
    return others[0] if len(others) == 1 else None


def _plain_files(folder: Path) -> list[Path]:
    return sorted(folder.glob(f"*{_SAFETENSORS}"))


def _weights(folder: Path) -> object:
    file = _weights_file(folder)
    if file is not None:
        if file.name.endswith(_INDEX):
            return _indexed(file)
        return _plain_tensors(file) if file.suffix == _SAFETENSORS else _torch_file(file)
    files = _plain_files(folder)
    if not files:
        raise ConfigError(
            f"{folder} holds no weights that can be imported",
            hint=f"it needs {' or '.join(_WEIGHTS)}, or other {_SAFETENSORS} files",
        )
    if len(files) == 1:
        return _plain_tensors(files[0])
    items: dict[str, object] = {}
    for file in files:
        _add(items, file.stem, _plain_tensors(file), folder)
    return items


def _indexed(index: Path) -> dict[str, object]:
    """Returns the tensors of all files that an index names."""
    weight_map = _object(_json(index), "weight_map", index)
    if not all(isinstance(file, str) for file in weight_map.values()):
        raise FormatError(f"{index} names files that are no names", hint="fetch it again")
    files = sorted(set(weight_map.values()))
    state: dict[str, object] = {}
    for name in files:
        if Path(name).name != name or name.startswith(".") or len(name) > _MAX_NAME:
            raise FormatError(
                f"{index} names the file {name!r:.300}, which lies elsewhere", hint="do not use it"
            )
        file = index.parent / name
        if not file.is_file():
            raise FormatError(f"{file} is missing, and {index.name} names it", hint="fetch it")
        part = _plain_tensors(file) if file.suffix == _SAFETENSORS else _torch_file(file)
        if not isinstance(part, dict):
            raise FormatError(f"{file} holds no dict of tensors", hint="fetch it again")
        state.update(part)
    missing = sorted(weight_map.keys() - state.keys())
    if missing:
        raise FormatError(
            f"{index} names {missing[0]!r}, which none of its files holds", hint="fetch them again"
        )
    return state


def _exported(folder: Path, described: Mapping[str, Any]) -> Foreign:
    """Returns an export of ours as it was: the description holds what is no tensor."""
    items: dict[str, object] = {}
    for name, member in _object(described, "items", folder).items():
        if not is_item(name):
            raise FormatError(
                f"{folder / DESCRIPTION} names the item {name!r:.300}, which is no name of one",
                hint="do not use it",
            )
        file = member.get("file") if isinstance(member, dict) else None
        if not isinstance(member, dict) or file not in (None, f"{name}{_SAFETENSORS}"):
            raise FormatError(
                f"{folder / DESCRIPTION} is wrong about {name!r}", hint="export it anew"
            )
        data = read_tensors(folder / file)[1] if file else {}
        items[name] = tree.unflatten(member.get("skeleton"), data)
    step, epoch, metrics = _described(described, folder)
    kind = described.get("kind")
    for part in ("config", "metadata"):
        check_nesting(_object(described, part, folder), what=f"{folder / DESCRIPTION}: its {part}")
    return Foreign(
        items=items,
        step=step,
        epoch=epoch,
        metrics=metrics,
        config=_object(described, "config", folder),
        metadata={**_origin(folder), **_object(described, "metadata", folder)},
        kind=kind if kind in KINDS else "full",
    )


def _described(
    described: Mapping[str, Any], folder: Path
) -> tuple[int | None, int | None, dict[str, float]]:
    metrics = decode_metrics(described.get("metrics", {}), path=str(folder / DESCRIPTION))
    return _count(described.get("step")), _count(described.get("epoch")), metrics


def _trainer(state: Mapping[str, Any]) -> tuple[int | None, int | None, dict[str, float]]:
    """Returns step, epoch and the metrics logged last, from the state of Hugging Face's trainer."""
    step, epoch = _count(state.get("global_step")), state.get("epoch")
    metrics: dict[str, float] = {}
    log = state.get("log_history")
    for row in log if isinstance(log, list) else []:
        if isinstance(row, dict) and (step is None or (_count(row.get("step", 0)) or 0) <= step):
            metrics.update(
                (name, float(value))
                for name, value in row.items()
                if name not in {"step", "epoch"} and _is_number(value)
            )
    reached = float(epoch) if _is_number(epoch) else math.nan
    return step, _count(math.floor(reached)) if math.isfinite(reached) else None, metrics


# -- files -------------------------------------------------------------------------------------


def _plain_tensors(path: Path) -> dict[str, object]:
    """Returns the tensors of a safetensors file by name; of torch where that is installed."""
    entries, data = read_tensors(path)
    skeleton = {name: _node(entry) for name, entry in entries.items()}
    return cast("dict[str, object]", tree.unflatten(skeleton, data))


def _node(entry: TensorEntry) -> frameworks.JSON:
    shape: list[frameworks.JSON] = list(entry.shape)
    return {"$": "tensor", "array": entry.name, "dtype": _TENSORS[entry.dtype], "shape": shape}


def _torch_file(path: Path) -> object:
    torch = frameworks.load("torch")
    if torch is None:
        raise ConfigError(
            f"{path.name} is a file of torch's, and torch is not installed",
            hint="install torch, or pass safetensors files",
        )
    # It must be a file: torch would wait for what writes into a pipe.
    open_plain(path).close()
    return torch.read_file(path)


def _of_torch(path: Path) -> Foreign:
    held = _torch_file(path)
    parts = held if isinstance(held, dict) else {}
    nested = {key: part for key, part in parts.items() if isinstance(part, (dict, list)) and part}
    if not nested or any(_is_tensor(part) for part in parts.values()):
        return Foreign({_MODEL: held}, metadata=_origin(path))
    items: dict[str, object] = {}
    for key, part in nested.items():
        _add(items, _STATE_DICT.sub("", str(key)) or _MODEL, part, path)
    rest = {str(key): part for key, part in parts.items() if key not in nested}
    step = next(
        (_count(rest.pop(key)) for key in _STEPS if _count(rest.get(key)) is not None), None
    )
    epoch = _count(rest.get("epoch"))
    return Foreign(
        items=items,
        step=step,
        epoch=epoch,
        metrics={key: float(part) for key, part in rest.items() if type(part) is float},
        metadata={
            **_origin(path),
            **{k: v for k, v in rest.items() if type(v) in (int, str, bool) and k != "epoch"},
        },
        kind="weights" if set(items) == {_MODEL} else "full",
    )


def _add(items: dict[str, object], text: str, part: object, path: Path) -> None:
    name = _item_name(text)
    if name in items:
        raise FormatError(
            f"{path} holds two parts that would both be the item {name!r}",
            hint="save them under other names",
        )
    items[name] = part


# -- small things ------------------------------------------------------------------------------


def _json(path: Path) -> dict[str, Any]:
    # Other tools write NaN into JSON; what they log is no state, so it is read as text.
    with open_plain(path) as file:
        data = file.read(_JSON_NBYTES + 1)
    if len(data) > _JSON_NBYTES:
        raise FormatError(
            f"{path} has more than the {_JSON_NBYTES} bytes that it may have",
            hint="it is no description of a checkpoint",
        )
    data = re.sub(rb"(?<=[\s:\[,])(NaN|-?Infinity)(?=[\s,\]}])", rb'"\1"', data)
    parsed = parse_strict(data, path=str(path))
    if not isinstance(parsed, dict):
        raise FormatError(f"{path} holds no JSON object", hint="fetch it again")
    return parsed


def _object(members: Mapping[str, Any], name: str, path: Path) -> dict[str, Any]:
    value = members.get(name) or {}
    if not isinstance(value, dict):
        raise FormatError(f"{path}: {name!r} is no object", hint="fetch it again")
    return value


def _origin(path: Path) -> dict[str, str]:
    return {"imported_from": path.name}


def _item_name(text: str) -> str:
    return _NO_NAME.sub("-", text).lstrip(".")[:100] or _MODEL


def _count(value: object) -> int | None:
    return value if type(value) is int and 0 <= value < _INTEGERS else None


def _is_number(value: object) -> TypeGuard[int | float]:
    return type(value) is float or (type(value) is int and abs(value) < _INTEGERS)


def _is_tensor(value: object) -> bool:
    return any(framework.leaf(value) is not None for framework in frameworks.present())
