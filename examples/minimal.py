"""Run it, kill it at any moment, run it again: it goes on where it was, and ends the same."""

import torch

import holdfast
from holdfast import keep, when

torch.manual_seed(0)
x = torch.linspace(-3, 3, 256).unsqueeze(1)
model = torch.nn.Sequential(torch.nn.Linear(1, 64), torch.nn.Tanh(), torch.nn.Linear(64, 1))
optimizer = torch.optim.Adam(model.parameters(), lr=0.01)

store = holdfast.open("checkpoints")
save = when.improved(by="5%") | when.every(steps=20)
with store.run("sine", metric="loss", save=save, keep=keep.best(3) | keep.latest(2)) as run:
    run.attach(model=model, optimizer=optimizer)
    for step in range(run.resume(), 300):
        batch = x[torch.randperm(len(x))[:64]]
        loss = torch.nn.functional.mse_loss(model(batch), torch.sin(batch))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        verdict = run.step(step, {"loss": loss.item()})
        print(f"step {step}: loss {loss.item():.6f}, {verdict.reason}", flush=True)
    run.finish()
