// Fixtures of PyTorch (written by tools/oracle) as programs: outputs, new states, gradients, and gradients of gradients, by
// one graph a case. What each op is stands in torchOps.ts, optimizers in torchOptim.ts.
//
// What a fixture puts in is representable in float32, so every engine gets the very same numbers.

import { type Buffer, decompose, type DynamicConvForm, gradients, GraphError, type InputSpec, type Module, type Parameter, planDynamicConv, type RefTensor, type Tensor, trace } from '@dynconv/core'
import { startOf } from '../cases/define.ts'
import { type Fixture, type FixtureCase, type FixtureTensor, hostOf, tensorOf, tensorsOf } from './fixture.ts'
import type { ForeignProgram } from './foreignProgram.ts'
import { hasForms, type Inputs, torchOp } from './torchOps.ts'
import { isOptimizer, optimizerProgram } from './torchOptim.ts'

/**
 * The share of a result's largest number by which sums in float64 may differ. Gradients of decomposed norms hold their
 * epsilon as a float32 constant: 1e-5 is then off by 1e-13, beside variances that are seldom below 0.1.
 */
const float64Tolerance = 1e-11

/**
 * Every case of a fixture as a program; dynamic convolutions once in each form.
 *
 * @throws FormatError where the fixture lacks a tensor; GraphError for an op that is not known here
 */
export function torchPrograms(fixture: Fixture): readonly ForeignProgram[] {
  return fixture.cases.flatMap((c) => {
    if (isOptimizer(c.op)) return [optimizerProgram(fixture, c, float64Tolerance)]
    return (hasForms(c.op) ? forms : [plain]).map((variant) => caseProgram(fixture, c, variant))
  })
}

interface Variant {
  readonly label: string
  readonly form: DynamicConvForm
  /** Whether the reference runs the ops that the form consists of, in place of the whole op. */
  readonly inParts?: boolean
  /** Whether the gradient of the kernels takes one sample at a time. */
  readonly sampleBySample?: boolean
}

const plain: Variant = { label: '', form: 'auto' }
const forms: readonly Variant[] = [
  plain,
  { label: ', form kernels', form: 'kernels', inParts: true },
  { label: ', form outputs', form: 'outputs', inParts: true },
  { label: ', form kernels sample by sample', form: 'kernels', inParts: true, sampleBySample: true },
]

// One graph gives all: outputs y_i; gradients of L = sum_i <y_i, seed_i> by the inputs; and gradients of
// G = sum_j <dL/dx_j, seed2_j> by the inputs and by the seeds.
function caseProgram(fixture: Fixture, c: FixtureCase, { label, form, inParts, sampleBySample }: Variant): ForeignProgram {
  const { module, apply } = torchOp(c.op, c.args, form)
  if (module) load(module, tensorsOf(fixture, c.id, 'in'))
  const states = parts(module)
  const ports = [
    ...c.inputs.filter((name) => !states.has(name)).map((name) => ({ port: name, role: 'in', name })),
    ...(c.wrt.length ? c.outputs : []).map((name) => ({ port: `seed:${name}`, role: 'seed', name })),
    ...(c.second ? c.wrt : []).map((name) => ({ port: `seed2:${name}`, role: 'seed2', name })),
  ]
  const feeds = ports.map(({ role, name }) => hostOf(tensorOf(fixture, c.id, role, name)))
  const specs = feeds.map((value, i): InputSpec => ({ name: ports[i]?.port ?? '', dtype: value.dtype, shape: value.shape }))
  const wanted = new Map<string, RefTensor>()

  const body = (...tensors: Tensor[]): { readonly [name: string]: Tensor } => {
    const inputs = inputsOf(specs, tensors, states)
    const results: { [name: string]: Tensor } = {}
    const deliver = (role: string, names: readonly string[], list: readonly Tensor[]): void => {
      names.forEach((name, i) => {
        results[`${role} ${name}`] = taken(list[i], name)
        wanted.set(`${role} ${name}`, tensorOf(fixture, c.id, role, name))
      })
    }
    const outputs = apply(inputs)
    const list = c.outputs.map((name) => taken(outputs[name], name))
    deliver('out', c.outputs, list)
    if (!c.wrt.length) return results
    const seeds = c.outputs.map((name) => `seed:${name}`)
    const grads = gradients(contract(list, seeds.map(inputs.get)), c.wrt.map(inputs.get))
    deliver('grad', c.wrt, grads)
    if (!c.second) return results
    const variables = [...c.wrt, ...seeds]
    const scalar = contract(grads, c.wrt.map((name) => inputs.get(`seed2:${name}`)))
    deliver('grad2', variables, gradients(scalar, variables.map(inputs.get)))
    return results
  }
  const traced = trace(body, { inputs: specs, ...(module ? { names: module.paths() } : {}) })
  const graph = sampleBySample ? planDynamicConv(traced.graph, { memoryBudgetBytes: 1 }).graph : traced.graph
  return {
    id: c.id + label,
    program: { graph, states: startOf(traced.sources), runs: [feeds] },
    outputs: [wanted],
    after: tensorsOf(fixture, c.id, 'after'),
    precision: { tolerance: float64Tolerance },
    ...(inParts ? { referenceGraph: decompose(graph, (node) => !node.op.startsWith('dynamicConv2d')) } : {}),
  }
}

function inputsOf(specs: readonly InputSpec[], tensors: readonly Tensor[], states: ReadonlyMap<string, Parameter | Buffer>): Inputs {
  const find = (name: string): Tensor | undefined => tensors[specs.findIndex((spec) => spec.name === name)] ?? states.get(name)?.value
  return { find, get: (name) => taken(find(name), name) }
}

function contract(tensors: readonly Tensor[], weights: readonly Tensor[]): Tensor {
  const terms = tensors.map((t, i) => t.mul(taken(weights[i], `weight ${i}`)).sum())
  return terms.slice(1).reduce((a, b) => a.add(b), taken(terms[0], 'output'))
}

function taken(t: Tensor | undefined, name: string): Tensor {
  if (!t) throw new GraphError(`torchPrograms: there is no '${name}' here`)
  return t
}

function parts(module: Module | undefined): ReadonlyMap<string, Parameter | Buffer> {
  return new Map<string, Parameter | Buffer>([...(module?.namedParameters() ?? []), ...(module?.namedBuffers() ?? [])])
}

/** The states of `module` that a fixture gives become its parameters and buffers. */
function load(module: Module, given: ReadonlyMap<string, FixtureTensor>): void {
  const own = parts(module)
  module.loadState(new Map([...given].flatMap(([name, t]) => (own.has(name) ? [[name, hostOf(t)] as const] : []))), { strict: false })
}
