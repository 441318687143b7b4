import { expect, test } from 'vitest'
import { ops } from '../ops/table.ts'
import { only } from '../tensor/tensor.ts'
import { GraphBuilder } from './builder.ts'
import { frozenValues } from './graph.ts'

test('frozen is what comes from constants and from states that only others write', () => {
  const b = new GraphBuilder(ops)
  const x = b.input('x', 'float32', [2])
  const [kept, written] = ['kept', 'written'].map((name) => b.readState(name, 'buffer', 'float32', [2]))
  const [k, w] = [only(kept ? [kept] : []), only(written ? [written] : [])]
  const scale = k.mul(2).exp()
  const step = w.add(scale)
  b.writeState('written', 'buffer', 'float32', [2], step)
  const y = x.mul(scale)
  b.output('y', y)
  const frozen = frozenValues(b.build())
  expect([k, scale, w, step, x, y].map(({ id }) => frozen.has(id))).toEqual([true, true, false, false, false, false])
})
