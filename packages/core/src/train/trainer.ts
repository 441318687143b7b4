// Training: forward, backward and update as one program; state stays on the device between steps.
//
// With accumulation the same step is cut in two: a `gradients` program that adds to gradient sums kept as state, and an
// `update` program that runs every n-th time. Each program is compiled once for each shape of batch, all on one state.

import { checkChoice } from '../backend/checks.ts'
import type { Backend, Executable, StateInit, StateStore } from '../backend/contract.ts'
import { DisposedError, GraphError, NonFiniteError, ValueError } from '../backend/errors.ts'
import { prepare } from '../backend/prepare.ts'
import { Queue } from '../backend/queue.ts'
import { gradientsOrNone } from '../autodiff/gradients.ts'
import type { Graph } from '../graph/graph.ts'
import { currentScope, type StateSource } from '../graph/scope.ts'
import { trace } from '../graph/trace.ts'
import { checkState, type Module, type StateDict } from '../nn/module.ts'
import type { Loss } from '../nn/losses.ts'
import type { Parameter } from '../nn/parameter.ts'
import { clipByGlobalNorm } from '../optim/clip.ts'
import type { Optimizer, Trained, UpdateContext } from '../optim/optimizer.ts'
import { castPolicy } from '../passes/castPolicy.ts'
import { optimise } from '../passes/optimise.ts'
import { formatChoices } from '../passes/planDynamicConv.ts'
import { checkHostTensor, type HostTensor, tensor, toFloat64, zeros } from '../tensor/hostTensor.ts'
import type { Shape } from '../tensor/shape.ts'
import type { Tensor } from '../tensor/tensor.ts'
import { checkBackend, inMode } from './compile.ts'
import { allFinite, checkLossScale, type LossScale, lossScaleNames, lossScaleSlots, nextLossScale } from './lossScale.ts'

/** Scalars worth watching, from the output and the targets. */
export type Metrics = (output: Tensor, target: Tensor) => { readonly [name: string]: Tensor }

/** How to train. */
export interface TrainerOptions {
  readonly backend: Backend
  readonly loss: Loss
  readonly optimizer: Optimizer
  /** Gradients are scaled down to this global norm; unlimited unless given. */
  readonly clipNorm?: number
  /** How many batches make one update (their gradients are averaged); 1 unless given. */
  readonly accumulate?: number
  /** Beside the loss; for int32 targets [N] `correct`, the count of right answers, unless given. */
  readonly metrics?: Metrics
  /** Most bytes for the per-sample kernels of a dynamic convolution's backward. */
  readonly memoryBudgetBytes?: number
  /**
   * What convolutions and matrix products take their inputs in, in training as in `evaluate` and `predict`. 'float16' is mixed
   * precision: parameters and their updates, norms, reductions and the loss stay float32. float32 unless given.
   */
  readonly compute?: 'float32' | 'float16'
  /** With compute 'float16': how the scale of the loss moves. */
  readonly lossScale?: LossScale
}

/** What a step or an evaluation saw. */
export interface StepResult {
  readonly loss: number
  /**
   * Metrics by name, and `gradientNorm` where gradients are clipped. With compute 'float16' an update also tells its `lossScale`, and
   * `overflow`: 1 where a gradient was not finite, so that parameters and moments stayed as they were.
   */
  readonly metrics: { readonly [name: string]: number }
}

/** The right answers among logits [N, C] for int32 classes [N]. */
export const classification: Metrics = (output, target) =>
  target.dtype === 'int32' && target.rank === 1 && output.rank === 2 ? { correct: output.argMax(1).equal(target).cast('float32').sum() } : {}

/**
 * Puts `module` and an optimizer on a backend.
 *
 * @example
 * const training = await trainer(net, { backend, loss: crossEntropy(), optimizer: sgd({ lr: 0.1, momentum: 0.9 }) })
 * for await (const { images, labels } of loader) console.log((await training.step(images, labels)).loss)
 */
export async function trainer(module: Module, options: TrainerOptions): Promise<Training> {
  const { accumulate = 1 } = options
  checkBackend('trainer', options.backend)
  if (!Number.isInteger(accumulate) || accumulate < 1) throw new ValueError(`trainer: accumulate must be a positive integer, got ${accumulate}`)
  checkPrecision(options)
  const slots = optimizerSlots(module, options)
  const initial: StateInit[] = [
    ...[...module.namedParameters(), ...module.namedBuffers()].map(([name, part]) => ({ name, kind: part.kind, data: part.data })),
    ...[...slots].map(([name, slot]) => ({ name, kind: slot.kind, data: slot.data })),
  ]
  return new Training(module, options, slots, await options.backend.createState(initial))
}

/** All that a resumed training needs, of one moment. */
export interface Snapshot {
  /** Parameters, buffers, the optimizer's moments (`optimizer.`...), sums of accumulated gradients (`gradient.`...). */
  readonly state: Map<string, HostTensor>
  /** How many updates were made. */
  readonly steps: number
  /** How many batches are in the sums of gradients. */
  readonly pending: number
}

type Program = {
  readonly executable: Executable
  readonly outputs: readonly string[]
  readonly choices: string
  /** Throws for targets that the loss cannot take. */
  readonly check: (targets: HostTensor) => void
}
type Kind = 'step' | 'gradients' | 'update' | 'evaluate' | 'predict'

/**
 * A module in training, its state on the device. What is asked for while something else goes on waits for its end, so that
 * nothing sees half of a step.
 */
export class Training {
  readonly module: Module
  readonly #options: TrainerOptions
  readonly #slots: ReadonlyMap<string, StateSource>
  readonly #store: StateStore
  readonly #programs: Map<string, Program> = new Map()
  readonly #turns: Queue = new Queue()
  /** The parameters that some `gradients` program sums gradients of. */
  readonly #summed: Set<string> = new Set()
  #steps: number = 0
  #pending: number = 0
  #disposed: boolean = false

  constructor(module: Module, options: TrainerOptions, slots: ReadonlyMap<string, StateSource>, store: StateStore) {
    this.module = module
    this.#options = options
    this.#slots = slots
    this.#store = store
  }

  /** How many updates were made, those that an overflow of float16 left out among them. Schedules count by it. */
  get steps(): number {
    return this.#steps
  }

  /**
   * How many batches are in the sums of gradients that the next update takes; 0 unless they are accumulated. As many as make
   * an update only where that failed: the next step makes it first.
   */
  get pending(): number {
    return this.#pending
  }

  /**
   * One batch: forward, backward and (every `accumulate`-th time) the update.
   *
   * @throws NonFiniteError when the loss is not finite: with the step and the first parameter that is not, or when gradients
   * overflow float16 though the loss is scaled by 1; ValueError for targets that the loss cannot take. The batch has then changed
   * no parameter.
   */
  async step(inputs: HostTensor, targets: HostTensor): Promise<StepResult> {
    checkBatch('step', inputs, targets)
    return this.#turns.run(() => ((this.#options.accumulate ?? 1) === 1 ? this.#step(inputs, targets) : this.#accumulate(inputs, targets)))
  }

  /** The loss and metrics of a batch, in inference mode; no state changes. */
  async evaluate(inputs: HostTensor, targets: HostTensor): Promise<StepResult> {
    checkBatch('evaluate', inputs, targets)
    return this.#turns.run(async () => {
      const program = await this.#program('evaluate', inputs, targets)
      program.check(targets)
      return this.#run(program, [inputs, targets])
    })
  }

  /** The module's output for a batch, in inference mode. */
  async predict(inputs: HostTensor): Promise<HostTensor> {
    checkHostTensor('predict: inputs', inputs)
    return this.#turns.run(async () => {
      const { executable } = await this.#program('predict', inputs)
      const [output] = await executable.run([inputs])
      if (!output) throw new GraphError('predict: the module returned nothing')
      return output
    })
  }

  /** Copies the device's parameters and buffers into the module. */
  sync(): Promise<void> {
    return this.#turns.run(() => this.#sync())
  }

  /** One state from the device: a parameter, a buffer or an optimizer's moment. */
  read(name: string): Promise<HostTensor> {
    return this.#turns.run(() => this.#read(name))
  }

  /** Replaces one state on the device. @example training.write('layer1.routing.temperature', tensor(1)) */
  write(name: string, value: HostTensor): Promise<void> {
    return this.#turns.run(() => {
      this.#alive()
      return this.#store.write(name, value)
    })
  }

  /** Everything that a resumed training needs, by name: parameters, buffers, the optimizer's moments (`optimizer.`...). */
  state(): Promise<Map<string, HostTensor>> {
    return this.#turns.run(() => this.#state())
  }

  /** The same with the counts that belong to it: what `loadState` takes. */
  snapshot(): Promise<Snapshot> {
    return this.#turns.run(async () => ({ state: await this.#state(), steps: this.#steps, pending: this.#pending }))
  }

  /**
   * Takes back what `state` gave, with the count of updates and of batches accumulated since the last one (none: the sums of
   * gradients start anew). Nothing changes unless all fits.
   *
   * @throws ShapeError that lists the first names that do not fit; ValueError for a count that cannot be
   */
  loadState(state: StateDict, steps: number, pending: number = 0): Promise<void> {
    return this.#turns.run(async () => {
      this.#alive()
      const { accumulate = 1 } = this.#options
      if (!Number.isSafeInteger(steps) || steps < 0) throw new ValueError(`loadState: steps must be a non-negative integer, got ${steps}`)
      const most = accumulate === 1 ? 0 : accumulate
      if (!Number.isSafeInteger(pending) || pending < 0 || pending > most) {
        throw new ValueError(`loadState: pending must be an integer from 0 to ${most}${most ? ', accumulate' : ' without accumulation'}, got ${pending}`)
      }
      checkState('loadState', await this.#state(), state, true)
      for (const name of this.#store.names) {
        const value = state.get(name)
        // A part of the module may be named `gradient` too.
        const anew = pending === 0 && this.#slots.has(name) && name.startsWith(GRADIENT)
        if (value) await this.#store.write(name, anew ? zeros(value.shape, value.dtype) : value)
      }
      this.#steps = steps
      this.#pending = pending
      await this.#sync()
    })
  }

  /** What the backend chose, for each program compiled so far. */
  explain(): string {
    return [...this.#programs].map(([key, { choices, executable }]) => [key, choices, executable.explain()].filter(Boolean).join('\n')).join('\n')
  }

  /** Frees programs and state, when what goes on has ended. Twice is harmless. Call `sync` first to keep what was learnt. */
  dispose(): void {
    void this.#turns.end(() => {
      this.#disposed = true
      for (const { executable } of this.#programs.values()) executable.dispose()
      this.#programs.clear()
      this.#store.dispose()
    })
  }

  async #step(inputs: HostTensor, targets: HostTensor): Promise<StepResult> {
    const program = await this.#program('step', inputs, targets)
    program.check(targets)
    const result = await this.#run(program, [inputs, targets, ...this.#hyper()])
    if (!Number.isFinite(result.loss)) throw await this.#notFinite(result.loss)
    this.#checkOverflow(result.metrics)
    this.#steps++
    return result
  }

  async #accumulate(inputs: HostTensor, targets: HostTensor): Promise<StepResult> {
    const { accumulate = 1 } = this.#options
    const program = await this.#program('gradients', inputs, targets)
    program.check(targets)
    if (this.#pending === accumulate) await this.#update()
    // What can fail without the device fails before the batch is in the sums.
    if (this.#pending + 1 === accumulate) {
      this.#hyper()
      await this.#program('update')
    }
    const result = await this.#run(program, [inputs, targets])
    if (!Number.isFinite(result.loss)) throw await this.#notFinite(result.loss)
    this.#pending++
    if (this.#pending < accumulate) return result
    return { loss: result.loss, metrics: { ...result.metrics, ...(await this.#update()) } }
  }

  async #update(): Promise<StepResult['metrics']> {
    const { metrics } = await this.#run(await this.#program('update'), this.#hyper())
    this.#pending = 0
    this.#checkOverflow(metrics)
    this.#steps++
    return metrics
  }

  #checkOverflow({ overflow, lossScale }: StepResult['metrics']): void {
    if (overflow !== 1 || lossScale !== 1) return
    const message = `training: gradients at step ${this.#steps} overflow float16 though the loss is finite and scaled by 1; use compute 'float32', a smaller loss or a lower rate`
    throw new NonFiniteError(message, { step: this.#steps })
  }

  async #read(name: string): Promise<HostTensor> {
    this.#alive()
    return this.#store.read(name)
  }

  async #sync(): Promise<void> {
    for (const [name, part] of [...this.module.namedParameters(), ...this.module.namedBuffers()]) part.data = await this.#read(name)
  }

  async #state(): Promise<Map<string, HostTensor>> {
    this.#alive()
    const result = new Map<string, HostTensor>()
    for (const name of this.#store.names) result.set(name, await this.#store.read(name))
    return result
  }

  #alive(): void {
    if (this.#disposed) throw new DisposedError('training: it was disposed')
  }

  #hyper(): readonly HostTensor[] {
    return Object.values(this.#options.optimizer.hyper(this.#steps)).map((value) => tensor(value))
  }

  async #run(program: Program, inputs: readonly HostTensor[]): Promise<StepResult> {
    const outputs = await program.executable.run(inputs)
    const named = Object.fromEntries(program.outputs.map((name, i) => [name, scalar(outputs[i])]))
    const { loss = Number.NaN, ...metrics } = named
    return { loss, metrics }
  }

  async #program(kind: Kind, inputs?: HostTensor, targets?: HostTensor): Promise<Program> {
    this.#alive()
    // An update is of what the batches so far have gradients of.
    const key = [kind, ...(kind === 'update' ? [this.#summed.size] : []), ...[inputs, targets].flatMap((t) => (t ? [`${t.dtype}[${t.shape.join(',')}]`] : []))].join(' ')
    const ready = this.#programs.get(key)
    if (ready) return ready
    const { backend, loss, memoryBudgetBytes } = this.#options
    const options = {
      ...(memoryBudgetBytes === undefined ? {} : { memoryBudgetBytes }),
      ...(kind === 'step' || kind === 'gradients' ? { guard: 'loss' } : {}),
    }
    let output: Shape = []
    const graph = traceProgram(this.module, this.#options, this.#slots, kind, {
      inputs,
      targets,
      summed: this.#summed,
      onOutput: (shape) => {
        output = shape
      },
    })
    const prepared = prepare(graph, backend, options)
    const executable = await backend.compile(prepared.graph, { state: this.#store, ...options })
    const program = { executable, outputs: prepared.graph.outputs.map((o) => o.name), choices: formatChoices(prepared.choices), check: (given: HostTensor) => loss.check?.(given, output) }
    this.#programs.set(key, program)
    if (kind === 'gradients') {
      for (const { name, update } of graph.states) if (update !== undefined && this.#slots.has(name)) this.#summed.add(name.slice(GRADIENT.length))
    }
    return program
  }

  // The state is the one before the batch: what is not finite in it, an earlier update made so.
  async #notFinite(loss: number): Promise<NonFiniteError> {
    const step = this.#steps
    let largest = { name: '', size: -1 }
    for (const name of this.module.namedParameters().keys()) {
      const size = toFloat64(await this.#store.read(name)).reduce((m, v) => Math.max(m, Math.abs(v)), 0)
      if (!Number.isFinite(size)) {
        const message = `training: the loss is ${loss} at step ${step}; the first parameter that is not finite is '${name}'; lower the rate or clip gradients`
        return new NonFiniteError(message, { step, parameter: name })
      }
      if (size > largest.size) largest = { name, size }
    }
    const { name, size } = largest
    const message = `training: the loss is ${loss} at step ${step}, all parameters are finite (the largest value, ${size.toPrecision(3)}, is in '${name}'); look at this batch's inputs and targets, or lower the rate`
    return new NonFiniteError(message, { step })
  }
}

/**
 * The graph of one training step of `module` (forward, backward, update), for measuring and for looking at: what
 * `trainer` compiles.
 */
export function traceStep(module: Module, options: TrainerOptions, inputs: HostTensor, targets: HostTensor): Graph {
  return traceProgram(module, options, optimizerSlots(module, options), 'step', { inputs, targets })
}

/** What the names of sums of gradients begin with. */
const GRADIENT = 'gradient.'

interface ProgramParts {
  readonly inputs?: HostTensor | undefined
  readonly targets?: HostTensor | undefined
  /** The parameters that an update is of. */
  readonly summed?: ReadonlySet<string>
  /** Learns the shape of the module's output. */
  readonly onOutput?: (shape: Shape) => void
}

function checkBatch(who: string, inputs: HostTensor, targets: HostTensor): void {
  checkHostTensor(`${who}: inputs`, inputs)
  checkHostTensor(`${who}: targets`, targets)
}

function trainable(module: Module): ReadonlyMap<string, Parameter> {
  return new Map([...module.namedParameters()].filter(([, p]) => p.trainable))
}

// `optimizer.<slot>.<parameter>` for each slot, and `gradient.<parameter>` where gradients are accumulated.
function optimizerSlots(module: Module, options: TrainerOptions): ReadonlyMap<string, StateSource> {
  const prefixes = options.optimizer.slots.map((slot) => `optimizer.${slot}`)
  if ((options.accumulate ?? 1) > 1) prefixes.push('gradient')
  const slots = new Map<string, StateSource>()
  for (const prefix of prefixes) {
    for (const [name, p] of trainable(module)) slots.set(`${prefix}.${name}`, { kind: 'optimizer', data: zeros(p.shape, p.data.dtype) })
  }
  if (options.compute === 'float16') for (const [name, slot] of lossScaleSlots(checkLossScale('trainer', options.lossScale))) slots.set(name, slot)
  return slots
}

function traceProgram(
  module: Module,
  options: TrainerOptions,
  slots: ReadonlyMap<string, StateSource>,
  kind: Kind,
  { inputs, targets, summed, onOutput }: ProgramParts,
): Graph {
  const { optimizer, loss: lossOf, clipNorm, accumulate = 1, metrics = classification, compute = 'float32' } = options
  const mixed = compute === 'float16'
  const names = new Map<object, string>([...module.paths(), ...[...slots].map(([name, slot]) => [slot, name] as const)])
  const slot = (name: string): StateSource => {
    const found = slots.get(name)
    if (!found) throw new GraphError(`trainer: there is no state '${name}'; a parameter that is to be trained must be so before trainer() is called`)
    return found
  }

  const applyUpdate = (trained: readonly Trained[], hyper: ReadonlyMap<string, Tensor>): { readonly [name: string]: Tensor } => {
    const scope = currentScope('trainer')
    const finite = mixed ? allFinite(trained.map((t) => t.gradient)) : undefined
    const kept = (value: Tensor, old: Tensor): Tensor => finite?.select(value, old) ?? value
    const context: UpdateContext = {
      hyper: (name) => {
        const t = hyper.get(name)
        if (!t) throw new GraphError(`${optimizer.name}: '${name}' is not one of its scalar inputs: ${[...hyper.keys()].join(', ')}`)
        return t
      },
      read: (name, of) => scope.read(slot(`optimizer.${name}.${of.name}`)),
      write: (name, of, value) => {
        const state = slot(`optimizer.${name}.${of.name}`)
        scope.write(state, finite ? kept(value, scope.read(state)) : value)
      },
    }
    const clipped = clipNorm === undefined || !trained.length ? undefined : clipByGlobalNorm(trained.map((t) => t.gradient), clipNorm)
    trained.forEach((t, i) => {
      const gradient = clipped?.gradients[i] ?? t.gradient
      t.parameter.value = kept(optimizer.update({ ...t, gradient }, context), t.value)
    })
    const norm = clipped ? { gradientNorm: clipped.norm } : {}
    if (!finite) return norm
    const [scaleSlot, ageSlot] = [slot(lossScaleNames.scale), slot(lossScaleNames.age)]
    const scale = scope.read(scaleSlot)
    const next = nextLossScale(scale, scope.read(ageSlot), finite, checkLossScale('trainer', options.lossScale))
    scope.write(scaleSlot, next.scale)
    scope.write(ageSlot, next.age)
    return { ...norm, lossScale: scale, overflow: finite.select(0, 1) }
  }

  // Parameters that the loss does not use are left alone, as PyTorch leaves those without a gradient.
  const differentiate = (loss: Tensor): readonly Trained[] => {
    const scope = currentScope('trainer')
    const { sources } = scope
    const used = [...trainable(module)].filter(([name]) => sources.has(name)).map(([name, parameter]) => ({ name, parameter, value: parameter.value }))
    const scale = mixed ? scope.read(slot(lossScaleNames.scale)) : undefined
    const grads = gradientsOrNone(scale ? loss.mul(scale) : loss, used.map((u) => u.value))
    return used.flatMap((u, i) => {
      const gradient = grads[i]
      return gradient ? [{ ...u, gradient: scale ? gradient.div(scale) : gradient }] : []
    })
  }

  const batch = [inputs, targets].flatMap((t, i) => (t ? [{ name: i === 0 ? 'inputs' : 'targets', shape: t.shape, dtype: t.dtype }] : []))
  const scalars = kind === 'step' || kind === 'update' ? Object.keys(optimizer.hyper(0)) : []
  const specs = [...batch, ...scalars.map((name) => ({ name, shape: [] }))]
  const body = (...tensors: Tensor[]): { readonly [name: string]: Tensor } => {
    const hyper = new Map(scalars.map((name, i) => [name, pick(tensors, batch.length + i)] as const))
    if (kind === 'update') {
      const scope = currentScope('trainer')
      const used = [...trainable(module)].filter(([name]) => summed?.has(name))
      const sums = used.map(([name, parameter]) => ({ name, parameter, value: parameter.value, sum: slot(`${GRADIENT}${name}`) }))
      const trained = sums.map(({ name, parameter, value, sum }) => ({ name, parameter, value, gradient: scope.read(sum) }))
      const result = applyUpdate(trained, hyper)
      for (const { sum, value } of sums) scope.write(sum, value.full(0))
      return result
    }
    const output = module.forward(pick(tensors, 0))
    onOutput?.(output.shape)
    if (kind === 'predict') return { output }
    const target = pick(tensors, 1)
    const loss = lossOf(output, target)
    const seen = { loss, ...metrics(output, target) }
    if (kind === 'evaluate') return seen
    const trained = differentiate(loss)
    if (kind === 'step') return { ...seen, ...applyUpdate(trained, hyper) }
    const scope = currentScope('trainer')
    for (const { name, gradient } of trained) {
      const sum = slot(`${GRADIENT}${name}`)
      scope.write(sum, scope.read(sum).add(gradient.mul(1 / accumulate)))
    }
    return seen
  }
  const mode = kind === 'evaluate' || kind === 'predict' ? 'eval' : 'train'
  const { graph } = inMode(module, mode, () => trace(body, { inputs: specs, names }))
  return mixed ? castPolicy(optimise(graph), { compute }) : graph
}

function checkPrecision({ compute = 'float32', lossScale }: TrainerOptions): void {
  checkChoice('trainer', 'compute', compute, ['float32', 'float16'])
  if (lossScale && compute === 'float32') throw new ValueError("trainer: lossScale needs compute 'float16'")
  checkLossScale('trainer', lossScale)
}

function pick(tensors: readonly Tensor[], i: number): Tensor {
  const t = tensors[i]
  if (!t) throw new GraphError(`trainer: the program has no input ${i}`)
  return t
}

function scalar(t: HostTensor | undefined): number {
  return (t ? toFloat64(t)[0] : undefined) ?? Number.NaN
}
