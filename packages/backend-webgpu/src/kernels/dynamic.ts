// What a dynamic convolution needs besides a convolution: mixing kernels, and taking the gradient of the mixed kernels apart
// again. Neither looks at what the n elements of a kernel mean.

import type { DType } from '@dynconv/core'
import { combineLanes, itemKernel, type Kernel, lanesFor, loaded, rowKernel, sharedLanes, stored, type Target } from '../wgsl/kernel.ts'

/** B samples, K bases, n elements of a kernel. */
export interface Mixture {
  readonly target: Target
  readonly dtype: DType
  readonly batch: number
  readonly numBases: number
  readonly size: number
}

const list = (count: number, each: (i: number) => string, separator: string = ' '): string => Array.from({ length: count }, (_, i) => each(i)).join(separator)

/**
 * V[b] = sum_k pi[b, k] W[k]. An invocation keeps one column of all bases in registers and goes through the samples, so that
 * the bases are read once whatever the batch. Bindings: bases, pi, kernels.
 */
export function aggregateKernel({ target, dtype, batch, numBases, size }: Mixture): Kernel {
  const width = size % 4 === 0 ? 4 : 1
  const columns = size / width
  return itemKernel({
    label: 'aggregate',
    target,
    bindings: [
      { name: 'bases', dtype, width },
      { name: 'pi', dtype },
      { name: 'kernels', dtype, width, access: 'read_write' },
    ],
    count: columns,
    body: `  ${list(numBases, (k) => `let w${k} = ${loaded(`bases[item + ${k * columns}u]`, dtype, target, width)};`, '\n  ')}
  for (var b = 0u; b < ${batch}u; b++) {
    let v = ${list(numBases, (k) => `${loaded(`pi[b * ${numBases}u + ${k}u]`, dtype, target)} * w${k}`, ' + ')};
    kernels[b * ${columns}u + item] = ${stored('v', dtype, target, width)};
  }`,
  })
}

/** How many columns an invocation of `contractKernel` takes, and so how many partial results of dpi there are. */
export function contractParts({ size }: Pick<Mixture, 'size'>): number {
  return Math.ceil(size / contractColumns)
}

const contractColumns = 8

/**
 * From dV of the samples [first, first + count): dW[k] = sum_b pi[b, k] dV[b] (added to what is there when `add`), and of
 * dpi[b, k] = dV[b] . W[k] a partial sum over each invocation's columns. dV and W are read once.
 * Bindings: dKernels [count, n], pi, bases, dBases (float32), parts (float32 [B, K, parts]).
 */
export function contractKernel(mixture: Mixture, samples: { readonly first: number; readonly count: number; readonly add: boolean }): Kernel {
  const { target, dtype, numBases, size } = mixture
  const parts = contractParts(mixture)
  const columns = Array.from({ length: contractColumns }, (_, c) => c)
  const eachColumn = (f: (c: number) => string): string => columns.map(f).join('\n  ')
  // Columns lie `parts` apart, so that neighbouring invocations read neighbouring elements.
  return itemKernel({
    label: 'contract',
    target,
    bindings: [
      { name: 'dKernels', dtype },
      { name: 'pi', dtype },
      { name: 'bases', dtype },
      { name: 'dBases', dtype: 'float32', access: 'read_write' },
      { name: 'parts', dtype: 'float32', access: 'read_write' },
    ],
    count: parts,
    body: `  ${eachColumn((c) => `let i${c} = min(item + ${c * parts}u, ${size - 1}u); let ok${c} = item + ${c * parts}u < ${size}u;`)}
  ${eachColumn((c) => list(numBases, (k) => `let w${k}_${c} = ${loaded(`bases[i${c} + ${k * size}u]`, dtype, target)}; var d${k}_${c} = 0.0;`))}
  for (var b = 0u; b < ${samples.count}u; b++) {
    ${list(numBases, (k) => `let p${k} = ${loaded(`pi[(b + ${samples.first}u) * ${numBases}u + ${k}u]`, dtype, target)}; var t${k} = 0.0;`)}
    ${eachColumn((c) => `{ let v = select(0.0, ${loaded(`dKernels[b * ${size}u + i${c}]`, dtype, target)}, ok${c}); ${list(numBases, (k) => `d${k}_${c} += p${k} * v; t${k} += v * w${k}_${c};`)} }`)}
    ${list(numBases, (k) => `parts[((b + ${samples.first}u) * ${numBases}u + ${k}u) * ${parts}u + item] = t${k};`)}
  }
  ${eachColumn((c) => `if (ok${c}) { ${list(numBases, (k) => `dBases[i${c} + ${k * size}u] ${samples.add ? '+=' : '='} d${k}_${c};`)} }`)}`,
  })
}

/** y[r] = sum over i of parts[r, i], and of its numbers y's dtype. Bindings: parts (float32), y. */
export function sumRowsKernel(target: Target, dtype: DType, rows: number, size: number): Kernel {
  const lanes = lanesFor(target, size)
  return rowKernel({
    label: 'sumRows',
    target,
    bindings: [
      { name: 'parts', dtype: 'float32' },
      { name: 'y', dtype, access: 'read_write' },
    ],
    declarations: sharedLanes('lanes', 'f32', lanes),
    rows,
    lanes,
    body: `  var sum = 0.0;
  for (var i = first; i < ${size}u; i += ${lanes}u) { sum += parts[row * ${size}u + i]; }
${combineLanes('sum', 'lanes', lanes, (a, b) => `${a} + ${b}`)}
  ${lanes === 1 ? '' : 'if (lane == 0u) '}{ y[row] = ${stored('sum', dtype, target)}; }`,
  })
}
