"""A small vision transformer for images of 8x8 pixels, and the images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

IMAGE = 8
PATCH = 4
CLASSES = 10

# The split never depends on the seed of a training: all runs are measured on the same images.
SPLIT_SEED = 1797
VALIDATION = 300
TEST = 300


class VisionTransformer(nn.Module):
    """Patches of 4x4 pixels are the words, and a class token reads the sentence.

    Args:
        width: Features per token.
        depth: Number of encoder layers.
        heads: Attention heads per layer; they divide the width.
        dropout: Share of activations that are dropped in training.
    """

    def __init__(
        self, *, width: int = 128, depth: int = 3, heads: int = 4, dropout: float = 0.1
    ) -> None:
        super().__init__()
        tokens = (IMAGE // PATCH) ** 2
        self.embed = nn.Conv2d(1, width, kernel_size=PATCH, stride=PATCH)
        self.class_token = nn.Parameter(torch.zeros(1, 1, width))
        self.position = nn.Parameter(torch.randn(1, tokens + 1, width) * 0.02)
        layer = nn.TransformerEncoderLayer(
            width,
            heads,
            dim_feedforward=2 * width,
            dropout=dropout,
            activation="gelu",
            batch_first=True,
            norm_first=True,
        )
        self.encoder = nn.TransformerEncoder(layer, depth, enable_nested_tensor=False)
        self.head = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, CLASSES))

    def forward(self, images: Tensor) -> Tensor:
        """Returns the logits ``(batch, 10)`` of images ``(batch, 1, 8, 8)`` with values in 0..1."""
        patches = self.embed(images).flatten(2).transpose(1, 2)
        first = self.class_token.expand(len(images), -1, -1)
        tokens = torch.cat([first, patches], dim=1) + self.position
        return self.head(self.encoder(tokens)[:, 0])


@dataclass(frozen=True, slots=True)
class Split:
    """Images ``(n, 1, 8, 8)`` with values in 0..1, and their classes ``(n,)``."""

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)


def load_splits() -> dict[str, Split]:
    """Returns the 1,797 handwritten digits of scikit-learn as ``train``, ``val`` and ``test``."""
    digits = load_digits()
    images = torch.tensor(digits.images, dtype=torch.float32).unsqueeze(1) / 16
    labels = torch.tensor(digits.target)
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(SPLIT_SEED))
    parts = {
        "test": order[:TEST],
        "val": order[TEST : TEST + VALIDATION],
        "train": order[TEST + VALIDATION :],
    }
    return {name: Split(images[chosen], labels[chosen]) for name, chosen in parts.items()}


class ShuffledBatches:
    """Batches without end, in a new order each epoch.

    The order and the place in it are state: with them in the checkpoint, a resumed training sees
    the very images that it would have seen.
    """

    def __init__(self, split: Split, *, batch_size: int, seed: int) -> None:
        self._split = split
        self._batch_size = batch_size
        self._generator = torch.Generator().manual_seed(seed)
        self._order = torch.randperm(len(split), generator=self._generator)
        self._position = 0
        self.epoch = 0

    def next(self) -> tuple[Tensor, Tensor]:
        """Returns the next images and labels; `epoch` counts the passes begun before this one."""
        if self._position + self._batch_size > len(self._order):
            self._order = torch.randperm(len(self._split), generator=self._generator)
            self._position = 0
            self.epoch += 1
        chosen = self._order[self._position : self._position + self._batch_size]
        self._position += self._batch_size
        return self._split.images[chosen], self._split.labels[chosen]

    def state_dict(self) -> dict[str, object]:
        """Returns where it stands."""
        return {
            "epoch": self.epoch,
            "position": self._position,
            "order": self._order,
            "generator": self._generator.get_state(),
        }

    def load_state_dict(self, state: Mapping[str, object]) -> None:
        """Goes to where `state_dict` was taken."""
        self.epoch = state["epoch"]
        self._position = state["position"]
        self._order = state["order"]
        self._generator.set_state(state["generator"])


@torch.no_grad()
def evaluate(model: nn.Module, split: Split) -> dict[str, float]:
    """Returns the mean cross entropy ``loss`` and the ``accuracy`` in 0..1, dropout off."""
    was_training = model.training
    model.eval()
    logits = model(split.images)
    model.train(was_training)
    return {
        "loss": nn.functional.cross_entropy(logits, split.labels).item(),
        "accuracy": (logits.argmax(dim=1) == split.labels).float().mean().item(),
    }
