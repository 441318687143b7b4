"""The layers of benchmark.ts by PyTorch on a CUDA card, in float32 without TF32, cuDNN choosing by trial: python3 pytorch.py

Times of a call in microseconds, of fifty after another, the smallest of three. PyTorch has no dynamic convolution: `groups` mixes the
kernels by a product and takes the batch as groups, `loop` convolves sample after sample.
"""

import torch
from torch.nn.functional import conv2d

torch.backends.cuda.matmul.allow_tf32 = False
torch.backends.cudnn.allow_tf32 = False
torch.backends.cudnn.benchmark = True
BASES, CALLS = 4, 50


def microseconds(call):
    for _ in range(10):
        call()
    torch.cuda.synchronize()
    times = []
    for _ in range(3):
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        for _ in range(CALLS):
            call()
        end.record()
        torch.cuda.synchronize()
        times.append(start.elapsed_time(end) * 1000 / CALLS)
    return min(times)


def layer(channels, size, batch):
    x = torch.randn(batch, channels, size, size, device="cuda")
    w = torch.randn(channels, channels, 3, 3, device="cuda")
    bases = torch.randn(BASES, w.numel(), device="cuda")
    pi = torch.randn(batch, BASES, device="cuda").softmax(1)

    def groups():
        kernels = (pi @ bases).view(batch * channels, channels, 3, 3)
        return conv2d(x.view(1, batch * channels, size, size), kernels, padding=1, groups=batch)

    def loop():
        kernels = (pi @ bases).view(batch, channels, channels, 3, 3)
        return torch.cat([conv2d(x[i : i + 1], kernels[i], padding=1) for i in range(batch)])

    calls = {"static": lambda: conv2d(x, w, padding=1), "dynamic (groups)": groups, "dynamic (loop)": loop}
    return ", ".join(f"{name} {microseconds(call):.1f}" for name, call in calls.items())


print(f"PyTorch {torch.__version__}, {torch.cuda.get_device_name()}")
for channels, size in ((64, 56), (128, 28), (256, 14), (512, 7)):
    for batch in (1, 8):
        print(f"{channels}@{size} B{batch}: {layer(channels, size, batch)}")
