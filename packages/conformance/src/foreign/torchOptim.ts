// Fixtures of PyTorch's optimizers as programs: the very graph that `trainer` compiles, run once a step.

import { adamW, GraphError, Linear, mse, type Optimizer, referenceBackend, type RefTensor, Sequential, sgd, sizeOf, Tanh, tensor, traceStep, zeros } from '@dynconv/core'
import { type Fixture, type FixtureCase, hostOf, tensorOf, tensorsOf } from './fixture.ts'
import type { ForeignProgram } from './foreignProgram.ts'

/** Options by the names that PyTorch gives them. */
interface TorchOptions {
  readonly lr: number
  readonly momentum?: number
  readonly nesterov?: boolean
  readonly betas?: readonly [number, number]
  readonly eps?: number
  readonly weight_decay?: number
  readonly clipNorm: number | null
  /** `rounded`: constants of the update are not exact in float32, in which graphs hold them. */
  readonly constants: 'exact' | 'rounded'
}

const makers: Readonly<Record<string, (options: TorchOptions) => Optimizer>> = {
  sgd: ({ lr, momentum = 0, nesterov = false, weight_decay: weightDecay = 0 }) => sgd({ lr, momentum, nesterov, weightDecay }),
  adamW: ({ lr, betas = [0.9, 0.999], eps: epsilon = 1e-8, weight_decay: weightDecay = 0.01 }) => adamW({ lr, betas, epsilon, weightDecay }),
}

/** Whether the fixture's `op` is an optimizer. */
export function isOptimizer(op: string): boolean {
  return Object.hasOwn(makers, op)
}

/** All steps of a fixture's optimizer. `float64Tolerance` holds where no constant is rounded. */
export function optimizerProgram(fixture: Fixture, c: FixtureCase, float64Tolerance: number): ForeignProgram {
  // Boundary: the arguments come from JSON; the optimizers check their ranges.
  const options = c.args as unknown as TorchOptions
  const optimizer = makers[c.op]?.(options)
  if (!optimizer) throw new GraphError(`optimizerProgram: there is no optimizer '${c.op}' here`)
  const module = new Sequential(new Linear({ inFeatures: 3, outFeatures: 5 }), new Tanh(), new Linear({ inFeatures: 5, outFeatures: 4 }))
  module.loadState(new Map([...module.namedParameters().keys()].map((name) => [name, hostOf(tensorOf(fixture, c.id, 'in', name))])))
  const batches = ['inputs', 'targets'].map((name) => rows(tensorOf(fixture, c.id, 'in', name)))
  const losses = tensorOf(fixture, c.id, 'out', 'loss').data.length
  const settings = { backend: referenceBackend(), loss: mse(), optimizer, ...(options.clipNorm === null ? {} : { clipNorm: options.clipNorm }) }
  const [inputs, targets] = batches.map(([first]) => first && hostOf({ ...first, dtype: 'float32' }))
  if (!inputs || !targets) throw new GraphError(`optimizerProgram: '${c.id}' has no batches`)
  const graph = traceStep(module, settings, inputs, targets)
  const parameters = module.state()
  const steps = Array.from({ length: losses }, (_, step) => step)
  const scalars = (step: number): readonly number[] => Object.values(optimizer.hyper(step))
  const batch = (step: number): readonly RefTensor[] => batches.flatMap((list) => list.slice(step, step + 1))
  return {
    id: c.id,
    program: {
      graph,
      states: graph.states.map(({ name, kind, shape }) => ({ name, kind, data: parameters.get(name) ?? zeros(shape.map(Number)) })),
      runs: steps.map((step) => [...batch(step).map((t) => hostOf({ ...t, dtype: 'float32' })), ...scalars(step).map((value) => tensor(value))]),
    },
    float64Runs: steps.map((step) => [...batch(step), ...scalars(step).map((value) => ({ shape: [], data: Float64Array.of(value) }))]),
    outputs: steps.map((step) => new Map(c.outputs.map((name) => [name, scalarAt(tensorOf(fixture, c.id, 'out', name), step)]))),
    after: tensorsOf(fixture, c.id, 'after'),
    precision: { tolerance: options.constants === 'exact' ? float64Tolerance : roundedTolerance(steps.length, scalars(0).length) },
  }
}

// Each step uses a handful of constants (betas and their complements, epsilon, decay), each off by half a unit of
// float32; their errors add up from step to step. No step changes a parameter by more than a few times the rate.
function roundedTolerance(steps: number, constants: number): number {
  return steps * (constants + 6) * 2 ** -24
}

// [steps, ...] as one tensor a step.
function rows(t: RefTensor): readonly RefTensor[] {
  const shape = t.shape.slice(1)
  const size = sizeOf(shape)
  return Array.from({ length: t.shape[0] ?? 0 }, (_, i) => ({ shape, data: t.data.slice(i * size, (i + 1) * size) }))
}

function scalarAt(t: RefTensor, i: number): RefTensor {
  return { shape: [], data: Float64Array.of(t.data[i] ?? Number.NaN) }
}
