// The true results of a program, by the float64 oracle, and how far an engine's may be off.
//
// Where a result comes straight from exact values (inputs, constants, what was moved or compared), its tolerance is the
// row of bounds.ts. Behind several roundings it is found by Monte Carlo arithmetic (Parker 1997, "Monte Carlo arithmetic:
// exploiting randomness in floating-point arithmetic"): the oracle runs the program again, and every op's result is moved up
// or down by exactly what the table allows it. Half of the draws move every element by itself, which is how roundings add
// up; half move whole tensors one way, which is how a biased function adds up. That way the program's own conditioning
// decides: what amplifies (a normalisation of nearly equal numbers) gets the room that it needs, and nothing else does.
//
// The tolerance is 4 times the largest of 8 deviations: a normal deviation is within a quarter of its own standard
// deviation with probability 0.2, all eight with 2e-6. Real roundings are smaller than the moves: the table counts all n
// roundings of a sum as if they had one sign.

import { evaluate, interpret, type OpAttrs, type OpDef, type OpName, ops, Random, type RefTensor, staticShape, toRef, typeOf } from '@dynconv/core'
import { allowances, bounds, type ResultType } from './bounds.ts'
import type { Program } from './program.ts'
import { isFloatType } from './ulp.ts'

/** A result that is wanted. */
export interface Wanted {
  readonly name: string
  readonly type: ResultType
  readonly value: RefTensor
  /** How far each element may be off, absolutely. */
  readonly allowed: Float64Array
}

/** What a program must give. */
export interface Expectation {
  /** The outputs of each run. */
  readonly runs: readonly (readonly Wanted[])[]
  /** The states after the last run. */
  readonly states: readonly Wanted[]
}

const drawCount = 8
const safety = 4

interface Results {
  readonly runs: readonly (readonly RefTensor[])[]
  readonly states: ReadonlyMap<string, RefTensor>
}

/**
 * Runs `program` on the oracle and finds its tolerances.
 *
 * @throws Error for an ill-conditioned program: one where roundings decide (a comparison, an index, a sign of infinity)
 */
export async function expectation(program: Program): Promise<Expectation> {
  const { graph } = program
  const truth = trueResults(program)
  const simulation = new Simulation(program)
  const base = await simulation.record()
  const draws: Results[] = []
  const needed = [...base.runs.flat(), ...base.states.values()].some((t) => simulation.direct(t) === undefined)
  for (let i = 0; needed && i < drawCount; i++) draws.push(await simulation.draw(i))

  const outputTypes = graph.outputs.map(({ name, value }) => ({ name, ...typeOf(graph, value) }))
  const want = (name: string, type: ResultType, value: RefTensor | undefined, own: RefTensor | undefined, drawn: readonly (RefTensor | undefined)[]): Wanted => {
    if (!value || !own) throw new RangeError(`expectation: ${name} was not computed`)
    return { name, type, value, allowed: simulation.direct(own) ?? deviation(name, type, value, [own, ...drawn]) }
  }
  return {
    runs: truth.runs.map((outputs, r) =>
      outputTypes.map(({ name, dtype, shape }, i) => {
        const type = { dtype, shape: staticShape('expectation', shape) }
        return want(truth.runs.length > 1 ? `run ${r}: ${name}` : name, type, outputs[i], base.runs[r]?.[i], draws.map((d) => d.runs[r]?.[i]))
      }),
    ),
    states: graph.states.map(({ name, dtype, shape }) => {
      const type = { dtype, shape: staticShape('expectation', shape) }
      return want(`state ${name}`, type, truth.states.get(name), base.states.get(name), draws.map((d) => d.states.get(name)))
    }),
  }
}

function trueResults({ graph, states, runs }: Program): Results {
  let current: ReadonlyMap<string, RefTensor> = new Map(states.map((s) => [s.name, toRef(s.data)]))
  const outputs = runs.map((inputs) => {
    const result = evaluate(graph, inputs.map(toRef), current)
    current = new Map([...current, ...result.states])
    return result.outputs
  })
  return { runs: outputs, states: current }
}

function deviation(name: string, type: ResultType, value: RefTensor, drawn: readonly (RefTensor | undefined)[]): Float64Array {
  return value.data.map((v, i) => {
    if (!Number.isFinite(v)) return 0
    const worst = drawn.reduce((w, d) => Math.max(w, Math.abs((d?.data[i] ?? Number.NaN) - v)), 0)
    if (!Number.isFinite(worst) || (worst > 0 && !isFloatType(type.dtype))) {
      throw new Error(`expectation: ${name} rests on a decision that roundings can turn (element ${i} is ${v}); give the case other data`)
    }
    return safety * worst
  })
}

// The program on the oracle, op by op, in float64; ops without a row of their own are decomposed.
class Simulation {
  readonly #program: Program
  readonly #interpreter: ReturnType<typeof interpret<RefTensor>>
  // What each op that runs may be off by, in the order of a whole simulation.
  readonly #allowed: (readonly Float64Array[])[] = []
  // Tensors that hold exact numbers, and the tolerances of those that come straight from such.
  readonly #exact: WeakSet<RefTensor> = new WeakSet()
  readonly #direct: WeakMap<RefTensor, Float64Array> = new WeakMap()
  #apply: (op: OpName, attrs: OpAttrs[OpName], inputs: readonly RefTensor[], types: readonly ResultType[]) => readonly RefTensor[] = compute

  constructor(program: Program) {
    this.#program = program
    const names = (Object.keys(ops) as OpName[]).filter((op) => bounds[op] !== 'decompose')
    const kernels = Object.fromEntries(
      names.map((op) => [op, (attrs: OpAttrs[OpName], inputs: readonly RefTensor[], types: readonly ResultType[]) => this.#apply(op, attrs, inputs, types)]),
    )
    this.#interpreter = interpret<RefTensor>(program.graph, kernels, { backend: 'oracle' })
  }

  /** The tolerance of a result of `record` that comes straight from exact values. */
  direct(t: RefTensor): Float64Array | undefined {
    return this.#direct.get(t) ?? (this.#exact.has(t) ? new Float64Array(t.data.length) : undefined)
  }

  /** Without deviations. */
  record(): Promise<Results> {
    this.#apply = (op, attrs, inputs, types) => {
      const outputs = compute(op, attrs, inputs, types)
      const allowed = allowances({ op, attrs, inputs, outputs, types }) ?? []
      if (op !== 'constant') this.#allowed.push(allowed)
      if (inputs.every((t) => this.#exact.has(t))) {
        outputs.forEach((t, i) => {
          const own = allowed[i] ?? new Float64Array(t.data.length)
          if (own.every((a) => a === 0)) this.#exact.add(t)
          else this.#direct.set(t, own)
        })
      }
      return outputs
    }
    return this.#run()
  }

  /** With every result moved by what it may be off. */
  draw(index: number): Promise<Results> {
    const random = new Random(index, 0x5eed)
    const whole = index % 2 === 1
    let next = 0
    this.#apply = (op, attrs, inputs, types) => {
      const outputs = compute(op, attrs, inputs, types)
      const allowed = op === 'constant' ? undefined : this.#allowed[next++]
      return outputs.map((t, i) => {
        const own = allowed?.[i]
        if (!own) return t
        const sign = (): number => (random.nextUint32() & 1 ? 1 : -1)
        const shared = sign()
        return { shape: t.shape, data: t.data.map((v, j) => v + (own[j] ?? 0) * (whole ? shared : sign())) }
      })
    }
    return this.#run()
  }

  async #run(): Promise<Results> {
    const { states, runs } = this.#program
    const given = (value: RefTensor): RefTensor => {
      this.#exact.add(value)
      return value
    }
    let current: ReadonlyMap<string, RefTensor> = new Map(states.map((s) => [s.name, given(toRef(s.data))]))
    const outputs: (readonly RefTensor[])[] = []
    for (const inputs of runs) {
      const result = await this.#interpreter.run(inputs.map((t) => given(toRef(t))), current)
      current = new Map([...current, ...result.updates])
      outputs.push(result.outputs)
    }
    return { runs: outputs, states: current }
  }
}

function compute(op: OpName, attrs: OpAttrs[OpName], inputs: readonly RefTensor[], types: readonly ResultType[]): readonly RefTensor[] {
  const result = (ops[op] as OpDef<OpName>).reference(attrs, inputs, types)
  return 'data' in result ? [result] : result
}
