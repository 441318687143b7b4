// Which ONNX ops the kernels choose: what was measured to be fast must stay chosen.

import { avgPool2d, conv2d, gradients, maxPool2d, type Size2d, type Tensor } from '@dynconv/core'
import { expect, test } from 'vitest'
import { buildProgram } from '../program.ts'
import { decodeModel, type NodeProto } from '../proto/onnx.ts'
import { graphOf, randn, type TensorFunction } from '../testing/compare.ts'

function programOf(fn: TensorFunction, shapes: readonly (readonly number[])[]) {
  return buildProgram(graphOf(fn, shapes.map((s) => randn(s))))
}

function nodesOf(fn: TensorFunction, shapes: readonly (readonly number[])[]): readonly NodeProto[] {
  return decodeModel(programOf(fn, shapes).model).graph.node
}

const types = (nodes: readonly NodeProto[]): readonly string[] => nodes.map((n) => n.opType).filter((t) => t !== 'Identity')

test("relu's gradient, as core derives it, is a product with a mask", () => {
  const nodes = types(nodesOf((x) => gradients(x.relu().mul(x).sum(), [x]), [[4, 4]]))
  expect(nodes).toContain('HardSigmoid')
  expect(nodes).not.toContain('Where')
})

test.each([
  { size: [16, 16] as const, padding: 1, stride: 1, op: 'Conv' },
  { size: [8, 8] as const, padding: 1, stride: 1, op: 'ConvTranspose' },
  { size: [32, 32] as const, padding: 1, stride: 2, op: 'ConvTranspose' },
  { size: [32, 32] as const, padding: 3, stride: 1, op: 'ConvTranspose' },
])('the input gradient at $size with padding $padding, stride $stride is a $op', ({ size, padding, stride, op }) => {
  const inputGrad = (x: Tensor, w: Tensor) => gradients(conv2d(x, w, { padding, stride }).sum(), [x])
  expect(types(nodesOf(inputGrad, [[2, 3, ...size], [4, 3, 3, 3]])).filter((t) => t.startsWith('Conv'))).toEqual([op])
})

const kernelGrad = (chunk: number, size: Size2d): TensorFunction => (...x) =>
  x[0]?.graph.emit('dynamicConv2dKernelGrad', { stride: [1, 1], padding: [1, 1, 1, 1], dilation: [1, 1], groups: 1, form: 'kernels', chunk, kernelSize: size }, x) ?? []

test('each chunk of a kernel gradient reads its samples from a start that the chunk before makes known', () => {
  const nodes = nodesOf(kernelGrad(2, [3, 3]), [[6, 2, 5, 5], [6, 3, 5, 5], [4, 3, 2, 3, 3], [6, 4]])
  const made = new Map(nodes.flatMap((n) => n.output.map((name) => [name, n] as const)))
  const starts = nodes.filter((n) => n.opType === 'Slice' && n.input[0]?.startsWith('input.')).map((n) => made.get(n.input[1] ?? '')?.opType)
  // x, dy and pi of three chunks; the first starts from constants.
  expect(starts).toEqual([undefined, undefined, undefined, 'Add', 'Add', 'Add', 'Add', 'Add', 'Add'])
})

test('explain tells form, chunk and layout of every dynamic convolution', () => {
  const shapes = [[6, 2, 5, 5], [6, 3, 5, 5], [4, 3, 2, 3, 3], [6, 4]]
  expect(programOf(kernelGrad(2, [3, 3]), shapes).notes).toEqual([
    'dynamicConv2dKernelGrad %4: x or dy [6, 2, 5, 5], bases [4, 3, 2, 3, 3]: form kernels, 2 samples at a time, layout plain',
  ])
  expect(programOf(kernelGrad(0, [3, 3]), shapes).notes[0]).toMatch(/form kernels, layout plain$/)
})

test('windows side by side need no convolution and no sum to go back', () => {
  const nodes = types(nodesOf((x) => gradients(avgPool2d(x, { kernelSize: 2 }).mul(2).sum(), [x]), [[1, 2, 4, 4]]))
  expect(nodes).not.toContain('ConvTranspose')
  const scatter = (stride: number): string | undefined => {
    const nodes = nodesOf((x) => gradients(maxPool2d(x, { kernelSize: 2, stride }).sum(), [x]), [[1, 2, 4, 4]])
    const all = nodes.flatMap((n) => [n, ...n.attribute.flatMap((a) => a.g?.node ?? [])])
    return new TextDecoder().decode(all.find((n) => n.opType === 'ScatterElements')?.attribute.find((a) => a.name === 'reduction')?.s)
  }
  expect([scatter(2), scatter(1)]).toEqual(['', 'add'])
})
