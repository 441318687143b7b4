import { expect, test } from 'vitest'
import { ops } from '../ops/table.ts'
import { GraphBuilder } from './builder.ts'
import { frozenValues } from './graph.ts'

test('frozen is what comes from constants and from states that only others write', () => {
  const b = new GraphBuilder(ops)
  const x = b.input('x', 'float32', [2])
  const kept = b.readState('kept', 'buffer', 'float32', [2])
  const written = b.readState('written', 'buffer', 'float32', [2])
  const scale = kept.mul(2).exp()
  const step = written.add(scale)
  b.writeState('written', 'buffer', 'float32', [2], step)
  const y = x.mul(scale)
  b.output('y', y)
  const frozen = frozenValues(b.build())
  expect([kept, scale, written, step, x, y].map(({ id }) => frozen.has(id))).toEqual([true, true, false, false, false, false])
})
