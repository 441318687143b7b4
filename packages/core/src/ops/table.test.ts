import { expect, test } from 'vitest'
import { ops } from './table.ts'

test('every op stands under its own name, and says what its gradient is: a rule, none, or that of its parts', () => {
  const entries = Object.entries(ops)
  expect(entries.map(([name]) => name)).toEqual(entries.map(([, def]) => def.name))
  expect(entries.filter(([, def]) => def.gradient === undefined && def.decompose === undefined)).toEqual([])
})
