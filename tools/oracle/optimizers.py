"""Fixtures of optimizers: twenty steps of PyTorch's own on a small network and fixed batches.

The module is Sequential(Linear(3, 5), Tanh, Linear(5, 4)) with the mean squared error. `in` holds the parameters at the
start and the batches, `out` the loss of each step (and the gradients' global norm, where they are clipped), `after` the
parameters after the last step.
"""

import torch

STEPS, BATCH = 20, 8


def network(inputs):
    module = torch.nn.Sequential(torch.nn.Linear(3, 5), torch.nn.Tanh(), torch.nn.Linear(5, 4)).double()
    module.load_state_dict({name: inputs[name] for name in module.state_dict()})
    return module


def case(fixture, name, op, options, make, clipNorm=None, constants="exact"):
    inputs = {
        "0.weight": fixture.random(5, 3),
        "0.bias": fixture.random(5),
        "2.weight": fixture.random(4, 5),
        "2.bias": fixture.random(4),
        "inputs": fixture.random(STEPS, BATCH, 3),
        "targets": fixture.random(STEPS, BATCH, 4),
    }
    module = network(inputs)
    optimizer = make(module.parameters(), **options)
    losses, norms = [], []
    for n, t in inputs.items():
        fixture.put(name, "in", n, t)
    for step in range(STEPS):
        optimizer.zero_grad()
        loss = torch.nn.functional.mse_loss(module(inputs["inputs"][step]), inputs["targets"][step])
        loss.backward()
        if clipNorm is not None:
            norms.append(torch.nn.utils.clip_grad_norm_(module.parameters(), clipNorm))
        optimizer.step()
        losses.append(loss.detach())
    outputs = {"loss": torch.stack(losses), **({"gradientNorm": torch.stack(norms)} if norms else {})}
    for n, t in outputs.items():
        fixture.put(name, "out", n, t)
    for n, t in module.state_dict().items():
        fixture.put(name, "after", n, t)
    args = {**options, "clipNorm": clipNorm, "constants": constants}
    fixture.cases.append({"id": name, "op": op, "args": args, "inputs": list(inputs), "outputs": list(outputs), "wrt": [], "second": False})


def optimizers(fixture):
    sgd, adamW = torch.optim.SGD, torch.optim.AdamW
    # Of the steps with clipping about half are clipped. All constants but the rate, which steps take as an input, are exact in binary.
    case(fixture, "sgd-plain", "sgd", {"lr": 0.1}, sgd)
    case(fixture, "sgd-decay", "sgd", {"lr": 0.1, "weight_decay": 0.03125}, sgd)
    case(fixture, "sgd-momentum", "sgd", {"lr": 0.05, "momentum": 0.875}, sgd)
    case(fixture, "sgd-nesterov-decay", "sgd", {"lr": 0.05, "momentum": 0.875, "nesterov": True, "weight_decay": 0.0078125}, sgd)
    case(fixture, "sgd-clipped", "sgd", {"lr": 0.1, "momentum": 0.5}, sgd, clipNorm=3.0)
    case(fixture, "adamW", "adamW", {"lr": 0.01, "betas": [0.875, 0.96875], "eps": 2.0**-20, "weight_decay": 0.0625}, adamW)
    case(fixture, "adamW-no-decay", "adamW", {"lr": 0.01, "betas": [0.75, 0.9375], "eps": 2.0**-10, "weight_decay": 0.0}, adamW)
    # PyTorch's defaults: constants that float32 rounds.
    case(fixture, "adamW-defaults", "adamW", {"lr": 0.001, "betas": [0.9, 0.999], "eps": 1e-8, "weight_decay": 0.01}, adamW, constants="rounded")
