import { fromNumbers, type Graph, GraphBuilder, ops } from '@dynconv/core'
import { expect, test } from 'vitest'
import { onnx } from './backend.ts'
import { buildProgram } from './program.ts'
import { decodeModel } from './proto/onnx.ts'

function counter(length: number): Graph {
  const builder = new GraphBuilder(ops)
  const w = builder.readState('w', 'parameter', 'float32', [length])
  builder.writeState('w', 'parameter', 'float32', [length], w.add(builder.input('by', 'float32', [])))
  return builder.build()
}

const outputsOf = (length: number) => decodeModel(buildProgram(counter(length)).model).graph.output.map((o) => [o.name, o.type.tensorType.shape?.dim[0]?.dimValue])

test('a small state comes out whole, one of more than 32 MiB in pieces of at most 16', () => {
  expect(outputsOf(1000)).toEqual([['next.w', 1000]])
  const pieces = outputsOf(9_437_187)
  expect(pieces.map(([name]) => name)).toEqual(['next.w.0', 'next.w.1', 'next.w.2'])
  expect(pieces.reduce((sum, [, size]) => sum + Number(size), 0)).toBe(9_437_187)
  expect(Math.max(...pieces.map(([, size]) => Number(size) * 4))).toBeLessThanOrEqual(2 ** 24)
})

test('a state in pieces is put together again', async () => {
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
