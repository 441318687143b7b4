import { fromNumbers, type Graph, GraphBuilder, type HostTensor, ops, zeros } from '@dynconv/core'
import { expect, test } from 'vitest'
import { onnx } from './backend.ts'

const numbers = (t: HostTensor | undefined): readonly number[] => [...(t?.data ?? [])]

function counter(length: number): Graph {
  const builder = new GraphBuilder(ops)
  const w = builder.readState('w', 'parameter', 'float32', [length])
  builder.writeState('w', 'parameter', 'float32', [length], w.add(builder.input('by', 'float32', [])))
  return builder.build()
}

test('a large state grows where it is, and what was read before stays as it was', async () => {
  const length = 8_400_001
  const backend = await onnx({ threads: 1 })
  const state = await backend.createState([{ name: 'w', kind: 'parameter', data: fromNumbers('float32', [length], Float64Array.from({ length }, (_, i) => i % 1000)) }])
  const program = await backend.compile(counter(length), { state })
  const first = await state.read('w')
  await program.run([fromNumbers('float32', [], [0.5])])
  await program.run([fromNumbers('float32', [], [1])])
  const last = await state.read('w')
  expect(last.shape).toEqual([length])
  expect(last.data.every((v, i) => v === (i % 1000) + 1.5)).toBe(true)
  // What was read before is a copy.
  expect(first.data.every((v, i) => v === i % 1000)).toBe(true)
  program.dispose()
  state.dispose()
  await backend.dispose()
})

test.each([3, 100_000])('a step of %d numbers whose guard is not finite, or that fails, changes nothing', async (length) => {
  const builder = new GraphBuilder(ops)
  const w = builder.readState('w', 'parameter', 'float32', [length])
  const rows = builder.input('rows', 'int32', [1])
  const next = w.add(builder.input('by', 'float32', []))
  builder.writeState('w', 'parameter', 'float32', [length], next)
  builder.output('loss', next.gather(rows, 0).sum())
  const backend = await onnx({ threads: 1 })
  const state = await backend.createState([{ name: 'w', kind: 'parameter', data: zeros([length]) }])
  const program = await backend.compile(builder.build(), { state, guard: 'loss' })
  const step = async (by: number, row = 0) => numbers((await program.run([fromNumbers('int32', [1], [row]), fromNumbers('float32', [], [by])]))[0])
  const held = async () => [...new Set(numbers(await state.read('w')))]
  expect(await step(1)).toEqual([1])
  expect(await step(Number.NaN)).toEqual([Number.NaN])
  expect(await held()).toEqual([1])
  await expect(step(5, length)).rejects.toThrow(/no state was changed/)
  expect(await held()).toEqual([1])
  expect(await step(2)).toEqual([3])
  expect(await step(4)).toEqual([7])
  expect(await held()).toEqual([7])
  program.dispose()
  state.dispose()
  expect(backend.memory().liveTensors).toBe(0)
  await backend.dispose()
})
