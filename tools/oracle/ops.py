"""Fixtures of single operations: PyTorch's own, called as its users call them."""

import torch
import torch.nn.functional as F

from fixture import single

NEGATIVE_INFINITY = float("-inf")


def sides(padding):
    """[top, bottom, left, right] as F.pad takes it."""
    top, bottom, left, right = padding
    return (left, right, top, bottom)


def pad(x, padding, value=0.0):
    return F.pad(x, sides(padding), value=value) if any(padding) else x


def conv(fixture):
    def case(name, x, weight, bias=False, stride=(1, 1), padding=(0, 0, 0, 0), dilation=(1, 1), groups=1):
        def run(x, weight, bias=None):
            return F.conv2d(pad(x, padding), weight, bias, stride=stride, dilation=dilation, groups=groups)

        inputs = {"x": fixture.random(*x), "weight": fixture.random(*weight, scale=0.5)}
        if bias:
            inputs["bias"] = fixture.random(weight[0])
        args = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
        fixture.case(f"conv2d-{name}", "conv2d", args, run, inputs)

    case("plain", (2, 3, 6, 5), (4, 3, 3, 3))
    case("one-pixel-kernel", (2, 3, 4, 3), (5, 3, 1, 1), bias=True)
    case("one-pixel-kernel-stride", (2, 3, 5, 4), (2, 3, 1, 1), stride=(2, 3))
    case("stride-bias", (2, 3, 7, 6), (4, 3, 3, 3), bias=True, stride=(2, 2), padding=(1, 1, 1, 1))
    case("four-paddings", (1, 2, 5, 6), (3, 2, 3, 2), padding=(0, 1, 2, 3))
    case("rectangles", (2, 2, 6, 7), (3, 2, 2, 3), bias=True, stride=(2, 1), padding=(1, 0, 0, 2), dilation=(1, 2))
    case("dilation", (1, 3, 7, 7), (2, 3, 3, 3), dilation=(2, 3))
    case("groups", (2, 6, 5, 4), (4, 3, 3, 3), bias=True, padding=(1, 1, 1, 1), groups=2)
    case("depthwise", (2, 4, 5, 5), (4, 1, 3, 3), padding=(1, 1, 1, 1), groups=4)
    case("depthwise-multiplier", (1, 3, 6, 6), (6, 1, 3, 3), bias=True, stride=(2, 2), padding=(2, 1, 1, 2), dilation=(2, 2), groups=3)
    case("everything", (2, 4, 8, 7), (6, 2, 3, 2), bias=True, stride=(3, 2), padding=(2, 1, 0, 3), dilation=(2, 3), groups=2)
    case("rows-left-over", (1, 2, 8, 8), (2, 2, 2, 2), stride=(3, 3))
    case("whole-image", (2, 3, 4, 3), (2, 3, 4, 3), bias=True)
    case("padding-beyond-kernel", (1, 2, 3, 3), (2, 2, 2, 2), padding=(3, 2, 2, 3))


def pool(fixture):
    def most(name, x, kernel, stride, padding=(0, 0, 0, 0), **options):
        args = {"kernelSize": kernel, "stride": stride, "padding": padding}
        fixture.case(f"maxPool2d-{name}", "maxPool2d", args, lambda x: F.max_pool2d(pad(x, padding, NEGATIVE_INFINITY), kernel, stride), {"x": x}, **options)

    def mean(name, x, kernel, stride, padding=(0, 0, 0, 0), include=True):
        def run(x):
            # PyTorch's own padding where it has it; its count of pixels then leaves the border out or not.
            symmetric = padding[0] == padding[1] and padding[2] == padding[3]
            if symmetric:
                return F.avg_pool2d(x, kernel, stride, (padding[0], padding[2]), count_include_pad=include)
            total = F.avg_pool2d(pad(x, padding), kernel, stride, divisor_override=1)
            count = F.avg_pool2d(pad(torch.ones_like(x), padding), kernel, stride, divisor_override=1)
            return total / (kernel[0] * kernel[1]) if include else total / count

        args = {"kernelSize": kernel, "stride": stride, "padding": padding, "countIncludePad": include}
        fixture.case(f"avgPool2d-{name}", "avgPool2d", args, run, {"x": x})

    most("plain", fixture.random(2, 3, 6, 4), (2, 2), (2, 2))
    most("overlapping", fixture.random(1, 2, 7, 6), (3, 3), (2, 2), (1, 1, 1, 1))
    most("rectangles", fixture.random(2, 1, 5, 7), (3, 2), (1, 3), (1, 2, 0, 1))
    most("all-negative", -fixture.random(1, 2, 4, 4).abs() - 1, (3, 3), (1, 1), (1, 1, 1, 1))
    most("ties", fixture.integers(2, 2, 6, 6, below=3).double(), (3, 3), (2, 2), (1, 1, 1, 1))
    odd = fixture.random(1, 1, 5, 5)
    odd[0, 0, 1, 1], odd[0, 0, 4, 0], odd[0, 0, 0, 4] = float("nan"), float("inf"), NEGATIVE_INFINITY
    most("not-finite", odd, (2, 2), (1, 1), wrt=[])
    mean("plain", fixture.random(2, 3, 6, 4), (2, 2), (2, 2))
    mean("padding-counts", fixture.random(1, 2, 7, 6), (3, 3), (2, 2), (1, 1, 1, 1))
    mean("padding-does-not-count", fixture.random(1, 2, 7, 6), (3, 3), (2, 2), (1, 1, 1, 1), include=False)
    mean("four-paddings", fixture.random(2, 1, 5, 7), (3, 2), (1, 3), (1, 2, 0, 1))
    mean("four-paddings-do-not-count", fixture.random(2, 1, 5, 7), (3, 2), (1, 3), (1, 2, 0, 1), include=False)
    for name, shape in (("plain", (2, 3, 4, 4)), ("odd", (2, 3, 7, 5))):
        fixture.case(f"globalAvgPool2d-{name}", "globalAvgPool2d", {}, lambda x: F.adaptive_avg_pool2d(x, 1), {"x": fixture.random(*shape)})


def norm(fixture):
    """Epsilons that are not tiny are powers of two: gradients of gradients hold them as constants in float32."""

    def batch(name, shape, epsilon):
        def run(x, gamma, beta):
            y = F.batch_norm(x, None, None, gamma, beta, training=True, eps=epsilon)
            axes = [0, *range(2, x.dim())]
            return {"y": y, "mean": x.mean(axes), "variance": x.var(axes, unbiased=False)}

        fixture.case(f"batchNorm-{name}", "batchNorm", {"epsilon": epsilon}, run, affine(shape))

    def affine(shape):
        return {"x": fixture.random(*shape) * 2 + 1, "gamma": fixture.random(shape[1]), "beta": fixture.random(shape[1])}

    def inference(epsilon):
        inputs = {**affine((2, 3, 4, 3)), "mean": fixture.random(3), "variance": fixture.random(3).abs() + 0.5}

        def run(x, gamma, beta, mean, variance):
            return F.batch_norm(x, mean, variance, gamma, beta, training=False, eps=epsilon)

        def formula(x, gamma, beta, mean, variance):
            channel = (1, -1, 1, 1)
            return (x - mean.view(channel)) / torch.sqrt(variance.view(channel) + epsilon) * gamma.view(channel) + beta.view(channel)

        args = {"epsilon": epsilon}
        # PyTorch's own takes the statistics as constants.
        fixture.case("batchNormInference", "batchNormInference", args, run, inputs, wrt=["x", "gamma", "beta"])
        fixture.case("batchNormInference-statistics", "batchNormInference", args, formula, inputs)

    def layer(name, training):
        # 3 * 11 * 1 values a channel: 33 / 32, the factor of the unbiased variance, is exact in binary, as the momentum is.
        module = torch.nn.BatchNorm2d(4, eps=2.0**-10, momentum=0.125).double().train(training)
        inputs = {
            "x": fixture.random(3, 4, 11, 1) * 2 + 1,
            "weight": fixture.random(4),
            "bias": fixture.random(4),
            "running_mean": fixture.random(4),
            "running_var": single(fixture.random(4).abs() + 0.5),
        }
        module.running_mean, module.running_var = inputs["running_mean"].clone(), inputs["running_var"].clone()

        def run(x, weight, bias, running_mean, running_var):
            return F.batch_norm(x, module.running_mean, module.running_var, weight, bias, training, module.momentum, module.eps)

        def after():
            return {"running_mean": module.running_mean, "running_var": module.running_var}

        args = {"channels": 4, "epsilon": 2.0**-10, "momentum": 0.125, "training": training}
        fixture.case(f"BatchNorm2d-{name}", "BatchNorm2d", args, run, inputs, wrt=["x", "weight", "bias"], after=after)

    def group(name, shape, groups, epsilon):
        args = {"groups": groups, "epsilon": epsilon}
        fixture.case(f"groupNorm-{name}", "groupNorm", args, lambda x, gamma, beta: F.group_norm(x, groups, gamma, beta, epsilon), affine(shape))

    batch("plain", (3, 2, 3, 3), 1e-5)
    batch("large-epsilon", (2, 3, 4, 1), 0.125)
    batch("no-pixels", (5, 3), 1e-5)
    inference(2.0**-10)
    layer("training", True)
    layer("inference", False)
    group("two-groups", (2, 4, 3, 3), 2, 1e-5)
    group("layer", (3, 6, 2, 3), 1, 2.0**-10)
    group("instance", (2, 3, 4, 4), 3, 1e-5)


def softmax(fixture):
    def case(name, op, x, axis, **options):
        function = {"softmax": F.softmax, "logSoftmax": F.log_softmax}[op]
        fixture.case(f"{op}-{name}", op, {"axis": axis}, lambda x: function(x, axis), {"x": x}, **options)

    for op in ("softmax", "logSoftmax"):
        case("last-axis", op, fixture.random(4, 7), 1)
        case("first-axis", op, fixture.random(5, 3), 0)
        case("middle-axis", op, fixture.random(2, 5, 3), 1)
        case("one-element", op, fixture.random(3, 1), 1)
        case("large", op, fixture.random(3, 6) * 64 + 512, 1)
    far = fixture.random(2, 4)
    far[0, 1] = NEGATIVE_INFINITY
    case("minus-infinity", "softmax", far, 1, wrt=[])
    case("minus-infinity", "logSoftmax", far, 1, wrt=[])


def loss(fixture):
    def classes(name, shape, smoothing):
        inputs = {"logits": fixture.random(*shape) * 2, "labels": fixture.integers(shape[0], below=shape[1])}

        def run(logits, labels):
            return F.cross_entropy(logits, labels.long(), label_smoothing=smoothing)

        fixture.case(f"crossEntropy-{name}", "crossEntropy", {"smoothing": smoothing}, run, inputs)

    classes("plain", (4, 8), 0.0)
    classes("odd", (3, 7), 0.0)
    # The smoothing and its share for each class are constants: exact in binary.
    classes("smoothing", (5, 8), 0.125)
    for op, function in (("mse", F.mse_loss), ("l1", F.l1_loss)):
        for name, shape in (("plain", (4, 8)), ("odd", (3, 5))):
            inputs = {"output": fixture.random(*shape), "target": fixture.random(*shape)}
            inputs["output"][1, 2] = inputs["target"][1, 2]

            def run(output, target, function=function):
                return function(output, target)

            fixture.case(f"{op}-{name}", op, {}, run, inputs, second=op == "mse")


def resize(fixture):
    for mode in ("nearest", "bilinear"):
        options = {} if mode == "nearest" else {"align_corners": False}
        for name, size, to in (
            ("twice", (3, 4), (6, 8)),
            ("odd", (4, 3), (5, 7)),
            ("smaller", (8, 7), (3, 4)),
            ("one-larger-one-smaller", (5, 6), (7, 2)),
            ("to-one-pixel", (4, 5), (1, 1)),
            ("from-one-pixel", (1, 1), (3, 2)),
            ("same", (3, 3), (3, 3)),
        ):

            def run(x, to=to, mode=mode, options=options):
                return F.interpolate(x, size=to, mode=mode, **options)

            fixture.case(f"resize-{mode}-{name}", "resize", {"size": to, "mode": mode}, run, {"x": fixture.random(2, 2, *size)})


def basic(fixture):
    """Elementwise operations, products, reductions and gathering."""

    def positive(*shape):
        return fixture.random(*shape).abs() + 0.25

    def case(op, function, inputs, args=None, name="", **options):
        fixture.case(f"{op}-{name}" if name else op, op, args or {}, function, inputs, **options)

    anywhere = fixture.random(3, 4) * 2
    anywhere[0, 0] = 0.0
    for op in ("abs", "neg", "relu"):
        case(op, lambda x, op=op: getattr(torch, op)(x), {"x": anywhere}, second=False)
    for op in ("exp", "sigmoid", "tanh"):
        case(op, lambda x, op=op: getattr(torch, op)(x), {"x": anywhere})
    for op in ("log", "rsqrt", "sqrt"):
        case(op, lambda x, op=op: getattr(torch, op)(x), {"x": positive(3, 4)})
    edges = torch.tensor([-2.0, -1.0, -0.5, 0.5, 2.0, 3.0], dtype=torch.float64)
    case("clamp", lambda x: torch.clamp(x, -1.0, 2.0), {"x": edges}, {"min": -1, "max": 2}, second=False)

    def pair(op, function, a, b, name="broadcast", **options):
        case(op, lambda a, b: function(a, b), {"a": a, "b": b}, name=name, **options)

    a, b = (2, 3, 1), (4, 1, 3, 4)
    pair("add", torch.add, fixture.random(*a), fixture.random(*b))
    pair("sub", torch.sub, fixture.random(*a), fixture.random(*b))
    pair("mul", torch.mul, fixture.random(*a), fixture.random(*b))
    pair("div", torch.div, fixture.random(*a), positive(*b))
    pair("pow", torch.pow, positive(*a), fixture.random(*b))
    few = [fixture.integers(*shape, below=3).double() for shape in (a, b)]
    pair("max", torch.maximum, *few, name="ties", second=False)
    pair("min", torch.minimum, *few, name="ties", second=False)

    def product(name, a, b, transposeA=False, transposeB=False):
        def run(a, b):
            return torch.matmul(a.transpose(-1, -2) if transposeA else a, b.transpose(-1, -2) if transposeB else b)

        case("matmul", run, {"a": fixture.random(*a), "b": fixture.random(*b)}, {"transposeA": transposeA, "transposeB": transposeB}, name)

    product("plain", (3, 5), (5, 2))
    product("both-transposed", (5, 3), (2, 5), True, True)
    product("batch", (2, 3, 4), (2, 4, 2))
    product("broadcast", (2, 1, 3, 4), (3, 5, 4), transposeB=True)
    product("many-times-one", (2, 3, 4), (4, 5))
    product("one-times-many", (4, 3), (2, 4, 5), transposeA=True)

    case("reduceSum", lambda x: x.sum((0, 2)), {"x": fixture.random(2, 3, 4)}, {"axes": [0, 2], "keepDims": False})
    ties = fixture.integers(3, 2, 4, below=3).double()
    case("reduceMax", lambda x: x.amax((0, 2), keepdim=True), {"x": ties}, {"axes": [0, 2], "keepDims": True}, "ties", second=False)
    rows = torch.tensor([[2, 0], [2, 3]], dtype=torch.int32)
    # x[:, rows]: [3, 5] -> [3, 2, 2]
    case("gather", lambda x, indices: x[:, indices.long()], {"x": fixture.random(3, 5), "indices": rows}, {"axis": 1})
    # y[indices] += x, as index_add: duplicates add up.
    some = torch.tensor([1, 4, 1, 0], dtype=torch.int32)
    case(
        "scatterAdd",
        lambda x, indices: torch.zeros(3, 6, dtype=torch.float64).index_add(1, indices.long(), x),
        {"x": fixture.random(3, 4), "indices": some},
        {"axis": 1, "size": 6},
    )
