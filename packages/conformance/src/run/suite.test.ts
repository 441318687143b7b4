import { BackendUnavailableError, type Backend } from '@dynconv/core'
import { expect, test } from 'vitest'
import { floatTarget } from '../testing/floatEngine.ts'
import { formatResult, formatSummary, reportData, supportOf } from './report.ts'
import { runSuite } from './suite.ts'

test('an engine passes, and says so lane by lane', async () => {
  const report = await runSuite({ targets: [floatTarget('sound')], filters: ['sigmoid['], modes: ['forward', 'gradient', 'second-order', 'numeric', 'support'] })
  expect(report.passed).toBe(true)
  expect(report.lanes.map(({ backend, mode, failed, problem }) => ({ backend, mode, failed, problem }))).toEqual([
    { backend: 'sound', mode: 'forward', failed: 0, problem: undefined },
    { backend: 'sound', mode: 'gradient', failed: 0, problem: undefined },
    { backend: 'sound', mode: 'second-order', failed: 0, problem: undefined },
    { backend: 'core', mode: 'numeric', failed: 0, problem: undefined },
    { backend: 'sound', mode: 'support', failed: 0, problem: undefined },
  ])
  expect(formatSummary(report)).toContain('0 failed')
  expect(reportData(report)).toMatchObject({ passed: true, notPassed: [] })
})

test('a failure names the first five positions with got, expected, ulp and allowed', async () => {
  const report = await runSuite({
    targets: [floatTarget('wrong', { kernels: (sound) => ({ neg: (attrs, inputs, types) => sound.exp(attrs, inputs, types) }) })],
    filters: ['neg[x=2x3x5]'],
    modes: ['forward'],
  })
  expect(report.passed).toBe(false)
  const text = report.results.map(formatResult).join('\n')
  expect(text).toContain('FAILED wrong forward neg[x=2x3x5]')
  expect(text).toContain('output0 float32[2, 3, 5]: 30 of 30 elements are off')
  expect(text.match(/got .* {2}expected .* {2}.* ulp {2}allowed 0 ulp/g)).toHaveLength(5)
  expect(text).toContain('[0, 0, 4]')
})

test('what is declared unsupported is counted as such, and listed with its reason', async () => {
  const report = await runSuite({ targets: [floatTarget('small', { kernels: () => ({}), refuses: { argMax: 'not on this engine' } })], filters: ['argMax[x=7', 'exp[x=37]'], modes: ['forward', 'support'] })
  expect(report.passed).toBe(true)
  expect(report.results.find((r) => r.mode === 'forward' && r.family === 'argMax')).toMatchObject({ status: 'unsupported', problems: ['argMax: not on this engine'] })
  const document = supportOf(report)
  expect(document).toContain('| argMax | no float32 [1] |')
  expect(document).toContain('| exp | float32 |')
  expect(document).toContain('- [1] not on this engine')
})

// The answers of supports() replaced.
function answering(backend: Backend, supports: Backend['supports']): Backend {
  return new Proxy(backend, {
    get: (target, name) => {
      if (name === 'supports') return supports
      const value: unknown = Reflect.get(target, name, target)
      return typeof value === 'function' ? (value.bind(target) as unknown) : value
    },
  })
}

test('a case that is declared unsupported and passes fails the run', async () => {
  const report = await runSuite({ targets: [floatTarget('shy', { wrap: (b) => answering(b, () => ({ reason: 'too shy' })) })], filters: ['exp[x=37]'], modes: ['forward'] })
  expect(report.passed).toBe(false)
  expect(report.results[0]?.problems).toEqual(['declared unsupported (exp: too shy), but it passes: say so in supports()'])
})

test('a case that is declared supported and refused fails the run', async () => {
  const report = await runSuite({ targets: [floatTarget('boaster', { refuses: { exp: 'cannot' }, wrap: (b) => answering(b, () => true) })], filters: ['exp[x=37]'], modes: ['forward'] })
  expect(report.passed).toBe(false)
  expect(report.results[0]?.problems[0]).toContain('supports() accepts every node, but it threw UnsupportedOpError')
})

test('a lane that was promised and did not run fails the run', async () => {
  const missing = { name: 'missing', create: () => Promise.reject<Backend>(new BackendUnavailableError('missing: it is not installed; run: npm install missing')) }
  const report = await runSuite({ targets: [floatTarget('sound'), missing], filters: ['exp[x=37]'], modes: ['forward'] })
  expect(report.passed).toBe(false)
  expect(report.lanes.map((l) => l.problem)).toEqual([undefined, 'it was promised, but the backend did not start: missing: it is not installed; run: npm install missing'])

  const nothing = await runSuite({ targets: [floatTarget('sound')], filters: ['no such case'] })
  expect(nothing.passed).toBe(false)
  expect(nothing.lanes[0]?.problem).toBe('it was promised, but no case ran')

  const refusing = await runSuite({ targets: [floatTarget('empty', { refuses: { exp: 'no' } })], filters: ['exp[x=37]'], modes: ['forward'] })
  expect(refusing.passed).toBe(false)
  expect(refusing.lanes[0]?.problem).toContain('every case is unsupported')
})

test('modes that nobody asked for by name need no case under a filter', async () => {
  const report = await runSuite({ targets: [floatTarget('sound')], filters: ['argMax[x=7 '] })
  expect(report.lanes.map((l) => l.mode)).toEqual(['forward', 'support'])
  expect(report.passed).toBe(true)
})

test('a run stops after as many failures as it is told', async () => {
  const wrong = floatTarget('wrong', { kernels: (sound) => ({ neg: (attrs, inputs, types) => sound.abs(attrs, inputs, types) }) })
  const report = await runSuite({ targets: [wrong], filters: ['neg['], modes: ['forward'], bail: 2 })
  expect(report.results.filter((r) => r.status === 'failed')).toHaveLength(2)
})
