// Convolutions, an element of the result for each invocation: no tiles, short texts. For shapes whose work does not pay for
// the compilation of a tiled kernel, and for few channels a group (depthwise), where there is nothing to share.
//
//   y[n, o, p, q]    = sum over i, r, s of x[n, c(o) + i, p sh - top + r dh, q sw - left + s dw] w[o, i, r, s]
//   dx[n, c, h, w]   = sum over o in c's group, r, s with p = (h + top - r dh) / sh and q likewise integral and inside
//   dw[o, i, r, s]   = sum over n, p, q

import { type Finish, itemKernel, type Kernel, loaded, reads, stored, storing, writes } from '../wgsl/kernel.ts'
import { place } from '../wgsl/views.ts'
import { type Bias, biasAt, biasBinding, type ConvShape, letters, weightSize } from './convShape.ts'

/** Bindings: x, w, bias where there is one, and y or what `finish` has. */
export function convPlainKernel(shape: ConvShape, bias: Bias, finish: Finish = storing(shape.dtype, shape.target)): Kernel {
  const { target, dtype, batch, inChannels, outChannels, perSample } = shape
  const { ig, og, H, W, P, Q, kh, kw, sh, sw, dh, dw, top, left } = letters(shape)
  return itemKernel({
    label: `conv2d${finish.label}`,
    target,
    bindings: [...reads(dtype, 'x', 'w'), ...biasBinding(bias, dtype), ...finish.bindings],
    declarations: finish.declarations,
    count: batch * outChannels * P * Q,
    body: `  ${place('item', [['n', batch], ['o', outChannels], ['p', P], ['q', Q]])}
  let y0 = p * ${sh} - ${top};
  let x0 = q * ${sw} - ${left};
  var xi = (n * ${inChannels} + (o / ${og}) * ${ig}) * ${H * W};
  var wi = ${perSample ? `n * ${weightSize(shape)} + ` : ''}o * ${ig * kh * kw};
  var sum = ${biasAt(shape, bias, 'n', 'o')};
  for (var i = 0; i < ${ig}; i++) {
    for (var r = 0; r < ${kh}; r++) {
      let h = y0 + r * ${dh};
      for (var s = 0; s < ${kw}; s++) {
        let c = x0 + s * ${dw};
        let inside = (h >= 0) & (h < ${H}) & (c >= 0) & (c < ${W});
        if (inside) { sum += ${loaded(`x[xi + h * ${W} + c]`, dtype, target)} * ${loaded(`w[wi + r * ${kw} + s]`, dtype, target)}; }
      }
    }
    xi += ${H * W};
    wi += ${kh * kw};
  }
  ${finish.store('sum', 'item')}`,
  })
}

/** Bindings: dy, w, and dx (named y) or what `finish` has. */
export function inputGradPlainKernel(shape: ConvShape, finish: Finish = storing(shape.dtype, shape.target)): Kernel {
  const { target, dtype, batch, inChannels, outChannels, perSample } = shape
  const { ig, og, H, W, P, Q, kh, kw, sh, sw, dh, dw, top, left } = letters(shape)
  return itemKernel({
    label: `conv2dInputGrad${finish.label}`,
    target,
    bindings: [...reads(dtype, 'dy', 'w'), ...finish.bindings],
    declarations: finish.declarations,
    count: batch * inChannels * H * W,
    body: `  ${place('item', [['n', batch], ['i', inChannels], ['h', H], ['c', W]])}
  let first = (i / ${ig}) * ${og};
  var sum = 0.0;
  for (var r = 0; r < ${kh}; r++) {
    let rows = h + ${top} - r * ${dh};
    let p = rows / ${sh};
    if (rows < 0 || p * ${sh} != rows || p >= ${P}) { continue; }
    for (var s = 0; s < ${kw}; s++) {
      let columns = c + ${left} - s * ${dw};
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
  ${finish.store('sum', 'item')}`,
  })
}

/** Samples [first, first + count), summed up or each into a weight of its own. Bindings: x, dy, dw. */
export function filterGradPlainKernel(shape: ConvShape, samples: { readonly first: number; readonly count: number }): Kernel {
  const { target, dtype, inChannels, outChannels, perSample } = shape
  const { ig, og, H, W, P, Q, kh, kw, sh, sw, dh, dw, top, left } = letters(shape)
  const size = weightSize(shape)
  const count = perSample ? samples.count : 1
  const begin = perSample ? `${samples.first} + sample` : String(samples.first)
  const end = perSample ? 'begin + 1' : String(samples.first + samples.count)
  return itemKernel({
    label: 'conv2dFilterGrad',
    target,
    bindings: [...reads(dtype, 'x', 'dy'), ...writes(dtype, 'dw')],
    count: size * count,
    body: `  ${place('item', [['sample', count], ['o', outChannels], ['i', ig], ['r', kh], ['s', kw]])}
  let y0 = r * ${dh} - ${top};
  let x0 = s * ${dw} - ${left};
  let begin = ${begin};
  var sum = 0.0;
  for (var n = begin; n < ${end}; n++) {
    let xi = (n * ${inChannels} + (o / ${og}) * ${ig} + i) * ${H * W};
    let di = (n * ${outChannels} + o) * ${P * Q};
    for (var p = 0; p < ${P}; p++) {
      let h = p * ${sh} + y0;
      if (h < 0 || h >= ${H}) { continue; }
      for (var q = 0; q < ${Q}; q++) {
        let c = q * ${sw} + x0;
        if (c < 0 || c >= ${W}) { continue; }
        sum += ${loaded(`x[xi + h * ${W} + c]`, dtype, target)} * ${loaded(`dy[di + p * ${Q} + q]`, dtype, target)};
      }
    }
  }
  dw[item] = ${stored('sum', dtype, target)};`,
  })
}
