"""Fixtures of dynamic convolution, written from the papers' formulas with basic PyTorch operations.

Chen et al., "Dynamic Convolution: Attention over Convolution Kernels", CVPR 2020 (arXiv:1912.03458), sections 3.1 and 3.2:

    y = g(W~(x)^T x + b~(x)),  W~ = sum_k pi_k(x) W_k,  b~ = sum_k pi_k(x) b_k,  sum_k pi_k = 1
    pi = softmax(z / tau),  z = FC(ReLU(FC(GAP(x))))

Yang et al., "CondConv", NeurIPS 2019 (arXiv:1904.04971), section 3:

    y = sigma((alpha_1 W_1 + ... + alpha_n W_n) * x),  alpha = sigmoid(GAP(x) R)

"renorm" divides those sigmoids by their sum. Each sample is convolved by itself, in a loop: nothing here is clever.
"""

import torch
import torch.nn.functional as F

from ops import pad


def mixed(x, bases, pi, bias, stride, padding, dilation, groups):
    """y_b = (sum_k pi_bk W_k) conv x_b + sum_k pi_bk c_k"""
    rows = []
    for b in range(x.shape[0]):
        weight = sum(pi[b, k] * bases[k] for k in range(bases.shape[0]))
        shift = None if bias is None else sum(pi[b, k] * bias[k] for k in range(bases.shape[0]))
        rows.append(F.conv2d(pad(x[b : b + 1], padding), weight, shift, stride=stride, dilation=dilation, groups=groups))
    return torch.cat(rows)


def mixture(z, kind, tau):
    if kind == "softmax":
        e = torch.exp(z / tau)
        return e / e.sum(1, keepdim=True)
    gates = 1 / (1 + torch.exp(-z / tau))
    return gates if kind == "sigmoid" else gates / gates.sum(1, keepdim=True)


def normalised(h, norm, weight, bias):
    """The normalisation between the routing's layers, h [B, hidden]: over each row (layer) or over the batch."""
    if norm == "none":
        return h
    axis = 1 if norm == "layer" else 0
    centred = h - h.mean(axis, keepdim=True)
    return centred / torch.sqrt((centred**2).mean(axis, keepdim=True) + 1e-5) * weight + bias


def op(fixture):
    """The operation alone: the mixture pi comes in."""

    def case(name, x, bases, bias=True, stride=(1, 1), padding=(0, 0, 0, 0), dilation=(1, 1), groups=1):
        inputs = {"x": fixture.random(*x), "bases": fixture.random(*bases, scale=0.5), "pi": fixture.random(x[0], bases[0])}
        if bias:
            inputs["bias"] = fixture.random(*bases[:2])

        def run(x, bases, pi, bias=None):
            return mixed(x, bases, pi, bias, stride, padding, dilation, groups)

        args = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
        fixture.case(f"dynamicConv2d-{name}", "dynamicConv2d", args, run, inputs)

    case("plain", (2, 3, 4, 4), (4, 2, 3, 3, 3), padding=(1, 1, 1, 1))
    case("one-sample", (1, 2, 4, 4), (3, 2, 2, 3, 3), bias=False)
    case("one-basis", (3, 2, 4, 3), (1, 3, 2, 2, 2))
    case("stride-four-paddings", (2, 2, 5, 6), (2, 3, 2, 3, 2), stride=(2, 1), padding=(0, 1, 2, 1))
    case("groups-dilation", (2, 4, 6, 6), (3, 4, 2, 3, 3), padding=(2, 1, 1, 2), dilation=(2, 2), groups=2)
    case("depthwise", (2, 3, 4, 4), (4, 6, 1, 3, 3), bias=False, padding=(1, 1, 1, 1), groups=3)


def layer(fixture):
    """The whole layer, routing included."""

    def case(name, x, outChannels, kernel, bases, ratio, kind, tau, bias=True, norm="none", stride=(1, 1), padding=(0, 0, 0, 0), dilation=(1, 1), groups=1):
        channels = x[1]
        kernelShape = (outChannels, channels // groups, *kernel)
        inputs = {"x": fixture.random(*x) + 0.5, "bases": fixture.random(bases, *kernelShape, scale=0.5)}
        if bias:
            inputs["bias"] = fixture.random(bases, outChannels)
        hidden = channels if ratio == 0 else max(4, int(channels * ratio))
        if ratio:
            inputs["routing.fc1.weight"] = fixture.random(hidden, channels)
        if norm != "none":
            inputs["routing.norm.weight"], inputs["routing.norm.bias"] = fixture.random(hidden), fixture.random(hidden)
        inputs["routing.fc2.weight"] = fixture.random(bases, hidden)
        inputs["routing.fc2.bias"] = fixture.random(bases)

        def run(x, bases, routing_fc2_weight, routing_fc2_bias, bias=None, routing_fc1_weight=None, routing_norm_weight=None, routing_norm_bias=None):
            h = x.mean((2, 3))
            if routing_fc1_weight is not None:
                h = torch.relu(normalised(h @ routing_fc1_weight.T, norm, routing_norm_weight, routing_norm_bias))
            pi = mixture(h @ routing_fc2_weight.T + routing_fc2_bias, kind, tau)
            return {"y": mixed(x, bases, pi, bias, stride, padding, dilation, groups), "pi": pi}

        args = {
            "inChannels": channels, "outChannels": outChannels, "kernelSize": kernel, "stride": stride, "padding": padding,
            "dilation": dilation, "groups": groups, "numBases": bases, "ratio": ratio, "routing": kind, "routingNorm": norm,
            "temperature": tau, "bias": bias,
        }  # fmt: skip
        fixture.case(f"DynamicConv2d-{name}", "DynamicConv2d", args, run, inputs)

    # Images of 16 or 8 pixels: the mean's factor is exact in binary.
    case("softmax-hot", (2, 8, 4, 4), 3, (3, 3), 4, 0.5, "softmax", 30.0, padding=(1, 1, 1, 1))
    case("softmax-tau-1", (3, 4, 4, 2), 4, (3, 2), 3, 1.0, "softmax", 1.0, stride=(2, 1), padding=(1, 0, 1, 1), groups=2)
    case("softmax-three-channels", (2, 3, 4, 4), 2, (3, 3), 4, 0.25, "softmax", 2.5, bias=False)
    case("condconv", (3, 4, 4, 4), 3, (3, 3), 4, 0, "sigmoid", 1.0, bias=False, padding=(1, 1, 1, 1))
    case("condconv-depthwise", (2, 4, 4, 4), 4, (3, 3), 3, 0, "sigmoid", 1.0, padding=(2, 2, 2, 2), dilation=(2, 2), groups=4)
    case("renorm", (2, 4, 4, 4), 3, (1, 1), 4, 0, "renorm", 4.0)
    case("layer-norm", (3, 4, 2, 4), 2, (2, 2), 3, 1.0, "softmax", 4.0, norm="layer")
    case("batch-norm", (4, 4, 4, 4), 2, (3, 3), 3, 1.0, "renorm", 1.0, norm="batch", padding=(1, 1, 1, 1))
