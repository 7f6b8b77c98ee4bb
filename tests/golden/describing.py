"""Values as JSON that says all of them: types, order, and the bits of arrays by their digest."""

from __future__ import annotations

import base64
import math
from collections import Counter, OrderedDict
from datetime import datetime
from enum import Enum

import numpy as np
import torch
from blake3 import blake3

from holdfast.tree import EnumName


def describe(value):
    """Returns a description; two values have the same one when they are the same to the bit."""
    if isinstance(value, EnumName):
        return {"enum": value.type, "name": value.name}
    if isinstance(value, Enum):
        return {"enum": type(value).__name__, "name": value.name}
    if value is None or isinstance(value, (bool, str)):
        return value
    if isinstance(value, torch.Tensor):
        return _tensor(value)
    if isinstance(value, (np.ndarray, np.generic)):
        kind = "array" if isinstance(value, np.ndarray) else "scalar"
        contiguous = np.ascontiguousarray(value)
        return {
            kind: str(value.dtype.descr),
            "shape": list(value.shape),
            "bits": _digest(contiguous),
        }
    if isinstance(value, int):
        return {"int": str(value) if abs(value) < 2**256 else hex(value)}
    if isinstance(value, float):
        return {"float": "nan" if math.isnan(value) else value.hex()}
    if isinstance(value, bytes):
        return {"bytes": base64.b64encode(value[:32]).decode(), "nbytes": len(value)}
    if isinstance(value, datetime):
        return {"datetime": value.isoformat(), "fold": value.fold}
    return _container(value)


def _container(value):
    if isinstance(value, dict):
        described = {type(value).__name__: [[describe(k), describe(v)] for k, v in value.items()]}
        if isinstance(value, (OrderedDict, Counter)) and vars(value):
            described["attributes"] = describe(vars(value))
        return described
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        fields = [[name, describe(part)] for name, part in zip(value._fields, value, strict=True)]
        return {"namedtuple": type(value).__name__, "fields": fields}
    if type(value) not in (list, tuple):
        raise TypeError(f"{type(value)} has no description")
    return {type(value).__name__: [describe(part) for part in value]}


def _tensor(value):
    plain = value.detach().resolve_conj().resolve_neg().contiguous()
    raw = plain.reshape(-1).view(torch.uint8) if plain.numel() else torch.zeros(0)
    return {
        "tensor": str(plain.dtype),
        "shape": list(value.shape),
        "requires_grad": value.requires_grad,
        "parameter": isinstance(value, torch.nn.Parameter),
        "bits": blake3(raw.numpy().tobytes()).hexdigest()[:16],
    }


def _digest(array):
    return blake3(array.tobytes()).hexdigest()[:16]


def tell(checkpoint):
    """Returns what is said of a checkpoint."""
    return {
        "step": checkpoint.step,
        "epoch": checkpoint.epoch,
        "created_at": checkpoint.created_at,
        "reason": checkpoint.reason,
        "kind": checkpoint.kind,
        "thinned": checkpoint.thinned,
        "items": sorted(checkpoint.items),
        "metrics": {name: repr(value) for name, value in checkpoint.metrics.items()},
        "metadata": checkpoint.metadata,
        "pinned": checkpoint.pinned,
        "tags": list(checkpoint.tags),
        "parent": checkpoint.parent,
        "nbytes": checkpoint.nbytes,
    }
