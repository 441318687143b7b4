// What a dynamic convolution needs besides a convolution: mixing kernels, and taking the gradient of the mixed kernels apart
// again. Neither looks at what the n elements of a kernel mean.

import type { DType } from '@dynconv/core'
import { itemKernel, type Kernel, loaded, stored, type Target } from '../wgsl/kernel.ts'

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
 * V[b] = sum_k pi[b, k] W[k]. An invocation keeps some columns of all bases in registers and goes through the samples, so that
 * the bases are read once whatever the batch, and pi once for several columns. Bindings: bases, pi, kernels.
 */
export function aggregateKernel({ target, dtype, batch, numBases, size }: Mixture): Kernel {
  const width = size % 4 === 0 ? 4 : 1
  const length = size / width
  // A card hides the loads of pi behind those of others; it wants many invocations.
  const columns = Array.from({ length: target.kind === 'gpu' ? 1 : Math.max(1, Math.min(4, Math.floor(16 / numBases))) }, (_, c) => c)
  const count = Math.ceil(length / columns.length)
  const guarded = (c: number): boolean => (c + 1) * count > length
  const eachColumn = (f: (c: number) => string): string => columns.map(f).join('\n  ')
  return itemKernel({
    label: 'aggregate',
    target,
    bindings: [
      { name: 'bases', dtype, width },
      { name: 'pi', dtype },
      { name: 'kernels', dtype, width, access: 'read_write' },
    ],
    count,
    body: `  ${eachColumn((c) => `let i${c} = ${guarded(c) ? `min(item + ${c * count}u, ${length - 1}u)` : `item + ${c * count}u`};`)}
  ${eachColumn((c) => list(numBases, (k) => `let w${k}_${c} = ${loaded(`bases[i${c} + ${k * length}u]`, dtype, target, width)};`))}
  for (var b = 0u; b < ${batch}u; b++) {
    ${list(numBases, (k) => `let p${k} = ${loaded(`pi[b * ${numBases}u + ${k}u]`, dtype, target)};`)}
    ${columns
      .map((c) => {
        const v = list(numBases, (k) => `p${k} * w${k}_${c}`, ' + ')
        const store = `kernels[b * ${length}u + i${c}] = ${stored(v, dtype, target, width)};`
        return guarded(c) ? `if (item + ${c * count}u < ${length}u) { ${store} }` : store
      })
      .join('\n    ')}
  }`,
  })
}

/** How many partial results of dpi `contractKernel` makes, one for each of its invocations. */
export function contractParts({ size }: Pick<Mixture, 'size'>): number {
  return Math.ceil(size / elementsOfPart)
}

const elementsOfPart = 8

/**
 * From dV of the samples [first, first + count): dW[k] = sum_b pi[b, k] dV[b] (added to what is there when `add`), and of
 * dpi[b, k] = dV[b] . W[k] a partial sum over each invocation's columns. dV and W are read once.
 * Bindings: dKernels [count, n], pi, bases, dBases (float32), parts (float32 [B, K, parts]).
 */
export function contractKernel(mixture: Mixture, samples: { readonly first: number; readonly count: number; readonly add: boolean }): Kernel {
  const { target, dtype, numBases, size } = mixture
  const parts = contractParts(mixture)
  const width = size % 4 === 0 ? 4 : 1
  const length = size / width
  const columns = Array.from({ length: elementsOfPart / width }, (_, c) => c)
  const eachColumn = (f: (c: number) => string): string => columns.map(f).join('\n  ')
  const load = (element: string): string => loaded(element, dtype, target, width)
  const zero = width === 4 ? 'vec4<f32>(0.0)' : '0.0'
  const product = (a: string, b: string): string => (width === 4 ? `dot(${a}, ${b})` : `${a} * ${b}`)
  // Columns lie `parts` apart, so that neighbouring invocations read neighbouring elements.
  return itemKernel({
    label: 'contract',
    target,
    bindings: [
      { name: 'dKernels', dtype, width },
      { name: 'pi', dtype },
      { name: 'bases', dtype, width },
      { name: 'dBases', dtype: 'float32', width, access: 'read_write' },
      { name: 'parts', dtype: 'float32', access: 'read_write' },
    ],
    count: parts,
    body: `  ${eachColumn((c) => `let i${c} = min(item + ${c * parts}u, ${length - 1}u); let ok${c} = item + ${c * parts}u < ${length}u;`)}
  ${eachColumn((c) => list(numBases, (k) => `let w${k}_${c} = ${load(`bases[i${c} + ${k * length}u]`)}; var d${k}_${c} = ${zero};`))}
  for (var b = 0u; b < ${samples.count}u; b++) {
    ${list(numBases, (k) => `let p${k} = ${loaded(`pi[(b + ${samples.first}u) * ${numBases}u + ${k}u]`, dtype, target)}; var t${k} = 0.0;`)}
    ${eachColumn((c) => `{ let v = select(${zero}, ${load(`dKernels[b * ${length}u + i${c}]`)}, ok${c}); ${list(numBases, (k) => `d${k}_${c} += p${k} * v; t${k} += ${product('v', `w${k}_${c}`)};`)} }`)}
    ${list(numBases, (k) => `parts[((b + ${samples.first}u) * ${numBases}u + ${k}u) * ${parts}u + item] = t${k};`)}
  }
  ${eachColumn((c) => `if (ok${c}) { ${list(numBases, (k) => `dBases[i${c} + ${k * length}u] ${samples.add ? '+=' : '='} d${k}_${c};`)} }`)}`,
  })
}
