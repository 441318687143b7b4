#!/usr/bin/env python3
"""Writes the fixtures that PyTorch stands behind: python3 tools/oracle/torch_fixtures.py [--out FOLDER] [--only NAME]...

Needs PyTorch alone (Debian: python3-torch). The README beside it says how to regenerate and compare.
"""

import argparse
import os
import sys

import torch

sys.dont_write_bytecode = True

import dynamic
import ops
import optimizers
from fixture import Fixture

FAMILIES = {
    "conv": [ops.conv],
    "pool": [ops.pool],
    "norm": [ops.norm],
    "softmax": [ops.softmax],
    "loss": [ops.loss],
    "resize": [ops.resize],
    "basic": [ops.basic],
    "dynamic": [dynamic.op, dynamic.layer],
    "optim": [optimizers.optimizers],
}
ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def main():
    parser = argparse.ArgumentParser(description="Writes the fixtures that PyTorch stands behind.")
    parser.add_argument("--out", default=os.path.join(ROOT, "packages", "conformance", "fixtures"), help="the folder (packages/conformance/fixtures unless given)")
    parser.add_argument("--only", action="append", choices=list(FAMILIES), help="one family; may be repeated (all unless given)")
    parser.add_argument("--seed", type=int, default=1, help="of all random numbers (1 unless given)")
    options = parser.parse_args()
    # One thread, so that sums have one order.
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    os.makedirs(options.out, exist_ok=True)
    for name in options.only or FAMILIES:
        fixture = Fixture(options.seed)
        for fill in FAMILIES[name]:
            fill(fixture)
        path = os.path.join(options.out, f"torch-{name}.safetensors")
        how = {"script": "tools/oracle/torch_fixtures.py", "arguments": f"--only {name} --seed {options.seed}"}
        fixture.write(path, how)
        print(f"{path}: {len(fixture.cases)} cases, {len(fixture.tensors)} tensors, {os.path.getsize(path)} bytes")


if __name__ == "__main__":
    sys.exit(main())
