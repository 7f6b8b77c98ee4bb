"""A small language model with Adam, to be trained while it is saved."""

from __future__ import annotations

import time

import torch
from torch import nn


class Trainer:
    """A transformer and its optimizer; the batch is as large as a step of a given time allows.

    Args:
        width: Of the model.
        layers: Of the model; 12 layers 512 wide with 16,384 words are 46 million parameters.
        words: In the vocabulary.
        step_s: What a step should take about.
    """

    def __init__(self, *, width: int, layers: int, words: int, step_s: float) -> None:
        torch.manual_seed(0)
        block = nn.TransformerEncoderLayer(
            width, max(1, width // 64), 4 * width, dropout=0.0, batch_first=True, norm_first=True
        )
        self.model = nn.Sequential(
            nn.Embedding(words, width),
            nn.TransformerEncoder(block, layers, enable_nested_tensor=False),
        )
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-5)
        self._words = words
        self._length = 32
        self._batch = 1
        self.step()
        began = time.perf_counter()
        self.step()
        spent = time.perf_counter() - began
        self._batch = max(1, round(step_s / spent))
        self.step()

    @property
    def parameters(self) -> int:
        """How many numbers are trained."""
        return sum(parameter.numel() for parameter in self.model.parameters())

    @property
    def nbytes(self) -> int:
        """Bytes of weights and optimizer."""
        state = self.optimizer.state.values()
        held = sum(t.nbytes for one in state for t in one.values())
        return held + sum(p.nbytes for p in self.model.parameters())

    def step(self) -> None:
        """One forward, one backward pass, one step of the optimizer."""
        tokens = torch.randint(0, self._words, (self._batch, self._length + 1))
        hidden = self.model(tokens[:, :-1])
        logits = hidden.flatten(0, 1) @ self.model[0].weight.T
        loss = nn.functional.cross_entropy(logits, tokens[:, 1:].flatten())
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
