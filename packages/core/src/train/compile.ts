// A module (or a function) compiled for inference: traced once, compiled once for each set of input shapes.

import { checkType } from '../backend/checks.ts'
import { DisposedError, ShapeError, ValueError } from '../backend/errors.ts'
import type { Backend, DeviceTensor, Executable, StateStore } from '../backend/contract.ts'
import { prepare } from '../backend/prepare.ts'
import { type Graph, typeOf } from '../graph/graph.ts'
import { type InputSpec, type Traced, type TraceResult, trace } from '../graph/trace.ts'
import { Module } from '../nn/module.ts'
import { formatChoices } from '../passes/planDynamicConv.ts'
import { specialise } from '../passes/specialise.ts'
import { checkHostTensor, type HostTensor } from '../tensor/hostTensor.ts'
import type { Dim } from '../tensor/shape.ts'
import type { Tensor } from '../tensor/tensor.ts'

/** How to compile. */
export interface CompileModuleOptions {
  readonly backend: Backend
  /**
   * One for each input. A size may be a name (`'N'`): the program is then compiled anew for each size that comes. That is meant for
   * the batch: channels, and the image sizes of convolutions, pools and means, must be numbers.
   */
  readonly inputs: readonly InputSpec[]
  /** Whether batch statistics are used ('train') or running ones ('eval', unless given). State is not written back to the module. */
  readonly mode?: 'eval' | 'train'
  /** Whether what layers `record` (the routing's mixtures) comes out too, after the other outputs. */
  readonly taps?: boolean
}

interface Program {
  readonly executable: Executable
  readonly choices: string
}

/** A compiled module. */
export class Compiled {
  // Not the trace, whose sources are the module's parameters: a caller who lets go of the module has its memory back.
  readonly #graph: Graph
  readonly #backend: Backend
  readonly #state: StateStore
  readonly #programs: Map<string, Program> = new Map()
  // Runs that need the same program while it is compiled share it.
  readonly #compiling: Map<string, Promise<Program>> = new Map()
  #disposed: boolean = false

  constructor(graph: Graph, backend: Backend, state: StateStore) {
    this.#graph = graph
    this.#backend = backend
    this.#state = state
  }

  /** The names of what `run` returns, in order. */
  get outputs(): readonly string[] {
    return this.#graph.outputs.map((o) => o.name)
  }

  /** The device's copy of the module's parameters and buffers. */
  get state(): StateStore {
    return this.#state
  }

  /**
   * Host (or device) tensors in, host tensors out.
   *
   * @throws ShapeError, DTypeError for an input that does not fit; DisposedError
   */
  async run(inputs: readonly (HostTensor | DeviceTensor)[]): Promise<readonly HostTensor[]> {
    const { executable } = await this.#program(this.#sizes(inputs))
    return executable.run(inputs)
  }

  /** What was chosen for each program compiled so far, for people. */
  explain(): string {
    return [...this.#programs.values()].map(({ choices, executable }) => [choices, executable.explain()].filter(Boolean).join('\n')).join('\n')
  }

  /** Frees the programs and the state. Twice is harmless. */
  dispose(): void {
    this.#disposed = true
    for (const { executable } of this.#programs.values()) executable.dispose()
    this.#programs.clear()
    this.#state.dispose()
  }

  /** Compiles ahead, for shapes whose sizes are all known; `compile` calls it where they are. */
  async prepare(sizes: ReadonlyMap<string, number> = new Map()): Promise<void> {
    await this.#program(sizes)
  }

  // The names of sizes are bound by the inputs' shapes; everything else must match exactly.
  #sizes(inputs: readonly (HostTensor | DeviceTensor)[]): ReadonlyMap<string, number> {
    const graph = this.#graph
    const sizes = new Map<string, number>()
    if (!Array.isArray(inputs)) throw new ValueError('run: the inputs must be a list, also where there is one: run([x])')
    if (inputs.length !== graph.inputs.length) throw new ShapeError(`run: expected ${graph.inputs.length} inputs (${graph.inputs.map((p) => p.name).join(', ')}), got ${inputs.length}`)
    graph.inputs.forEach((port, i) => {
      const want = typeOf(graph, port.value)
      const got = inputs[i]
      if (!isOnDevice(got)) checkHostTensor(`run: input '${port.name}'`, got)
      if (!got) return
      const fits = got.shape.length === want.shape.length && want.shape.every((d, axis) => bind(sizes, d, got.shape[axis] ?? 0))
      checkType(`run: input '${port.name}'`, want, got, fits)
    })
    return sizes
  }

  async #program(sizes: ReadonlyMap<string, number>): Promise<Program> {
    this.#alive()
    const key = [...sizes].map(([name, n]) => `${name}=${n}`).join(',')
    const ready = this.#programs.get(key) ?? this.#compiling.get(key)
    if (ready) return ready
    const compiling = this.#compile(key, sizes)
    this.#compiling.set(key, compiling)
    try {
      return await compiling
    } finally {
      this.#compiling.delete(key)
    }
  }

  async #compile(key: string, sizes: ReadonlyMap<string, number>): Promise<Program> {
    const { graph, choices } = prepare(specialise(this.#graph, Object.fromEntries(sizes)), this.#backend)
    const executable = await this.#backend.compile(graph, { state: this.#state })
    if (this.#disposed) executable.dispose()
    this.#alive()
    const program = { executable, choices: formatChoices(choices) }
    this.#programs.set(key, program)
    return program
  }

  #alive(): void {
    if (this.#disposed) throw new DisposedError('run: this compiled module was disposed')
  }
}

function isOnDevice(value: unknown): boolean {
  return typeof value === 'object' && value !== null && 'backend' in value
}

function bind(sizes: Map<string, number>, want: Dim, got: number): boolean {
  if (typeof want === 'number') return want === got
  const bound = sizes.get(want)
  if (bound !== undefined) return bound === got
  sizes.set(want, got)
  return true
}

/**
 * Compiles a module, or a function on tensors, for a backend.
 *
 * @example
 * const f = await compile(layer, { backend, inputs: [{ shape: [8, 64, 56, 56] }] })
 * const [y] = await f.run([x])
 * @throws whatever the ops' checks find in the module; UnsupportedOpError
 */
export async function compile(target: Module | ((...inputs: Tensor[]) => TraceResult), options: CompileModuleOptions): Promise<Compiled> {
  checkBackend('compile', options.backend)
  const traced = traceModule(target, options)
  const state = await options.backend.createState([...traced.sources].map(([name, source]) => ({ name, kind: source.kind, data: source.data })))
  const compiled = new Compiled(traced.graph, options.backend, state)
  try {
    const open = options.inputs.some((spec) => spec.shape.some((d) => typeof d === 'string'))
    if (!open) await compiled.prepare()
  } catch (error) {
    compiled.dispose()
    throw error
  }
  return compiled
}

/** The graph of a module in one mode; a module's own `training` flags are as before afterwards. */
export function traceModule(
  target: Module | ((...inputs: Tensor[]) => TraceResult),
  options: Pick<CompileModuleOptions, 'inputs' | 'mode' | 'taps'>,
): Traced {
  const shared = { inputs: options.inputs, ...(options.taps === undefined ? {} : { taps: options.taps }) }
  if (!(target instanceof Module)) return trace(target, shared)
  return inMode(target, options.mode ?? 'eval', () => trace((...inputs) => target.forward(...inputs), { ...shared, names: target.paths() }))
}

/** Throws for a backend that is still a promise, which plain JavaScript lets through. */
export function checkBackend(who: string, backend: unknown): void {
  if (backend instanceof Promise) throw new ValueError(`${who}: the backend is a promise; await it: { backend: await onnx() }`)
}

/** Runs `body` with all of `module` in one mode, and puts the flags back. */
export function inMode<T>(module: Module, mode: 'eval' | 'train', body: () => T): T {
  const before = [...module.namedModules().values()].map((m) => [m, m.training] as const)
  module.train(mode === 'train')
  try {
    return body()
  } finally {
    for (const [m, training] of before) m.training = training
  }
}
