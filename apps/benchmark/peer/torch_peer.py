# The same workloads in PyTorch, for `bench --peer PYTHON`. Reads one JSON command a line from standard input, answers one
# JSON object a line: {"prepare": workload, "dynamic": bool, "mode": "eager" | "channels_last" | "compile"} -> {"id": n};
# {"run": n} -> {"ms": t}; {"free": n} -> {}. The first line it prints tells its versions.
import json
import sys
import time

import torch
import torch.nn as nn
import torch.nn.functional as F

THREADS, BASES = int(sys.argv[1]), int(sys.argv[2])
torch.set_num_threads(THREADS)


class DynamicConv(nn.Module):
    """The kernel of each sample by one product, then a convolution with one group for each sample."""

    def __init__(self, inputs, outputs, stride):
        super().__init__()
        hidden = max(inputs // 4, 4)
        self.outputs, self.stride = outputs, stride
        self.bases = nn.Parameter(torch.randn(BASES, outputs, inputs, 3, 3) * (2 / (outputs * 9)) ** 0.5)
        self.fc1 = nn.Linear(inputs, hidden, bias=False)
        self.fc2 = nn.Linear(hidden, BASES)

    def forward(self, x):
        batch, channels, height, width = x.shape
        pi = torch.softmax(self.fc2(F.relu(self.fc1(x.mean((2, 3))))), 1)
        kernels = (pi @ self.bases.reshape(BASES, -1)).reshape(batch * self.outputs, channels, 3, 3)
        y = F.conv2d(x.reshape(1, batch * channels, height, width), kernels, stride=self.stride, padding=1, groups=batch)
        return y.reshape(batch, self.outputs, y.shape[2], y.shape[3])


def conv(inputs, outputs, stride, dynamic):
    return DynamicConv(inputs, outputs, stride) if dynamic else nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)


class Block(nn.Module):
    def __init__(self, inputs, outputs, stride, dynamic):
        super().__init__()
        self.conv1, self.bn1 = conv(inputs, outputs, stride, dynamic), nn.BatchNorm2d(outputs)
        self.conv2, self.bn2 = conv(outputs, outputs, 1, dynamic), nn.BatchNorm2d(outputs)
        changes = stride != 1 or inputs != outputs
        self.shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)) if changes else nn.Identity()

    def forward(self, x):
        y = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(y)) + self.shortcut(x))


def residual(widths, blocks, dynamic):
    parts, inputs = [nn.Conv2d(3, widths[0], 3, 1, 1, bias=False), nn.BatchNorm2d(widths[0]), nn.ReLU()], widths[0]
    for stage, outputs in enumerate(widths):
        for block in range(blocks[stage]):
            parts.append(Block(inputs, outputs, 2 if stage and not block else 1, dynamic))
            inputs = outputs
    return nn.Sequential(*parts, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inputs, 10))


class Chain(nn.Module):
    def __init__(self, channels, depth, dynamic):
        super().__init__()
        self.layers = nn.ModuleList(conv(channels, channels, 1, dynamic) for _ in range(depth))

    def forward(self, x):
        for layer in self.layers:
            x = torch.relu_(layer(x))
        return x.mean((2, 3))


def prepare(workload, dynamic, mode):
    batch, size = workload["batch"], workload["size"]
    if workload["kind"] == "layer":
        net, x = Chain(workload["channels"], workload["depth"], dynamic), torch.randn(batch, workload["channels"], size, size)
    else:
        net, x = residual(workload["widths"], workload["blocks"], dynamic), torch.randn(batch, 3, size, size)
    if mode == "channels_last":
        for p in net.parameters():
            if p.dim() == 4:
                p.data = p.data.to(memory_format=torch.channels_last)
        x = x.to(memory_format=torch.channels_last)
    forward = torch.compile(net) if mode == "compile" else net
    if workload["kind"] == "layer":

        def infer():
            with torch.no_grad():
                forward(x)

        return infer
    labels = torch.randint(0, 10, (batch,))
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9)

    def step():
        loss = F.cross_entropy(forward(x), labels)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


def main():
    def answer(value):
        print(json.dumps(value), flush=True)

    answer({"version": torch.__version__, "threads": torch.get_num_threads()})
    prepared, count = {}, 0
    for line in sys.stdin:
        command = json.loads(line)
        try:
            if "prepare" in command:
                count += 1
                prepared[count] = prepare(command["prepare"], command["dynamic"], command["mode"])
                answer({"id": count})
            elif "run" in command:
                work = prepared[command["run"]]
                start = time.perf_counter()
                work()
                answer({"ms": (time.perf_counter() - start) * 1e3})
            else:
                del prepared[command["free"]]
                answer({})
        except Exception as error:  # told to the benchmark, which says which row did not run and why
            answer({"error": f"{type(error).__name__}: {error}"})


main()
