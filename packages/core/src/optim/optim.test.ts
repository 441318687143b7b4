import { expect, test } from 'vitest'
import { gradients } from '../autodiff/gradients.ts'
import { currentScope, type StateSource } from '../graph/scope.ts'
import { trace } from '../graph/trace.ts'
import { Parameter } from '../nn/parameter.ts'
import type { RefTensor } from '../ops/define.ts'
import { evaluate, toRef } from '../reference/evaluate.ts'
import { tensor, zeros } from '../tensor/hostTensor.ts'
import { ref } from '../testing/gradcheck.ts'
import { adamW } from './adamW.ts'
import { clipByGlobalNorm } from './clip.ts'
import { groupOf, type Optimizer } from './optimizer.ts'
import { cosine, stepDecay, warmup } from './schedules.ts'
import { sgd, type SgdOptions } from './sgd.ts'

// Minimises sum(w^2 * [1, 2]) from w = [1, -1] and returns w after each step, in float64.
function descend(optimizer: Optimizer, steps: number): number[][] {
  const parameter = new Parameter(tensor([1, -1]))
  const slots = new Map<string, StateSource>(optimizer.slots.map((s) => [s, { kind: 'optimizer', data: zeros([2]) }]))
  const names = new Map<object, string>([[parameter, 'w'], ...[...slots].map(([name, s]) => [s, name] as const)])
  const hyperNames = Object.keys(optimizer.hyper(0))
  const slot = (name: string): StateSource => slots.get(name)!
  const { graph } = trace(
    (...hyper) => {
      const value = parameter.value
      const loss = value.square().mul(value.constant(tensor([1, 2]))).sum()
      const [gradient = value] = gradients(loss, [value])
      parameter.value = optimizer.update(
        { name: 'w', parameter, value, gradient },
        {
          hyper: (name) => hyper[hyperNames.indexOf(name)]!,
          read: (name) => currentScope('test').read(slot(name)),
          write: (name, _, next) => currentScope('test').write(slot(name), next),
        },
      )
      return loss
    },
    { inputs: hyperNames.map((name) => ({ name, shape: [] })), names },
  )
  let states: ReadonlyMap<string, RefTensor> = new Map([['w', toRef(parameter.data)], ...[...slots].map(([name, s]) => [name, toRef(s.data)] as const)])
  return Array.from({ length: steps }, (_, step) => {
    states = evaluate(graph, Object.values(optimizer.hyper(step)).map((x) => ref([], [x])), states).states
    return [...(states.get('w')?.data ?? [])]
  })
}

function expectClose(got: readonly number[] | undefined, want: readonly number[]): void {
  expect(got?.length).toBe(want.length)
  // Constants of the graph are float32.
  got?.forEach((x, i) => expect(x).toBeCloseTo(want[i] ?? Number.NaN, 6))
}

// The same recurrences as in the headers of sgd.ts and adamW.ts, written on numbers.
test('sgd: plain, momentum, Nesterov, weight decay', () => {
  expectClose(descend(sgd({ lr: 0.1 }), 1)[0], [1 - 0.1 * 2, -1 + 0.1 * 4])
  const run = (nesterov: boolean, weightDecay: number): number[] => {
    let w = [1, -1]
    let v = [0, 0]
    for (let step = 0; step < 3; step++) {
      const g = w.map((x, i) => 2 * x * (i + 1) + weightDecay * x)
      v = v.map((x, i) => 0.9 * x + (g[i] ?? 0))
      w = w.map((x, i) => x - 0.1 * (nesterov ? (g[i] ?? 0) + 0.9 * (v[i] ?? 0) : (v[i] ?? 0)))
    }
    return w
  }
  expectClose(descend(sgd({ lr: 0.1, momentum: 0.9 }), 3)[2], run(false, 0))
  expectClose(descend(sgd({ lr: 0.1, momentum: 0.9, nesterov: true, weightDecay: 0.01 }), 3)[2], run(true, 0.01))
})

test('adamW with bias correction and decoupled decay', () => {
  let w = [1, -1]
  let m = [0, 0]
  let v = [0, 0]
  for (let t = 1; t <= 4; t++) {
    const g = w.map((x, i) => 2 * x * (i + 1))
    w = w.map((x) => x - 0.05 * 0.1 * x)
    m = m.map((x, i) => 0.9 * x + 0.1 * (g[i] ?? 0))
    v = v.map((x, i) => 0.999 * x + 0.001 * (g[i] ?? 0) ** 2)
    w = w.map((x, i) => x - (0.05 / (1 - 0.9 ** t)) * ((m[i] ?? 0) / (Math.sqrt(v[i] ?? 0) / Math.sqrt(1 - 0.999 ** t) + 1e-8)))
  }
  expectClose(descend(adamW({ lr: 0.05, weightDecay: 0.1 }), 4)[3], w)
})

test('groups have their own rate and decay; the first match counts', () => {
  const groups = [{ match: /^w$/, lrScale: 0.5, weightDecay: 0.2 }, { match: () => true, lrScale: 9 }]
  expectClose(descend(sgd({ lr: 0.1, groups }), 1)[0], [1 - 0.05 * 2.2, -1 + 0.05 * 4.2])
  expectClose(descend(sgd({ lr: 0.1, groups: [{ match: (name) => name === 'other', lrScale: 0 }] }), 1)[0], [0.8, -0.6])
})

test('a pattern matches every name alike, whatever its flags', () => {
  const groups = [{ match: /bias$/g, weightDecay: 0 }]
  expect(['a.bias', 'b.bias', 'c.weight', 'd.bias'].map((name) => groupOf(name, groups, 0.1).weightDecay)).toEqual([0, 0, 0.1, 0])
})

test('options out of range are refused', () => {
  expect(() => sgd({ lr: -1 })).toThrow('sgd: the rate at step 0 must be 0 or more, got -1')
  expect(() => sgd({ lr: Number.NaN })).toThrow('got NaN')
  expect(() => sgd({ lr: 1, momentum: 1 })).toThrow('momentum must be in [0, 1)')
  expect(() => sgd({ lr: 1, nesterov: true })).toThrow('nesterov needs a momentum')
  expect(() => sgd({ lr: 1, weightDecay: -0.1 })).toThrow('sgd: weightDecay must be 0 or more, got -0.1')
  expect(() => adamW({ lr: 1, groups: [{ match: /bias/, weightDecay: Number.NaN }] })).toThrow('adamW: weightDecay of the group /bias/ must be 0 or more, got NaN')
  expect(() => adamW({ lr: 1, groups: [{ match: /bias/, lrScale: -1 }] })).toThrow('adamW: lrScale of the group /bias/ must be 0 or more, got -1')
  expect(() => adamW({ lr: 1, epsilon: 0 })).toThrow('adamW: epsilon must be positive, got 0')
  expect(() => sgd({} as SgdOptions)).toThrow('sgd: lr must be a number or a function of the step, got undefined')
  expect(() => adamW({ lr: 1, betas: [0.9, 1] })).toThrow('betas must be in [0, 1)')
  expect(() => trace((x) => clipByGlobalNorm([x], 0).norm, { inputs: [{ shape: [1] }] })).toThrow('maxNorm must be positive')
})

test('clipping scales all gradients by one factor, and only down', () => {
  const clip = (values: number[], maxNorm: number): number[] => {
    const { graph } = trace((a, b) => [...clipByGlobalNorm([a, b], maxNorm).gradients], { inputs: [{ shape: [1] }, { shape: [1] }] })
    return evaluate(graph, values.map((v) => ref([1], [v]))).outputs.map((o) => o.data[0] ?? Number.NaN)
  }
  expectClose(clip([3, 4], 1), [3 / (5 + 1e-6), 4 / (5 + 1e-6)])
  expectClose(clip([3, 4], 6), [3, 4])
})

test('schedules', () => {
  const s = cosine({ peak: 1, steps: 10, floor: 0.1 })
  expect([s(0), s(5), s(10), s(20)].map((x) => +x.toFixed(12))).toEqual([1, 0.55, 0.1, 0.1])
  const d = stepDecay({ peak: 1, milestones: [2, 4], gamma: 0.5 })
  expect([0, 1, 2, 3, 4].map(d)).toEqual([1, 1, 0.5, 0.5, 0.25])
  const w = warmup({ steps: 3, schedule: s })
  expect([w(0), w(1), w(2), w(3)]).toEqual([0.25, 0.5, 0.75, 1])
})
