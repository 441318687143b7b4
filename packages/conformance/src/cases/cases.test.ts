import { type OpName, ops } from '@dynconv/core'
import { expect, test } from 'vitest'
import { contractCases } from './contract.ts'
import { allCases } from './index.ts'
import { perfCases } from './perf.ts'

const cases = allCases()

test('every case has an id of its own', () => {
  const ids = [...cases, ...contractCases(), ...perfCases()].map((c) => c.id)
  expect(ids.filter((id, i) => ids.indexOf(id) !== i)).toEqual([])
})

test('ids are readable', () => {
  const ids = cases.map((c) => c.id)
  expect(ids).toContain('conv2d[x=2x4x9x8 out=4 kernel=3x2 stride=2,1 dilation=1 groups=2 pad=0,1,2,3 bias]')
  expect(ids).toContain('add[a=3x1 b=1x4]')
  expect(ids).toContain('training[ResNet dynamic sgd clip=1 steps=10]')
  for (const id of ids) expect(id).toMatch(/^[\w -]+\[[^[\]]+\]$/)
})

test('every op is in the programs, in float32 and float16 wherever it takes them', () => {
  const seen = new Set<string>()
  for (const c of cases) {
    if (c.family === 'random') continue
    for (let order = 0; order <= c.orders; order++) {
      const { graph } = c.program(order as 0)
      for (const node of graph.nodes) seen.add(`${node.op} ${c.dtype}`)
    }
  }
  const names = Object.keys(ops) as OpName[]
  expect(names.filter((op) => !seen.has(`${op} float32`) && !seen.has(`${op} int32`))).toEqual([])
  // customGradient hands on what it is given, whatever that is.
  expect(names.filter((op) => !seen.has(`${op} float16`)).sort()).toEqual(['customGradient'])
})
