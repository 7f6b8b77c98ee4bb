"""A DQN agent learns to walk a grid; a checkpoint every 100 episodes, ranked by reward.

    python dqn_gridworld.py --folder dqn-checkpoints

Kill it at any moment and start it again: networks, replay memory, exploration and random numbers
go on where they were. It stops by itself when the mean reward is high enough.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor, nn

import holdfast
from holdfast import keep, stop, when

RUN = "dqn-gridworld"
GRID = (
    ".....",
    ".##..",
    "...#.",
    ".#...",
    "...#.",
)
MOVES = ((-1, 0), (1, 0), (0, -1), (0, 1))
ARROWS = "^v<>"
FREE = [(y, x) for y, line in enumerate(GRID) for x, cell in enumerate(line) if cell == "."]
CELLS = len(GRID) * len(GRID[0])
MOST_MOVES = 30

GAMMA = 0.95
BATCH = 64
MEMORY = 5_000
TARGET_EVERY = 200
WINDOW = 100

State = tuple[int, int]


class GridWorld:
    """Walk from a free cell to a goal; both are drawn anew for each episode.

    A move costs 0.02, walking into a wall 0.1, and the goal is worth 1: a good walker gets about
    0.9 an episode. The state is the pair of cell numbers ``(agent, goal)``.
    """

    def reset(self) -> State:
        """Begins an episode."""
        self._agent, self._goal = random.sample(FREE, 2)
        self._moves = 0
        return self._state()

    def step(self, action: int) -> tuple[State, float, bool]:
        """Returns the next state, the reward, and whether the goal was reached."""
        self._moves += 1
        y, x = (a + b for a, b in zip(self._agent, MOVES[action], strict=True))
        if (y, x) not in FREE:
            return self._state(), -0.1, False
        self._agent = (y, x)
        done = self._agent == self._goal
        return self._state(), 1.0 if done else -0.02, done

    @property
    def out_of_moves(self) -> bool:
        """Whether the episode ends although the goal was not reached."""
        return self._moves >= MOST_MOVES

    def _state(self) -> State:
        return tuple(y * len(GRID[0]) + x for y, x in (self._agent, self._goal))


class Agent:
    """Two networks, an optimizer, and what was lived through.

    Attributes:
        memory: The replay memory: numpy arrays of `MEMORY` transitions, a ring.
        progress: Exploration rate, number of transitions and of updates.
        recent: Rewards of the last `WINDOW` episodes, a ring.
    """

    def __init__(self) -> None:
        self.network = self._network()
        self.target = self._network()
        self.target.load_state_dict(self.network.state_dict())
        self.optimizer = torch.optim.Adam(self.network.parameters(), lr=1e-3)
        self.memory = {
            "state": np.zeros((MEMORY, 2), np.int64),
            "action": np.zeros(MEMORY, np.int64),
            "reward": np.zeros(MEMORY, np.float32),
            "next": np.zeros((MEMORY, 2), np.int64),
            "done": np.zeros(MEMORY, np.float32),
        }
        self.progress = {"epsilon": 1.0, "transitions": 0, "updates": 0}
        self.recent = np.zeros(WINDOW)

    @staticmethod
    def _network() -> nn.Module:
        return nn.Sequential(
            nn.Linear(2 * CELLS, 128), nn.ReLU(), nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, 4)
        )

    def items(self) -> dict[str, object]:
        """Returns what a checkpoint must hold for training to go on as if nothing had happened."""
        return {
            "model": self.network,
            "target": self.target,
            "optimizer": self.optimizer,
            "memory": self.memory,
            "progress": self.progress,
            "recent": self.recent,
        }

    def act(self, state: State, *, explore: bool) -> int:
        """Returns an action, a random one with probability epsilon when it explores."""
        if explore and random.random() < self.progress["epsilon"]:
            return random.randrange(len(MOVES))
        with torch.no_grad():
            return int(self.network(encode(np.array([state]))).argmax())

    def remember(
        self, state: State, action: int, *, reward: float, after: State, done: bool
    ) -> None:
        """Writes a transition over the oldest one."""
        at = self.progress["transitions"] % MEMORY
        row = {"state": state, "action": action, "reward": reward, "next": after, "done": done}
        for name, value in row.items():
            self.memory[name][at] = value
        self.progress["transitions"] += 1

    def learn(self) -> float:
        """Takes one gradient step on remembered transitions, by double DQN; returns the loss.

        Source of the rule: van Hasselt et al., Deep Reinforcement Learning with Double Q-learning.
        """
        filled = min(self.progress["transitions"], MEMORY)
        chosen = torch.randint(filled, (BATCH,)).numpy()
        state, action, reward, after, done = (self.memory[name][chosen] for name in self.memory)
        with torch.no_grad():
            best = self.network(encode(after)).argmax(dim=1, keepdim=True)
            future = self.target(encode(after)).gather(1, best).squeeze(1)
            wanted = torch.from_numpy(reward) + GAMMA * (1 - torch.from_numpy(done)) * future
        value = self.network(encode(state)).gather(1, torch.from_numpy(action)[:, None]).squeeze(1)
        loss = nn.functional.smooth_l1_loss(value, wanted)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        self.progress["updates"] += 1
        if self.progress["updates"] % TARGET_EVERY == 0:
            self.target.load_state_dict(self.network.state_dict())
        return loss.item()


def encode(states: np.ndarray) -> Tensor:
    """Returns states ``(n, 2)`` as two one-hot vectors side by side, ``(n, 2 * CELLS)``."""
    return nn.functional.one_hot(torch.from_numpy(states), CELLS).flatten(1).float()


def play(world: GridWorld, agent: Agent) -> Iterator[tuple[float, float]]:
    """Plays one episode, learning at every second move; yields ``(reward, loss)`` of each move."""
    state, done = world.reset(), False
    while not (done or world.out_of_moves):
        action = agent.act(state, explore=True)
        after, reward, done = world.step(action)
        agent.remember(state, action, reward=reward, after=after, done=done)
        learns = agent.progress["transitions"] % 2 == 0 and agent.progress["transitions"] > BATCH
        yield reward, agent.learn() if learns else 0.0
        state = after
    agent.progress["epsilon"] = max(0.02, agent.progress["epsilon"] * 0.995)


def train(agent: Agent, options: argparse.Namespace, store: holdfast.Store) -> None:
    """Plays episodes until the mean reward is high enough, or as many as asked for."""
    world = GridWorld()
    with store.run(
        RUN,
        metric="reward",
        save=when.every(steps=options.save_every),
        keep=keep.best(5) | keep.latest(1),
        stop=stop.above("reward", options.enough),
        config={"gamma": GAMMA, "batch": BATCH, "memory": MEMORY, "grid": list(GRID)},
    ) as run:
        run.attach(**agent.items())
        first = run.resume()
        print("Starting from nothing" if first == 0 else f"Going on with episode {first}")
        for episode in range(first, options.episodes):
            rewards, losses = zip(*play(world, agent), strict=True)
            agent.recent[episode % WINDOW] = sum(rewards)
            metrics = {"episode_reward": sum(rewards), "loss": sum(losses) / len(losses)}
            if episode + 1 >= WINDOW:
                metrics["reward"] = agent.recent.mean()
            verdict = run.step(episode, metrics)
            if verdict:
                epsilon = agent.progress["epsilon"]
                shown = metrics.get("reward", agent.recent[: episode + 1].mean())
                print(f"episode {episode}: mean reward {shown:+.3f}, epsilon {epsilon:.2f}, saved",
                      flush=True)  # fmt: skip
            if run.should_stop:
                print(f"episode {episode}: mean reward {agent.recent.mean():+.3f}, enough")
                break
        run.finish({"reward": agent.recent.mean()})


def show_path(agent: Agent) -> None:
    """Prints one walk of the agent without exploration."""
    world = GridWorld()
    state, done, total = world.reset(), False, 0.0
    width = len(GRID[0])
    picture = [list(line) for line in GRID]
    goal = divmod(state[1], width)
    while not (done or world.out_of_moves):
        action = agent.act(state, explore=False)
        y, x = divmod(state[0], width)
        picture[y][x] = ARROWS[action]
        state, reward, done = world.step(action)
        total += reward
    picture[goal[0]][goal[1]] = "G"
    print("\n".join("  " + " ".join(line) for line in picture))
    print(f"  reward {total:.2f}")


def main() -> None:
    """Trains, and lets the best agent walk."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", default="dqn-checkpoints")
    parser.add_argument("--episodes", type=int, default=3000)
    parser.add_argument("--save-every", type=int, default=100, help="episodes between checkpoints")
    parser.add_argument("--enough", type=float, default=0.88, help="mean reward to stop at")
    options = parser.parse_args()
    random.seed(0)
    torch.manual_seed(0)
    torch.set_num_threads(1)

    with holdfast.open(options.folder) as store:
        train(Agent(), options, store)

        best = store.best("reward", run=RUN)
        agent = Agent()
        best.restore(model=agent.network)
        print(
            f"\nBest of {len(store.checkpoints(RUN))} kept: {best.id}, episode {best.step}, ",
            end="",
        )
        print(f"mean reward {best.metrics['reward']:+.3f}. It walks:")
        show_path(agent)


if __name__ == "__main__":
    main()
