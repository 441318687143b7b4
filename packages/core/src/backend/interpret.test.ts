import { expect, test } from 'vitest'
import { trace } from '../graph/trace.ts'
import { GraphBuilder } from '../graph/builder.ts'
import type { Graph } from '../graph/graph.ts'
import { ops } from '../ops/table.ts'
import type { RefTensor } from '../ops/define.ts'
import { evaluate, toRef } from '../reference/evaluate.ts'
import { tensor } from '../tensor/hostTensor.ts'
import type { Tensor } from '../tensor/tensor.ts'
import { batchNorm } from '../ops/norm.ts'
import { UnsupportedOpError } from './errors.ts'
import { interpret, type InterpretOptions, type KernelTable, supportOf } from './interpret.ts'

/** A tensor of the toy engine. */
interface Toy {
  readonly value: RefTensor
}

const toy = (value: RefTensor): Toy => ({ value })

const freed = new WeakSet<Toy>()

// Each op by its reference, as a fresh tensor; refuses inputs that were freed.
function table(...names: readonly (keyof typeof ops)[]): KernelTable<Toy> {
  return Object.fromEntries(
    names.map((name) => [
      name,
      (attrs: never, inputs: readonly Toy[], outputs: never) => {
        expect(inputs.some((t) => freed.has(t))).toBe(false)
        const result = ops[name].reference(attrs, inputs.map((t) => t.value), outputs)
        return 'data' in result ? toy(result) : result.map(toy)
      },
    ]),
  )
}

// Follows what is alive.
function watch(): { readonly options: InterpretOptions<Toy>; readonly live: Set<Toy>; readonly log: string[]; peak: number } {
  const live = new Set<Toy>()
  const log: string[] = []
  const watched = {
    live,
    log,
    peak: 0,
    options: {
      backend: 'toy',
      made: (t: Toy) => {
        expect(live.has(t)).toBe(false)
        live.add(t)
        watched.peak = Math.max(watched.peak, live.size)
      },
      free: (t: Toy) => {
        freed.add(t)
        expect(live.delete(t)).toBe(true)
      },
    },
  }
  return watched
}

function graphOf(fn: (...xs: Tensor[]) => Tensor | readonly Tensor[], ...shapes: readonly (readonly number[])[]): Graph {
  return trace(fn, { inputs: shapes.map((shape) => ({ shape })) }).graph
}

const x = toRef(tensor([1, -2, 3, 0.5]))

test('a graph runs op by op, values die after their last use', async () => {
  const graph = graphOf((a) => a.neg().exp().neg().exp().neg(), [4])
  const w = watch()
  const f = interpret(graph, table('neg', 'exp'), w.options)
  const { outputs, owned } = await f.run([toy(x)])
  expect(outputs[0]?.value).toEqual(evaluate(graph, [x]).outputs[0])
  expect([...w.live]).toEqual([outputs[0]])
  expect([...owned]).toEqual([outputs[0]])
  expect(w.peak).toBe(2)
})

test('a value is kept for as long as something reads it, and no longer', async () => {
  // a lives to the last node; the product is freed before the difference is made.
  const graph = graphOf((v) => {
    const a = v.neg()
    const b = a.exp()
    return b.mul(a).exp().sub(a)
  }, [4])
  const w = watch()
  const { outputs } = await interpret(graph, table('neg', 'exp', 'mul', 'sub'), w.options).run([toy(x)])
  expect(outputs[0]?.value).toEqual(evaluate(graph, [x]).outputs[0])
  expect(w.peak).toBe(3)
  expect(w.live.size).toBe(1)
})

test('outputs that nothing reads are freed at once', async () => {
  const graph = graphOf((v, gamma) => batchNorm(v, gamma, gamma)[1], [4, 1], [1])
  const w = watch()
  const { outputs } = await interpret(graph, table('batchNorm'), w.options).run([toy({ ...x, shape: [4, 1] }), toy(toRef(tensor([1])))])
  expect(outputs[0]?.value.data).toEqual(Float64Array.of(0.625))
  expect([...w.live]).toEqual([outputs[0]])
})

test('a kernel may hand its input on: it is freed once, and never when it is the caller’s', async () => {
  const handOn: KernelTable<Toy> = { ...table('neg', 'add'), reshape: (_attrs, [t]) => t ?? toy(x), abs: (_attrs, [t]) => t ?? toy(x) }
  const graph = graphOf((v) => {
    const a = v.neg()
    return [a.reshape([2, 2]).reshape([4]).add(a), v.abs()]
  }, [4])
  const w = watch()
  const input = toy(x)
  const { outputs, owned } = await interpret(graph, handOn, w.options).run([input])
  expect(outputs[0]?.value.data).toEqual(Float64Array.of(-2, 4, -6, -1))
  expect(outputs[1]).toBe(input)
  expect([...owned]).toEqual([outputs[0]])
  expect([...w.live]).toEqual([outputs[0]])
  expect(freed.has(input)).toBe(false)
})

test('a tensor that a kernel handed on lives as long as any value it stands for', async () => {
  const handOn: KernelTable<Toy> = { ...table('neg', 'exp', 'add'), reshape: (_attrs, [t]) => t ?? toy(x) }
  // The reshaped value dies first, then what it was made of is still read; and the other way round.
  const graph = graphOf((v) => {
    const a = v.neg()
    const early = a.reshape([2, 2]).exp().reshape([4]).add(a)
    const b = v.exp()
    return early.add(b.reshape([2, 2]).neg().reshape([4]))
  }, [4])
  const w = watch()
  const { outputs } = await interpret(graph, handOn, w.options).run([toy(x)])
  expect(outputs[0]?.value).toEqual(evaluate(graph, [x]).outputs[0])
  expect([...w.live]).toEqual([outputs[0]])
})

test('constants are made once and freed by dispose', async () => {
  let made = 0
  const kernels: KernelTable<Toy> = {
    ...table('mul'),
    constant: ({ value }) => {
      made++
      return toy(toRef(value))
    },
  }
  const w = watch()
  const f = interpret(graphOf((v) => v.mul(2), [4]), kernels, w.options)
  const both = await Promise.all([f.run([toy(x)]), f.run([toy(x)])])
  await f.run([toy(x)])
  expect(made).toBe(1)
  expect(both[1].outputs[0]?.value.data).toEqual(Float64Array.of(2, -4, 6, 1))
  expect(w.live.size).toBe(4)
  f.dispose()
  f.dispose()
  expect(w.live.size).toBe(3)
})

test('kernels may be asynchronous', async () => {
  const kernels: KernelTable<Toy> = { neg: async (_attrs, [t]) => toy({ shape: [4], data: (t?.value.data ?? new Float64Array()).map((v) => -v) }) }
  const { outputs } = await interpret(graphOf((v) => v.neg().neg(), [4]), kernels, { backend: 'toy' }).run([toy(x)])
  expect(outputs[0]?.value.data).toEqual(x.data)
})

test('when a kernel fails, what was made is freed', async () => {
  const w = watch()
  const kernels: KernelTable<Toy> = {
    ...table('neg', 'exp'),
    add: () => {
      throw new Error('out of memory')
    },
  }
  const f = interpret(graphOf((v) => v.neg().add(v.exp()), [4]), kernels, w.options)
  await expect(f.run([toy(x)])).rejects.toThrow('out of memory')
  expect(w.live.size).toBe(0)
})

test('a kernel that returns another number of tensors than its op has is named, and nothing leaks', async () => {
  const w = watch()
  const f = interpret(graphOf((v) => v.neg(), [4]), { neg: () => [toy(x), toy(x)] }, w.options)
  await expect(f.run([toy(x)])).rejects.toThrow('toy: the kernel of neg returned 2 tensors, expected 1')
  expect(w.live.size).toBe(0)
})

test('ops without a kernel are decomposed, also where a kernel refuses an instance', async () => {
  const graph = graphOf((v) => v.softmax(), [2, 2])
  const input = { shape: [2, 2], data: x.data }
  const simple = table('constant', 'sub', 'exp', 'div', 'reduceSum', 'reduceMax')
  const f = interpret(graph, simple, { backend: 'toy' })
  expect(f.graph.nodes.map((n) => n.op)).toEqual(['reduceMax', 'sub', 'exp', 'reduceSum', 'div'])
  const expected = evaluate(graph, [input]).outputs[0]
  expect((await f.run([toy(input)])).outputs[0]?.value).toEqual(expected)
  const refusing = interpret(graph, { ...simple, ...table('softmax') }, { backend: 'toy', supports: (node) => (node.op === 'softmax' ? { reason: 'rank 2' } : true) })
  expect(refusing.graph.nodes.map((n) => n.op)).toEqual(f.graph.nodes.map((n) => n.op))
})

test('an op that can neither run nor be decomposed is refused before anything runs', () => {
  const graph = graphOf((v) => v.softmax(), [2, 2])
  expect(() => interpret(graph, table('sub', 'exp', 'div', 'reduceSum'), { backend: 'toy' })).toThrow(UnsupportedOpError)
  expect(() => interpret(graph, table('sub', 'exp', 'div', 'reduceSum'), { backend: 'toy' })).toThrow('toy: cannot run reduceMax')
  expect(() => interpret(graphOf((v) => v.exp(), [2]), table('exp'), { backend: 'toy', supports: () => ({ reason: 'it is Monday' }) })).toThrow('toy: cannot run exp: it is Monday')
})

test('supportOf answers for one node, decomposition included', () => {
  const graph = graphOf((v) => v.softmax().exp(), [2, 2])
  const [softmax, exp] = graph.nodes
  if (!softmax || !exp) throw new Error('the trace made no nodes')
  const simple = table('sub', 'exp', 'div', 'reduceSum', 'reduceMax')
  expect(supportOf(softmax, graph, simple)).toBe(true)
  expect(supportOf(exp, graph, table('sub'))).toEqual({ reason: 'there is no kernel for it, and it does not decompose into simpler ops' })
  expect(supportOf(softmax, graph, table('sub', 'exp'))).toEqual({
    reason: 'it needs reduceMax: there is no kernel for it, and it does not decompose into simpler ops',
  })
})

test('states go in by name, their updates come out', async () => {
  const b = new GraphBuilder(ops)
  const v = b.input('v', 'float32', [4])
  const s = b.readState('s', 'buffer', 'float32', [4])
  const idle = b.readState('idle', 'buffer', 'float32', [4])
  b.writeState('s', 'buffer', 'float32', [4], s.add(v))
  b.output('y', idle)
  const w = watch()
  const f = interpret(b.build(), table('add'), w.options)
  const [old, other] = [toy(x), toy(x)]
  const { outputs, updates, owned } = await f.run([toy(x)], new Map([['s', old], ['idle', other]]))
  expect([...updates.keys()]).toEqual(['s'])
  expect(updates.get('s')?.value.data).toEqual(Float64Array.of(2, -4, 6, 1))
  expect(outputs[0]).toBe(other)
  expect([...owned]).toEqual([updates.get('s')])
  await expect(f.run([toy(x)])).rejects.toThrow("toy: state 's' was not given")
  await expect(f.run([])).rejects.toThrow('toy: the graph has 1 inputs, got 0')
})

test('a graph with an unknown size is refused', () => {
  const { graph } = trace((v) => v.neg(), { inputs: [{ shape: ['N', 2] }] })
  expect(() => interpret(graph, table('neg'), { backend: 'toy' })).toThrow('toy: neg: shape [N, 2] has unknown sizes; specialise the graph first')
})
