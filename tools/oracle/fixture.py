"""Writes fixtures: what a function gives in PyTorch, in float64, with gradients and gradients of gradients.

A fixture is a safetensors file. Its metadata says how it was made and lists its cases as JSON; the tensors of a case are
named CASE/ROLE/NAME:

    in      inputs; states of a module carry their path as their name (`0.weight`)
    out     outputs
    seed    the gradient that flows into an output
    grad    the gradient of sum(out * seed) by an input
    seed2   the weight of that gradient in sum(grad * seed2)
    grad2   the gradient of sum(grad * seed2) by an input, or (`seed:NAME`) by a seed
    after   what a state of a module holds after the call

Everything that goes in is representable in float32, so that float32 engines can be given the very same numbers; it is
stored so. What comes out is stored in float64.
"""

import json
import os
import struct

import torch

DTYPES = {torch.float32: "F32", torch.float64: "F64", torch.int32: "I32"}


def write_safetensors(path, tensors, metadata):
    """The format: https://huggingface.co/docs/safetensors. Larger elements first, so that all are aligned without gaps."""
    header, chunks, end = {"__metadata__": metadata}, [], 0
    for name, t in sorted(tensors.items(), key=lambda item: (-item[1].element_size(), item[0])):
        data = t.detach().contiguous().numpy().tobytes()
        header[name] = {"dtype": DTYPES[t.dtype], "shape": list(t.shape), "data_offsets": [end, end + len(data)]}
        chunks.append(data)
        end += len(data)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    beside = f"{path}.tmp-{os.getpid()}"
    with open(beside, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text + b"".join(chunks))
        file.flush()
        os.fsync(file.fileno())
    os.replace(beside, path)


def single(t):
    """Numbers rounded to what float32 represents."""
    return t.float().double() if t.is_floating_point() else t


class Fixture:
    """Collects cases; all random numbers come from one seed."""

    def __init__(self, seed):
        self.generator = torch.Generator().manual_seed(seed)
        self.tensors = {}
        self.cases = []

    def random(self, *shape, scale=1.0):
        """Normal numbers, representable in float32, as float64."""
        return single(torch.randn(shape, generator=self.generator, dtype=torch.float64) * scale)

    def integers(self, *shape, below):
        return torch.randint(below, shape, generator=self.generator, dtype=torch.int32)

    def put(self, case, role, name, t):
        if role in ("in", "seed", "seed2") and t.is_floating_point():
            rounded = t.detach().float()
            if not torch.allclose(rounded.double(), t.detach(), rtol=0, atol=0, equal_nan=True):
                raise ValueError(f"{case}: {role} {name} is not representable in float32")
            t = rounded
        self.tensors[f"{case}/{role}/{name}"] = t

    def case(self, name, op, args, function, inputs, wrt=None, second=True, after=None):
        """Runs `function(**inputs)` -> tensor or {name: tensor}, and its gradients by `wrt` (all floats unless given).

        `inputs` are {name: tensor}, in order, and are rounded to float32; a dot in a name becomes `_` for the function.
        `after()` gives states after the call.
        """
        inputs = {n: single(t) for n, t in inputs.items()}
        wrt = [n for n, t in inputs.items() if t.is_floating_point()] if wrt is None else wrt
        leaves = {n: t.clone().requires_grad_(n in wrt) for n, t in inputs.items()}
        result = function(**{n.replace(".", "_"): t for n, t in leaves.items()})
        outputs = result if isinstance(result, dict) else {"y": result}
        for n, t in inputs.items():
            self.put(name, "in", n, t)
        for n, t in outputs.items():
            self.put(name, "out", n, t)
        for n, t in (after() if after else {}).items():
            self.put(name, "after", n, t)
        if wrt:
            self.differentiate(name, leaves, outputs, wrt, second)
        self.cases.append({"id": name, "op": op, "args": args, "inputs": list(inputs), "outputs": list(outputs), "wrt": wrt, "second": bool(wrt) and second})

    def differentiate(self, name, leaves, outputs, wrt, second):
        seeds = {n: self.random(*t.shape).requires_grad_(True) for n, t in outputs.items()}
        by = [leaves[n] for n in wrt]
        grads = torch.autograd.grad(list(outputs.values()), by, list(seeds.values()), create_graph=second)
        for n, t in seeds.items():
            self.put(name, "seed", n, t)
        for n, t in zip(wrt, grads):
            self.put(name, "grad", n, t)
        if not second:
            return
        seeds2 = {n: self.random(*leaves[n].shape) for n in wrt}
        contracted = sum((g * seeds2[n]).sum() for n, g in zip(wrt, grads))
        variables = {**{n: leaves[n] for n in wrt}, **{f"seed:{n}": t for n, t in seeds.items()}}
        grads2 = torch.autograd.grad(contracted, list(variables.values()), allow_unused=True)
        for n, t in seeds2.items():
            self.put(name, "seed2", n, t)
        for (n, variable), t in zip(variables.items(), grads2):
            self.put(name, "grad2", n, torch.zeros_like(variable) if t is None else t)

    def write(self, path, how):
        metadata = {**how, "torch": torch.__version__, "cases": json.dumps(self.cases, separators=(",", ":"))}
        write_safetensors(path, self.tensors, metadata)
