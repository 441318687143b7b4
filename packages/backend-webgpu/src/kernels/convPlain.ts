// Convolutions, an element of the result for each invocation: no tiles, short texts. For shapes whose work does not pay for
// the compilation of a tiled kernel, and for few channels a group (depthwise), where there is nothing to share.
//
//   y[n, o, p, q]    = sum over i, r, s of x[n, c(o) + i, p sh - top + r dh, q sw - left + s dw] w[o, i, r, s]
//   dx[n, c, h, w]   = sum over o in c's group, r, s with p = (h + top - r dh) / sh and q likewise integral and inside
//   dw[o, i, r, s]   = sum over n, p, q

import { itemKernel, type Kernel, loaded, stored } from '../wgsl/kernel.ts'
import { type Bias, type ConvShape, perGroup, weightSize } from './convShape.ts'

/** Bindings: x, w, y, bias where there is one. */
export function convPlainKernel(shape: ConvShape, bias: Bias): Kernel {
  const { target, dtype, batch, inChannels, outChannels, inSize, outSize, kernelSize, attrs, perSample } = shape
  const [ig, og] = perGroup(shape)
  const [[H, W], [P, Q], [kh, kw]] = [inSize, outSize, kernelSize]
  const [top, , left] = attrs.padding
  const start = bias === 'none' ? '0.0' : loaded(bias === 'channel' ? 'bias[o]' : `bias[n * ${outChannels} + o]`, dtype, target)
  return itemKernel({
    label: 'conv2d',
    target,
    bindings: [
      { name: 'x', dtype },
      { name: 'w', dtype },
      { name: 'y', dtype, access: 'read_write' },
      ...(bias === 'none' ? [] : [{ name: 'bias', dtype }]),
    ],
    count: batch * outChannels * P * Q,
    body: `  let q = i32(item % ${Q}u);
  let p = i32((item / ${Q}u) % ${P}u);
  let o = i32((item / ${P * Q}u) % ${outChannels}u);
  let n = i32(item / ${outChannels * P * Q}u);
  let y0 = p * ${attrs.stride[0]} - ${top};
  let x0 = q * ${attrs.stride[1]} - ${left};
  var xi = (n * ${inChannels} + (o / ${og}) * ${ig}) * ${H * W};
  var wi = ${perSample ? `n * ${weightSize(shape)} + ` : ''}o * ${ig * kh * kw};
  var sum = ${start};
  for (var i = 0; i < ${ig}; i++) {
    for (var r = 0; r < ${kh}; r++) {
      let h = y0 + r * ${attrs.dilation[0]};
      for (var s = 0; s < ${kw}; s++) {
        let c = x0 + s * ${attrs.dilation[1]};
        let inside = (h >= 0) & (h < ${H}) & (c >= 0) & (c < ${W});
        if (inside) { sum += ${loaded(`x[xi + h * ${W} + c]`, dtype, target)} * ${loaded(`w[wi + r * ${kw} + s]`, dtype, target)}; }
      }
    }
    xi += ${H * W};
    wi += ${kh * kw};
  }
  y[item] = ${stored('sum', dtype, target)};`,
  })
}

/** Bindings: dy, w, dx. */
export function inputGradPlainKernel(shape: ConvShape): Kernel {
  const { target, dtype, batch, inChannels, outChannels, inSize, outSize, kernelSize, attrs, perSample } = shape
  const [ig, og] = perGroup(shape)
  const [[H, W], [P, Q], [kh, kw]] = [inSize, outSize, kernelSize]
  const [top, , left] = attrs.padding
  const [sh, sw] = attrs.stride
  return itemKernel({
    label: 'conv2dInputGrad',
    target,
    bindings: [
      { name: 'dy', dtype },
      { name: 'w', dtype },
      { name: 'dx', dtype, access: 'read_write' },
    ],
    count: batch * inChannels * H * W,
    body: `  let c = i32(item % ${W}u);
  let h = i32((item / ${W}u) % ${H}u);
  let i = i32((item / ${H * W}u) % ${inChannels}u);
  let n = i32(item / ${inChannels * H * W}u);
  let first = (i / ${ig}) * ${og};
  var sum = 0.0;
  for (var r = 0; r < ${kh}; r++) {
    let rows = h + ${top} - r * ${attrs.dilation[0]};
    let p = rows / ${sh};
    if (rows < 0 || p * ${sh} != rows || p >= ${P}) { continue; }
    for (var s = 0; s < ${kw}; s++) {
      let columns = c + ${left} - s * ${attrs.dilation[1]};
      let q = columns / ${sw};
      if (columns < 0 || q * ${sw} != columns || q >= ${Q}) { continue; }
      var di = (n * ${outChannels} + first) * ${P * Q} + p * ${Q} + q;
      var wi = ${perSample ? `n * ${weightSize(shape)} + ` : ''}(first * ${ig} + i % ${ig}) * ${kh * kw} + r * ${kw} + s;
      for (var o = 0; o < ${og}; o++) {
        sum += ${loaded('dy[di]', dtype, target)} * ${loaded('w[wi]', dtype, target)};
        di += ${P * Q};
        wi += ${ig * kh * kw};
      }
    }
  }
  dx[item] = ${stored('sum', dtype, target)};`,
  })
}

/** Samples [first, first + count), summed up or each into a weight of its own. Bindings: x, dy, dw. */
export function filterGradPlainKernel(shape: ConvShape, samples: { readonly first: number; readonly count: number }): Kernel {
  const { target, dtype, inChannels, outChannels, inSize, outSize, kernelSize, attrs, perSample } = shape
  const [ig, og] = perGroup(shape)
  const [[H, W], [P, Q], [kh, kw]] = [inSize, outSize, kernelSize]
  const [top, , left] = attrs.padding
  const size = weightSize(shape)
  const begin = perSample ? `${samples.first} + i32(item / ${size}u)` : String(samples.first)
  const end = perSample ? 'begin + 1' : String(samples.first + samples.count)
  return itemKernel({
    label: 'conv2dFilterGrad',
    target,
    bindings: [
      { name: 'x', dtype },
      { name: 'dy', dtype },
      { name: 'dw', dtype, access: 'read_write' },
    ],
    count: size * (perSample ? samples.count : 1),
    body: `  let s = i32(item % ${kw}u);
  let r = i32((item / ${kw}u) % ${kh}u);
  let i = i32((item / ${kh * kw}u) % ${ig}u);
  let o = i32((item / ${ig * kh * kw}u) % ${outChannels}u);
  let y0 = r * ${attrs.dilation[0]} - ${top};
  let x0 = s * ${attrs.dilation[1]} - ${left};
  let begin = ${begin};
  var sum = 0.0;
  for (var n = begin; n < ${end}; n++) {
    let xi = (n * ${inChannels} + (o / ${og}) * ${ig} + i) * ${H * W};
    let di = (n * ${outChannels} + o) * ${P * Q};
    for (var p = 0; p < ${P}; p++) {
      let h = p * ${attrs.stride[0]} + y0;
      if (h < 0 || h >= ${H}) { continue; }
      for (var q = 0; q < ${Q}; q++) {
        let c = q * ${attrs.stride[1]} + x0;
        if (c < 0 || c >= ${W}) { continue; }
        sum += ${loaded(`x[xi + h * ${W} + c]`, dtype, target)} * ${loaded(`dy[di + p * ${Q} + q]`, dtype, target)};
      }
    }
  }
  dw[item] = ${stored('sum', dtype, target)};`,
  })
}
