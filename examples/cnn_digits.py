"""A CNN that is saved with one call after each batch.

    python cnn_digits.py --folder models/checkpoints --preset balanced

Start it again and it goes on from the best weights that are stored.
"""

from __future__ import annotations

import argparse
import logging

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

import holdfast


def build_model() -> nn.Sequential:
    """Returns a network from images ``(batch, 1, 8, 8)`` to logits ``(batch, 10)``."""
    return nn.Sequential(
        nn.Conv2d(1, 16, kernel_size=3, padding=1),
        nn.ReLU(),
        nn.Conv2d(16, 32, kernel_size=3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Dropout(0.2),
        nn.Linear(32 * 4 * 4, 10),
    )


def load_images() -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Returns images and labels for training, and 297 others for measuring."""
    digits = load_digits()
    images = torch.tensor(digits.images, dtype=torch.float32).unsqueeze(1) / 16
    labels = torch.tensor(digits.target)
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(7))
    train, held_out = order[:1500], order[1500:]
    return (images[train], labels[train]), (images[held_out], labels[held_out])


@torch.no_grad()
def measure(model: nn.Module, images: Tensor, labels: Tensor) -> dict[str, float]:
    """Returns ``loss`` and ``accuracy`` with dropout off."""
    model.eval()
    logits = model(images)
    model.train()
    accuracy = (logits.argmax(dim=1) == labels).float().mean()
    return {"loss": cross_entropy(logits, labels).item(), "accuracy": accuracy.item()}


def arguments() -> argparse.Namespace:
    """Returns the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", default="models/checkpoints")
    parser.add_argument("--preset", default="balanced", help="conservative, aggressive")
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--session", default="session-1", help="ties the checkpoints together")
    return parser.parse_args()


def main() -> None:
    """Trains, saving what is worth it after each batch, and measures the best."""
    options = arguments()
    # Whatever is saved, deleted or fails is a line of the log.
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    torch.manual_seed(0)
    (images, labels), held_out = load_images()
    model = build_model()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)

    with holdfast.get_checkpoint_manager(
        checkpoint_dir=options.folder,
        metric_name="accuracy",
        preset=options.preset,
        budget="2GB",
    ) as manager:
        try:
            before = manager.load_best_checkpoint("cnn", model=model)
            print(f"Going on from {before.id}: accuracy {before.metrics['accuracy']:.2%}")
        except holdfast.NotFoundError:
            print("Starting from nothing")

        for epoch in range(options.epochs):
            batches = torch.randperm(len(labels)).split(50)
            for number, chosen in enumerate(batches):
                loss = cross_entropy(model(images[chosen]), labels[chosen])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                manager.save_checkpoint(
                    model=model,
                    model_name="cnn",
                    model_type="convolutional network",
                    performance_metrics=measure(model, *held_out),
                    training_metadata={
                        "epoch": epoch,
                        "batch": number,
                        "total_batches": len(batches),
                        "session": options.session,
                    },
                )
        # The weights of the end, whether they are better or not.
        manager.save_checkpoint(
            model=model,
            model_name="cnn",
            model_type="convolutional network",
            performance_metrics=measure(model, *held_out),
            training_metadata={"epoch": options.epochs, "session": options.session},
            force_save=True,
        )

        fresh = build_model()
        best = manager.load_best_checkpoint("cnn", model=fresh)
        print(f"\nBest: {best.id}, saved for {best.reason}")
        print(f"Restored into a fresh model: {measure(fresh, *held_out)['accuracy']:.2%} accuracy")
        manager.summary()


if __name__ == "__main__":
    main()
