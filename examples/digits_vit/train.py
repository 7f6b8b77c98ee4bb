"""Trains the vision transformer. Kill it at any moment and start it again: it goes on."""

from __future__ import annotations

import argparse

import torch
from model import ShuffledBatches, VisionTransformer, evaluate, load_splits
from torch import nn

import holdfast
from holdfast import keep, when

CONFIG = {"width": 128, "depth": 3, "lr": 1e-3, "weight_decay": 0.05, "batch_size": 64}


def arguments() -> argparse.Namespace:
    """Returns the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", default="demo-checkpoints", help="the store")
    parser.add_argument("--run", default="vit", help="the run's name")
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--check-every", type=int, default=20, help="validate every so many steps")
    parser.add_argument("--save-every", type=int, default=50, help="save at least this often")
    parser.add_argument("--width", type=int, default=CONFIG["width"])
    parser.add_argument("--depth", type=int, default=CONFIG["depth"])
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def train(options: argparse.Namespace) -> None:
    """Trains from the newest checkpoint, or from nothing, to the last step."""
    config = CONFIG | {"width": options.width, "depth": options.depth, "seed": options.seed}
    splits = load_splits()
    model = VisionTransformer(width=config["width"], depth=config["depth"])
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=config["lr"], weight_decay=config["weight_decay"]
    )
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=options.steps)
    batches = ShuffledBatches(splits["train"], batch_size=config["batch_size"], seed=options.seed)

    store = holdfast.open(options.folder)
    with store.run(
        options.run,
        metric="val_loss",
        save=when.improved("val_loss", by="0.5%") | when.every(steps=options.save_every),
        keep=keep.best(5).items("model") | keep.latest(1),
        config=config,
    ) as run:
        # Dropout draws from torch's global generator, which comes along by itself.
        run.attach(model=model, optimizer=optimizer, schedule=schedule, batches=batches)
        for step in range(run.resume(), options.steps):
            images, labels = batches.next()
            loss = nn.functional.cross_entropy(model(images), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            metrics = {"loss": loss.item()}
            if (step + 1) % options.check_every == 0:
                metrics |= {f"val_{name}": v for name, v in evaluate(model, splits["val"]).items()}
            verdict = run.step(step, metrics, epoch=batches.epoch)
            saved = f", saved ({verdict.reason})" if verdict else ""
            print(f"step {step}: loss {metrics['loss']:.4f}{saved}", flush=True)
        run.finish({f"test_{name}": v for name, v in evaluate(model, splits["test"]).items()})


if __name__ == "__main__":
    options = arguments()
    # One thread adds up in one order, so that two trainings can be compared bit for bit.
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(mode=True)
    torch.manual_seed(options.seed)
    train(options)
