import { conv2d, gradients, GraphBuilder, ops, type Tensor, trace } from '@dynconv/core'
import { expect, test } from 'vitest'
import type { Target } from '../wgsl/kernel.ts'
import { joinSmall } from './joinSmall.ts'
import { lower } from './lower.ts'
import { planMemory } from './memory.ts'
import { type Program, type Step, wholeOf } from './program.ts'

const target: Target = { f16: false, subgroups: false, kind: 'gpu', tiledMacs: 2 ** 20, maxGroups: 65535, maxBindings: 8 }
const labels = (steps: readonly Step[]): readonly string[] => steps.map((step) => (step.kind === 'dispatch' ? step.kernel.label : step.kind))

function programOf(fn: (...xs: Tensor[]) => Tensor | readonly Tensor[], ...shapes: readonly (readonly number[])[]): Program {
  return lower(trace(fn, { inputs: shapes.map((shape) => ({ shape })) }).graph, target).program
}

// Two layers and a softmax, as routing has.
const routing = (x: Tensor, w: Tensor, v: Tensor): Tensor => x.matmul(w).relu().matmul(v).div(30).softmax(1)

test('what is small goes together, with barriers where a step reads what one before it wrote', () => {
  const { steps } = joinSmall(programOf(routing, [8, 16], [16, 4], [4, 4]), target)
  expect(labels(steps)).toEqual(['matmul+relu, matmul+div, softmax'])
  const [step] = steps
  expect(step?.kind === 'dispatch' ? [step.kernel.code.match(/storageBarrier/g)?.length, step.buffers.length] : []).toEqual([2, 5])
  const apart = joinSmall(programOf((x, y) => [x.softmax(0), y.softmax(0)], [8, 4], [8, 3]), target).steps
  expect(labels(apart)).toEqual(['softmax, softmax'])
  expect(apart[0]?.kind === 'dispatch' ? apart[0].kernel.code : 'storageBarrier').not.toContain('storageBarrier')
})

test('a processor is left with its dispatches', () => {
  const program = programOf(routing, [8, 16], [16, 4], [4, 4])
  expect(joinSmall(program, { ...target, kind: 'software' })).toBe(program)
})

test('what is large stays as it is, and small steps wait for what reads them', () => {
  const x = [8, 4, 64, 64]
  const scaled = (images: Tensor, a: Tensor, b: Tensor): readonly Tensor[] => {
    const s = a.softmax(0)
    const big = images.exp().sum([1, 2, 3])
    return [conv2d(images, b, {}), s.neg(), big]
  }
  const program = programOf(scaled, x, [64], [4, 4, 1, 1])
  const joined = joinSmall(program, target)
  expect(labels(program.steps)).toEqual(['softmax', 'exp', 'reduceSum', 'conv2d', 'neg'])
  expect(labels(joined.steps)).toEqual(['exp', 'reduceSum', 'conv2d', 'softmax, neg'])
  // Read by something large: before it.
  const used = joinSmall(programOf((images, a) => images.mul(a.softmax(0).relu().softmax(0).slice([0], [1])), x, [64]), target)
  expect(labels(used.steps)).toEqual(['softmax, relu, softmax', 'mul'])
})

test('long sums are not small', () => {
  expect(labels(joinSmall(programOf((x, w) => x.matmul(w).softmax(1), [4, 300], [300, 4]), target).steps)).toEqual(['matmul', 'softmax'])
})

test('a group binds no more than the adapter takes, and computes its sums in its own buffer', () => {
  const b = new GraphBuilder(ops)
  const states = Array.from({ length: 12 }, (_, i) => b.readState(`w${i}`, 'parameter', 'float32', [4, 4]))
  b.output('y', states.reduce((x, w) => x.matmul(w).softmax(1), b.input('x', 'float32', [4, 4])))
  const { program } = lower(b.build(), target)
  const bindings = ({ steps }: Program): number => Math.max(...steps.map((step) => (step.kind === 'dispatch' ? step.buffers.length : 0)))
  const scattered = joinSmall(program, target)
  expect(scattered.steps.length).toBeLessThan(program.steps.length / 3)
  expect(bindings(scattered)).toBe(8)
  // States that lie together are one array.
  const together = joinSmall(program, target, (name) => ({ shared: 0, offset: 256 * Number(name.slice(1)), bytes: 4096 }))
  expect(together.steps).toHaveLength(1)
  expect(bindings(together)).toBe(4)
  const [step] = together.steps
  const table = step?.kind === 'dispatch' ? step.buffers.at(-1) : undefined
  const starts = table?.source.kind === 'constant' ? [...new Int32Array(table.source.data.buffer)] : []
  // x, w0 and their product; that and its softmax; this, w1 and their product.
  expect(starts.slice(0, 8)).toEqual([0, 0, 0, 0, 64, 64, 64, 128])
})

test('each buffer of a step is bound once, and what is a part has the memory of its whole', () => {
  const loss = (x: Tensor, w: Tensor, v: Tensor, y: Tensor): readonly Tensor[] => gradients(routing(x, w, v).mul(y).sum(), [x, w, v])
  const program = joinSmall(programOf(loss, [8, 16], [16, 4], [4, 4], [8, 4]), target)
  const { pieceOf } = planMemory(program)
  const bound = program.steps.map((step) => (step.kind === 'dispatch' ? step.buffers.map((buffer) => wholeOf(program.parts, buffer)) : []))
  expect(bound).toHaveLength(1)
  for (const wholes of bound) expect(new Set(wholes).size).toBe(wholes.length)
  for (const { id, source } of bound.flat()) expect([id, pieceOf.has(id)]).toEqual([id, source.kind === 'temporary'])
  for (const { buffer } of program.outputs) expect(pieceOf.has(wholeOf(program.parts, buffer).id)).toBe(true)
})
