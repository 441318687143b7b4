import { type OpName, ops } from '@dynconv/core'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { onnx } from '../backend.ts'
import { type Case, difference, graphOf } from '../testing/compare.ts'
import { convCases } from '../testing/convCases.ts'
import { elementwiseCases } from '../testing/elementwiseCases.ts'
import { imageCases } from '../testing/imageCases.ts'
import { movingCases } from '../testing/movingCases.ts'
import { reduceCases } from '../testing/reduceCases.ts'

const cases: { readonly [K in OpName]: readonly Case[] } = { ...elementwiseCases, ...movingCases, ...reduceCases, ...convCases, ...imageCases }

let backend: Awaited<ReturnType<typeof onnx>>
beforeAll(async () => {
  backend = await onnx({ threads: 1, layout: 'plain' })
})
afterAll(() => backend.dispose())

describe.each(Object.keys(ops) as OpName[])('%s agrees with the oracle', (op) => {
  test('cases contain it', () => {
    expect(cases[op].length).toBeGreaterThan(0)
    const without = cases[op].filter(({ fn, inputs }) => !graphOf(fn, inputs).nodes.some((node) => node.op === op))
    expect(without.map((c) => c.name)).toEqual([])
  })
  test('on every case', async () => {
    const failures: string[] = []
    for (const c of cases[op]) {
      const found = await difference(backend, { ...c, elementwise: op in elementwiseCases }).catch((error: unknown) => `${c.name}: ${String(error)}`)
      if (found !== undefined) failures.push(found)
    }
    expect(failures).toEqual([])
  })
})
