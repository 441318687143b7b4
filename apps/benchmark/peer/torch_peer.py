# The same workloads in PyTorch, for `bench --peer PYTHON`. Reads one JSON command a line from standard input, answers one
# JSON object a line:
#   {"prepare": workload, "numBases": K (0: static), "mode": "eager" | "channels_last" | "compile"} -> {"id", "firstRunSeconds"}
#   {"run": id, "times": n} -> {"ms": [...]}       {"free": id} -> {}
#   {"gemm": true} -> {"macsPerSecond"}            {"memory": workload, "numBases", "mode"} -> {"loadBytes", "runBytes"}
# The first line it prints tells its versions. An error is answered as {"error": text}.
import json
import sys
import time

import torch
import torch.nn as nn
import torch.nn.functional as F

torch.set_num_threads(int(sys.argv[1]))


class DynamicConv(nn.Module):
    """The kernel of each sample by one product, then a convolution with one group for each sample (and group)."""

    def __init__(self, bases, inputs, outputs, kernel, stride, groups):
        super().__init__()
        hidden = max(inputs // 4, 4)
        self.shape, self.stride, self.groups = (outputs, inputs // groups, kernel, kernel), stride, groups
        self.bases = nn.Parameter(torch.randn(bases, *self.shape) * (2 * groups / (outputs * kernel * kernel)) ** 0.5)
        self.fc1 = nn.Linear(inputs, hidden, bias=False)
        self.fc2 = nn.Linear(hidden, bases)

    def forward(self, x):
        batch, channels, height, width = x.shape
        outputs, depth, kernel, _ = self.shape
        pi = torch.softmax(self.fc2(F.relu(self.fc1(x.mean((2, 3))))), 1)
        kernels = (pi @ self.bases.reshape(self.bases.shape[0], -1)).reshape(batch * outputs, depth, kernel, kernel)
        y = F.conv2d(x.reshape(1, batch * channels, height, width), kernels, stride=self.stride, padding=kernel // 2, groups=batch * self.groups)
        return y.reshape(batch, outputs, y.shape[2], y.shape[3])


def conv(bases, inputs, outputs, kernel=3, stride=1, groups=1):
    if bases:
        return DynamicConv(bases, inputs, outputs, kernel, stride, groups)
    return nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)


class Block(nn.Module):
    def __init__(self, bases, inputs, outputs, stride):
        super().__init__()
        self.conv1, self.bn1 = conv(bases, inputs, outputs, 3, stride), nn.BatchNorm2d(outputs)
        self.conv2, self.bn2 = conv(bases, outputs, outputs), nn.BatchNorm2d(outputs)
        changes = stride != 1 or inputs != outputs
        self.shortcut = nn.Sequential(conv(0, inputs, outputs, 1, stride), nn.BatchNorm2d(outputs)) if changes else nn.Identity()

    def forward(self, x):
        y = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(y)) + self.shortcut(x))


class Chain(nn.Module):
    def __init__(self, layers, rectify):
        super().__init__()
        self.layers, self.rectify = nn.ModuleList(layers), rectify

    def forward(self, x):
        for layer in self.layers:
            x = torch.relu_(layer(x)) if self.rectify else layer(x)
        return x.mean((2, 3))


def chain(net, bases):
    channels, groups = net["channels"], net["channels"] if net["depthwise"] else 1
    return Chain([conv(bases, channels, channels, net["kernelSize"], 1, groups) for _ in range(net["depth"])], True)


def block(net, bases):
    return Chain([Block(bases, net["channels"], net["channels"], 1) for _ in range(net["depth"])], False)


def resnet(net, bases):
    first = net["widths"][0]
    cifar = net["stem"] == "cifar"
    parts = [nn.Conv2d(3, first, 3 if cifar else 7, 1 if cifar else 2, 1 if cifar else 3, bias=False), nn.BatchNorm2d(first), nn.ReLU(inplace=True)]
    if not cifar:
        parts.append(nn.MaxPool2d(3, 2, 1))
    inputs = first
    for stage, outputs in enumerate(net["widths"]):
        for i in range(net["blocks"][stage]):
            parts.append(Block(bases, inputs, outputs, 2 if stage and not i else 1))
            inputs = outputs
    return nn.Sequential(*parts, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inputs, net["classes"]))


def conv_norm(bases, inputs, outputs, kernel=1, stride=1, groups=1):
    return [conv(bases, inputs, outputs, kernel, stride, groups), nn.BatchNorm2d(outputs), nn.ReLU6(inplace=True)]


class InvertedResidual(nn.Module):
    def __init__(self, bases, inputs, outputs, stride, expansion):
        super().__init__()
        hidden = inputs * expansion
        wide = conv_norm(bases, inputs, hidden) if expansion > 1 else []
        self.conv = nn.Sequential(*wide, *conv_norm(bases, hidden, hidden, 3, stride, hidden), conv(bases, hidden, outputs, 1), nn.BatchNorm2d(outputs))
        self.shortcut = stride == 1 and inputs == outputs

    def forward(self, x):
        return x + self.conv(x) if self.shortcut else self.conv(x)


def mobilenet_v2(net, bases):
    width, cifar = net["width"], net["stem"] == "cifar"

    def scaled(channels):
        rounded = max(8, int(channels * width + 4) // 8 * 8)
        return rounded + 8 if rounded < 0.9 * channels * width else rounded

    inputs = scaled(32)
    parts = conv_norm(0, 3, inputs, 3, 1 if cifar else 2)
    stages = [(1, 16, 1, 1), (6, 24, 2, 1 if cifar else 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)]
    for expansion, channels, blocks, stride in stages:
        for i in range(blocks):
            parts.append(InvertedResidual(bases, inputs, scaled(channels), 1 if i else stride, expansion))
            inputs = scaled(channels)
    last = max(1280, scaled(1280))
    return nn.Sequential(*parts, *conv_norm(bases, inputs, last), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(last, net["classes"]))


BUILDERS = {"chain": chain, "block": block, "resnet": resnet, "mobilenetV2": mobilenet_v2}


def prepare(workload, bases, mode):
    """The work as a function without arguments."""
    net, batch, size = workload["net"], workload["batch"], workload["size"]
    if net["kind"] not in BUILDERS:
        raise NotImplementedError(f"there is no {net['kind']} in the script of the peer")
    model = BUILDERS[net["kind"]](net, bases)
    x = torch.randn(batch, net.get("channels", 3), size, size)
    if mode == "channels_last":
        for p in model.parameters():
            if p.dim() == 4:
                p.data = p.data.to(memory_format=torch.channels_last)
        x = x.to(memory_format=torch.channels_last)
    training = workload["task"] == "train"
    model.train(training)
    forward = torch.compile(model) if mode == "compile" else model
    if not training:

        def infer():
            with torch.inference_mode():
                forward(x)

        return infer
    labels = torch.randint(0, net["classes"], (batch,))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)

    def step():
        loss = F.cross_entropy(forward(x), labels)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


def gemm():
    n = 2048
    a, b = torch.randn(n, n), torch.randn(n, n)
    best = float("inf")
    for _ in range(8):
        start = time.perf_counter()
        torch.mm(a, b)
        best = min(best, time.perf_counter() - start)
    return n**3 / best


def status(field):
    with open("/proc/self/status") as lines:
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field + ":"))


def memory(workload, bases, mode):
    def forget_peak():
        with open("/proc/self/clear_refs", "w") as refs:
            refs.write("5")

    baseline = status("VmRSS")
    forget_peak()
    work = prepare(workload, bases, mode)
    work()
    load = status("VmHWM")
    forget_peak()
    for _ in range(5):
        work()
    return {"loadBytes": load - baseline, "runBytes": status("VmHWM") - baseline}


def seconds(work):
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def main():
    def answer(value):
        print(json.dumps(value), flush=True)

    answer({"version": torch.__version__, "threads": torch.get_num_threads()})
    prepared, count = {}, 0
    for line in sys.stdin:
        command = json.loads(line)
        try:
            if "prepare" in command:
                work = prepare(command["prepare"], command["numBases"], command["mode"])
                # torch.compile works, and fails, at the first run.
                first = seconds(work)
                count += 1
                prepared[count] = work
                answer({"id": count, "firstRunSeconds": first})
            elif "run" in command:
                work = prepared[command["run"]]
                answer({"ms": [seconds(work) * 1e3 for _ in range(command["times"])]})
            elif "gemm" in command:
                answer({"macsPerSecond": gemm()})
            elif "memory" in command:
                answer(memory(command["memory"], command["numBases"], command["mode"]))
            else:
                del prepared[command["free"]]
                answer({})
        except Exception as error:  # told to the benchmark, which says which row did not run and why
            answer({"error": f"{type(error).__name__}: {error}"})


main()
