"""A training is killed in the middle, goes on by itself, and ends as if nothing had happened.

    python examples/digits_vit/demo.py

Exits with 1 when a single loss after the resume differs by a single bit.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import show
import torch
from model import VisionTransformer, evaluate, load_splits
from rich.console import Console

import holdfast

TRAIN = Path(__file__).with_name("train.py")
RUN = "vit"
UNINTERRUPTED = "vit-uninterrupted"


@dataclass(frozen=True, slots=True)
class Training:
    """What was seen of a training process: its first and last step, and whether it was killed."""

    first: int
    last: int
    killed: bool


def train(
    run: str, options: argparse.Namespace, *, console: Console, kill_after: int | None = None
) -> Training:
    """Trains in a process of its own; kills it once a step past `kill_after` is not being saved.

    Raises:
        SystemExit: The training failed.
    """
    command = [sys.executable, str(TRAIN), "--folder", options.folder, "--run", run]
    for name in ("steps", "check_every", "save_every", "width", "depth", "seed"):
        command += [f"--{name.replace('_', '-')}", str(getattr(options, name))]
    steps: list[int] = []
    killed = False
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:  # noqa: S603
        for line in process.stdout:
            step, saved = show.parse_step(line)
            steps.append(step)
            if saved:
                console.print(f"  {line.strip()}", highlight=False, markup=False, soft_wrap=True)
            elif not killed and kill_after is not None and step >= kill_after:
                process.kill()
                killed = True
    if not killed and process.returncode != 0:
        raise SystemExit(f"the training ended with {process.returncode}")
    # A run that was complete before has no step left to print.
    return Training(steps[0], steps[-1], killed) if steps else Training(0, 0, killed)


def interrupt(options: argparse.Namespace, console: Console) -> Training:
    """Trains, and kills the process in the middle."""
    show.section(console, "1", "Train, and kill the process without warning")
    seen = train(RUN, options, console=console, kill_after=options.kill_after)
    if not seen.killed:
        raise SystemExit("the training ended before it could be killed: lower --kill-after")
    with holdfast.open(options.folder, mode="r") as store:
        saved = sorted(checkpoint.step for checkpoint in store.checkpoints(RUN))
        console.print(f"  SIGKILL after step {seen.last}. The run is now: {store[RUN].status}.")
    among = "is one of them" if seen.last in saved else "is not one of them"
    console.print(f"  Checkpoints on disk hold the steps {saved}; {seen.last} {among}.")
    return seen


def resume(options: argparse.Namespace, console: Console, *, killed: Training) -> Training:
    """Starts the same command again; it finds its way by itself."""
    show.section(console, "2", "Start the same command again")
    seen = train(RUN, options, console=console)
    console.print(
        f"  It went on with step {seen.first} by itself: "
        f"{killed.last + 1 - seen.first} steps were done twice, none was lost."
    )
    with holdfast.open(options.folder, mode="r") as store:
        console.print(f"  The run is now: {store[RUN].status}.")
    return seen


def restore_best(options: argparse.Namespace, console: Console) -> None:
    """Puts the best checkpoint into a new model and measures it on images it never saw."""
    show.section(console, "3", "Restore the best checkpoint into a fresh model")
    test = load_splits()["test"]
    model = VisionTransformer(width=options.width, depth=options.depth)
    before = evaluate(model, test)
    with holdfast.open(options.folder, mode="r") as store:
        best = store.best("val_loss", run=RUN)
        best.restore(model=model)
        held = ", ".join(best.items)
        console.print(
            f"  {best.id}, step {best.step}, val_loss {best.metrics['val_loss']:.4f}; "
            f"it holds: {held}",
            highlight=False,
        )
    after = evaluate(model, test)
    console.print(
        f"  Accuracy on {len(test)} held-out images: {before['accuracy']:.1%} untrained, "
        f"{after['accuracy']:.1%} restored."
    )


def prove(options: argparse.Namespace, console: Console, *, resumed: Training) -> bool:
    """Trains once more without a break, and compares each loss bit for bit; True when equal."""
    show.section(console, "4", "The same training without a break")
    train(UNINTERRUPTED, options, console=console)
    with holdfast.open(options.folder, mode="r") as store:
        one, other = dict(store[RUN].history("loss")), dict(store[UNINTERRUPTED].history("loss"))
    differing = show.differing_steps(one, other, steps=range(options.steps))
    after = [step for step in range(options.steps) if step >= resumed.first]
    wrong = [step for step in after if step in differing]
    console.print(
        f"  {len(after)} losses after the resume (steps {after[0]} to {after[-1]}) compared as "
        f"float.hex: {len(wrong)} differ."
    )
    console.print(
        f"  All {options.steps} losses from step 0 on: {len(differing)} differ. "
        f"The last one: {other[after[-1]].hex()}.",
        highlight=False,
    )
    for step in differing[:5]:
        console.print(f"  step {step}: {one.get(step)!r} is not {other.get(step)!r}", style="red")
    return not differing


def explain(options: argparse.Namespace, console: Console) -> None:
    """Shows what there is, why, what it takes, and what to type next."""
    with holdfast.open(options.folder, mode="r") as store:
        show.section(console, "5", "What is kept")
        console.print(show.checkpoints(store, RUN))
        show.section(console, "6", "Why")
        console.print(show.decisions(store, RUN))
        show.section(console, "7", "What it takes")
        console.print(show.usage(store))
        if options.keep_folder:
            show.section(console, "8", "What to type next")
            for line in show.next_commands(store, RUN, folder=options.folder):
                console.print(f"  {line}", highlight=False, markup=False, soft_wrap=True)


def fresh_folder(folder: Path) -> None:
    """Removes what an earlier demo left; refuses to touch anything else.

    Raises:
        SystemExit: The folder holds something that is not this demo's.
    """
    if not folder.exists() or not any(folder.iterdir()):
        return
    try:
        with holdfast.open(folder, mode="r") as store:
            names = {run.name for run in store.runs()}
    except holdfast.HoldfastError as error:
        raise SystemExit(f"{folder} is in use for something else: {error}") from error
    if not names or not names <= {RUN, UNINTERRUPTED}:
        raise SystemExit(f"{folder} holds other runs than this demo's; pass another --folder")
    shutil.rmtree(folder)


def arguments() -> argparse.Namespace:
    """Returns the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", default="demo-checkpoints", help="where the store goes")
    parser.add_argument(
        "--keep-folder",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="leave the store there for a look around",
    )
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--kill-after", type=int, default=230, help="kill after this step")
    parser.add_argument("--check-every", type=int, default=20, help="validate every so many steps")
    parser.add_argument("--save-every", type=int, default=50, help="save at least this often")
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--depth", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def main() -> int:
    """Runs the demo and returns its exit code."""
    options = arguments()
    torch.set_num_threads(1)
    console = Console(width=None if sys.stdout.isatty() else 100)
    folder = Path(options.folder)
    fresh_folder(folder)
    killed = interrupt(options, console)
    resumed = resume(options, console, killed=killed)
    restore_best(options, console)
    equal = prove(options, console, resumed=resumed)
    explain(options, console)
    console.print()
    if options.keep_folder:
        console.print(f"The checkpoints are in {folder.resolve()}", soft_wrap=True)
    else:
        shutil.rmtree(folder)
        console.print(f"{folder} is removed again.", soft_wrap=True)
    if equal:
        console.print("Killed, resumed, and bit for bit the same.", style="bold green")
        return 0
    console.print("The resumed training is not the same.", style="bold red")
    return 1


if __name__ == "__main__":
    sys.exit(main())
