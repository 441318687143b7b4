// Every kernel through the compiler's front end (Dawn's Tint, on its adapter that computes nothing): with and without float16,
// for processors and for graphics cards, plain and tiled. What kernels compute is tested on a real adapter.

import {
  avgPool2d,
  batchNorm,
  batchNormInference,
  concat,
  conv2d,
  type DType,
  dynamicConv2d,
  gradients,
  groupNorm,
  maxPool2d,
  resize,
  type StaticShape,
  type Tensor,
  trace,
} from '@dynconv/core'
import { afterAll, expect, test } from 'vitest'
import { create } from 'webgpu'
import { webgpu, type WebGpuOptions } from '../backend.ts'

interface Program {
  readonly fn: (...xs: Tensor[]) => Tensor
  readonly shapes: readonly StaticShape[]
}

const conv = { stride: 2, padding: [1, 0, 2, 1] as const, dilation: 1 }

// Forward and gradient of each is compiled.
const programs: Readonly<Record<string, Program>> = {
  elementwise: {
    fn: (a, b) => a.add(b).mul(b).sub(a).div(b).min(a).max(b).pow(b).neg().abs().exp().log().sqrt().rsqrt().tanh().sigmoid().relu().clamp(-1, 2),
    shapes: [[3, 8], [8]],
  },
  roundedOnce: { fn: (a, b) => a.add(1).mul(b).relu().min(a).max(b).sub(0.1).neg().abs(), shapes: [[3, 8], [8]] },
  roundedOnceOdd: { fn: (a, b) => a.mul(0.3).relu().min(b).max(b), shapes: [[3, 5], [5]] },
  comparisons: { fn: (a, b) => a.less(b).select(a, b.compare('notEqual', a).cast(a.dtype)), shapes: [[5], [5]] },
  moving: { fn: (a, b) => concat([a.transpose().slice([1, 0], [2, 2], [1, 1]), b.pad([0, 0], [1, 0], 1)], 0), shapes: [[3, 4], [2, 2]] },
  reductions: { fn: (a) => a.sum([1], true).add(a.maxOver([0], true)).add(a.softmax(1)).add(a.logSoftmax(0)), shapes: [[3, 200]] },
  indices: { fn: (a) => a.gather(a.argMax(1), 0).add(a.argMax(1).oneHot(4, a.dtype)), shapes: [[4, 4]] },
  matmul: { fn: (a, b) => a.matmul(b, { transposeB: true }), shapes: [[2, 9, 12], [2, 10, 12]] },
  conv2d: { fn: (x, w, b) => conv2d(x, w, { ...conv, groups: 2, bias: b }), shapes: [[2, 8, 9, 7], [10, 4, 3, 3], [10]] },
  winograd: { fn: (x, w) => conv2d(x, w, { padding: 1 }), shapes: [[3, 16, 7, 6], [20, 16, 3, 3]] },
  winogradDynamic: { fn: (x, w, pi, b) => dynamicConv2d(x, w, pi, { padding: 1, bias: b, form: 'kernels' }), shapes: [[2, 16, 5, 5], [2, 16, 16, 3, 3], [2, 2], [2, 16]] },
  conv1x1: { fn: (x, w) => conv2d(x, w), shapes: [[2, 8, 5, 4], [8, 8, 1, 1]] },
  dynamicConv2d: { fn: (x, w, pi, b) => dynamicConv2d(x, w, pi, { ...conv, bias: b, form: 'kernels' }), shapes: [[2, 6, 7, 7], [3, 5, 6, 3, 3], [2, 3], [3, 5]] },
  pools: { fn: (x) => maxPool2d(x, { kernelSize: 3, stride: 2, padding: 1 }).add(avgPool2d(x, { kernelSize: 3, stride: 2, padding: 1, countIncludePad: false })), shapes: [[2, 3, 8, 8]] },
  norms: { fn: (x, g, b) => groupNorm(batchNormInference(batchNorm(x, g, b)[0], g, b, g, b), g, b, { groups: 2 }), shapes: [[2, 4, 12, 12], [4], [4]] },
  resizes: { fn: (x) => resize(resize(x, { size: [5, 7], mode: 'bilinear' }), { size: 4 }), shapes: [[2, 3, 4, 6]] },
}

// Dawn's objects must outlive what is made from them.
const gpu = create(['backend=null'])
const kept: unknown[] = [gpu]
afterAll(() => void kept.splice(0))

async function nullDevice(f16: boolean): Promise<GPUDevice> {
  const adapter = await gpu.requestAdapter()
  if (!adapter) throw new Error('Dawn has no null adapter')
  kept.push(adapter)
  return adapter.requestDevice({ requiredFeatures: f16 ? ['shader-f16'] : [] })
}

const variants: readonly (WebGpuOptions & { readonly title: string; readonly f16: boolean; readonly dtype: DType })[] = [
  { title: 'software, float32', kernels: 'software', f16: false, dtype: 'float32' },
  { title: 'software, float16 in 32 bits', kernels: 'software', f16: false, dtype: 'float16' },
  { title: 'software, tiled, float16', kernels: 'software', tiledMacs: 1, f16: true, dtype: 'float16' },
  { title: 'software, winograd, float32', kernels: 'software', tiledMacs: 1, convolutions: 'winograd', f16: false, dtype: 'float32' },
  { title: 'gpu, tiled, float32', kernels: 'gpu', tiledMacs: 1, f16: false, dtype: 'float32' },
  { title: 'gpu, winograd, float32', kernels: 'gpu', tiledMacs: 1, convolutions: 'winograd', f16: false, dtype: 'float32' },
  { title: 'gpu, tiled, float16', kernels: 'gpu', tiledMacs: 1, f16: true, dtype: 'float16' },
]

test.each(variants)('every kernel is valid: $title', async ({ f16, dtype, ...options }) => {
  const backend = await webgpu({ ...options, device: await nullDevice(f16) })
  try {
    for (const { fn, shapes } of Object.values(programs)) {
      const { graph } = trace(
        (...xs) => {
          const y = fn(...xs)
          return [y, ...gradients(y.sum(), xs)]
        },
        { inputs: shapes.map((shape) => ({ shape, dtype })) },
      )
      const executable = await backend.compile(graph)
      expect(executable.explain()).toMatch(/^webgpu: [1-9]/)
      executable.dispose()
    }
    expect(backend.memory().liveTensors).toBe(0)
  } finally {
    await backend.dispose()
  }
})

test('what the front end refuses is quoted with its line', async () => {
  const device = await nullDevice(false)
  device.pushErrorScope('validation')
  const module = device.createShaderModule({ code: '@compute @workgroup_size(1) fn main() { let x = y; }' })
  const { messages } = await module.getCompilationInfo()
  expect(messages.map((m) => m.message)).toEqual([expect.stringContaining('y')])
  expect((await device.popErrorScope())?.message).toContain('unresolved')
  device.destroy()
})
