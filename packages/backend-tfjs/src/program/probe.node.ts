// Tries the forms of a dynamic convolution, each in a small program of its own, and keeps which one was the fastest: in this
// process, and in a file in the user's cache for the next ones. Small layers are not tried: there the table of forms.ts is good
// enough, and trying would take longer than it saves.

import { readFileSync } from 'node:fs'
import { cpus } from 'node:os'
import path from 'node:path'
import { fromNumbers } from '@dynconv/core'
import { measurementsFolder, writeFileAtomicSync } from '@dynconv/core/node'
import { nth, product } from '../kernels/shared.ts'
import { type Binding, Session } from './binding.node.ts'
import { emptyFeed } from './build.ts'
import { forwardForms, inputGradForms, kernelGradForms, type KernelParts } from './dynamicForms.ts'
import { type Candidates, candidates, type Choice, type Device, type DynamicLayer, type Form, type FormKind, type FormNames, type Forms } from './forms.ts'
import { attr, TfGraph, type TfNode, type TfValue } from './graph.ts'
import { type ProgramPrimitives, programPrimitives, type ProgramQuirks } from './primitives.ts'

/** What forms are tried on. */
export interface ProbePlatform {
  readonly binding: Binding
  readonly quirks: ProgramQuirks
  readonly device: Device
  /** Of TensorFlow. */
  readonly version: string
  /** What is worth trying; forms.ts unless given. */
  readonly candidates?: (layer: DynamicLayer) => Candidates
  /** Where what was found is kept; undefined: nowhere; the user's cache unless given. */
  readonly file?: string | undefined
  /** Layers of fewer multiply-adds are not tried; 2^24 unless given. */
  readonly leastMacs?: number
}

// What was found with other forms does not count.
const recipe = 4
const rounds = 3
// A form that is not the table's must be that much faster: single layers, one at a time, are not the whole program.
const advantage = 0.92
// What the kernels' gradient in form turned takes of its time alone, when the images' gradient has gathered its columns.
const gathered = 0.75

/** Forms that were tried. */
export function probingForms(platform: ProbePlatform): Forms {
  const { device, version, leastMacs = 2 ** 24 } = platform
  const listed = platform.candidates ?? ((layer) => candidates(layer, device))
  const settings = ['TF_ENABLE_ONEDNN_OPTS', 'TF_NUM_INTRAOP_THREADS', 'NVIDIA_TF32_OVERRIDE'].map((name) => process.env[name] ?? '')
  const machine = [recipe, version, device, cpus()[0]?.model ?? '', cpus().length, ...settings].join(' ')
  const found = new Findings('file' in platform ? platform.file : fileOfFindings())
  const choose =
    <K extends FormKind>(kind: K) =>
    (layer: DynamicLayer): Choice<FormNames[K]> => {
      const forms: readonly Form<FormNames[K]>[] = listed(layer)[kind]
      const first = nth(forms, 0)
      if (forms.length < 2 || macsOf(layer) < leastMacs) return { form: first, why: '' }
      const key = `${machine} ${kind} ${Object.values(layer).join(' ')}`
      const milliseconds = found.get(key) ?? tryAll(platform, kind, layer, forms)
      found.set(key, milliseconds)
      const isGathered = kind === 'kernelGrad' && inputGrad(layer).form.name === 'turned'
      const weighed = (form: Form): number => (milliseconds[form.name] ?? Infinity) * (form === first ? advantage : 1) * (isGathered && form.name === 'turned' ? gathered : 1)
      const tried = forms.filter(({ name }) => milliseconds[name] !== undefined).toSorted((a, b) => weighed(a) - weighed(b))
      const why = ` (tried: ${tried.map(({ name }) => `${name} ${Number(milliseconds[name]).toPrecision(3)} ms`).join(', ')})`
      return { form: tried[0] ?? nth(forms, forms.length - 1), why }
    }
  const inputGrad = choose('inputGrad')
  return { forward: choose('forward'), inputGrad, kernelGrad: choose('kernelGrad') }
}

function fileOfFindings(): string | undefined {
  const folder = measurementsFolder()
  return folder === undefined ? undefined : path.join(folder, 'tfjs-forms.json')
}

function macsOf({ batch, inChannels, outChannels, kernelSize, outputSize }: DynamicLayer): number {
  return batch * inChannels * outChannels * product(kernelSize) * product(outputSize)
}

/** Milliseconds by the name of the form. One that TensorFlow refuses is left out. */
type Times = { readonly [form: string]: number }

// Rounds over all forms, so that a slow moment of the machine slows all of them; the least of a form's times counts. What
// takes twice the best is run no more.
function tryAll(platform: ProbePlatform, kind: FormKind, layer: DynamicLayer, forms: readonly Form[]): Times {
  const running: { readonly name: string; readonly run: () => number; readonly close: () => void; least: number }[] = []
  try {
    for (const form of forms) {
      try {
        const probe = startProbe(platform, kind, layer, form)
        running.push({ name: form.name, ...probe, least: probe.run() })
      } catch {
        // Refused: a gradient in groups without cuDNN, a lack of memory.
      }
    }
    for (let round = 0; round < rounds; round++) {
      const best = Math.min(...running.map((probe) => probe.least))
      for (const probe of running) if (probe.least <= 2 * best) probe.least = Math.min(probe.least, probe.run())
    }
    return Object.fromEntries(running.map(({ name, least }) => [name, least]))
  } finally {
    for (const probe of running) probe.close()
  }
}

// Planned by TensorFlow when it is there.
function startProbe({ binding, quirks }: ProbePlatform, kind: FormKind, layer: DynamicLayer, form: Form): { readonly run: () => number; readonly close: () => void } {
  const graph = new TfGraph()
  const probe = writeProbe(programPrimitives(graph, quirks), kind, layer, form)
  const nothing = graph.placeholder('int32', [])
  const session = new Session(binding, graph.toProto())
  const time = (from: TfValue): number => {
    const start = performance.now()
    session.run([{ to: nothing, value: emptyFeed }], [{ from, dtype: 'float32', shape: [] }])
    return performance.now() - start
  }
  try {
    time(probe.ready)
    time(probe.result)
  } catch (error) {
    session.close()
    throw error
  }
  return { run: () => time(probe.result), close: () => session.close() }
}

// One layer over variables, so that nothing is fed and one number comes back.
function writeProbe(p: ProgramPrimitives, kind: FormKind, layer: DynamicLayer, form: Form): { readonly ready: TfValue; readonly result: TfValue } {
  const { batch, numBases, inChannels, outChannels, kernelSize, inputSize, outputSize } = layer
  const assigned: TfNode[] = []
  const float = attr.type('float32')
  const variable = (shape: readonly number[]): TfValue => {
    const handle = p.graph.one('VarHandleOp', [], { dtype: float, shape: attr.shape(shape), shared_name: attr.string(`probe${assigned.length}`), container: attr.string('') }, 'resource', [])
    const value = p.broadcast(p.constant(fromNumbers('float32', [], [0.01])), [product(shape)])
    assigned.push(p.graph.effect('AssignVariableOp', [handle, p.reshape(value, shape)], { dtype: float }))
    return p.graph.one('ReadVariableOp', [handle], { dtype: float }, 'float32', shape)
  }
  const x = (): TfValue => variable([batch, ...inputSize, inChannels])
  const dy = (): TfValue => variable([batch, ...outputSize, outChannels])
  const size = product(kernelSize) * inChannels * outChannels
  const pi = variable([batch, numBases])
  const bases = (): TfValue => variable([numBases, ...kernelSize, inChannels, outChannels])
  const mix = (): TfValue => p.matmul(pi, p.reshape(bases(), [numBases, size]), false, false)
  // The gradient of the images finds the kernels that the convolution has mixed.
  const parts: KernelParts = { mixed: kind === 'forward' ? mix : () => variable([batch, size]), bases, taps: () => variable([...kernelSize, numBases, inChannels, outChannels]), pi: () => pi }
  // Boundary: the form is one of this kind's, by the candidates' types.
  const y =
    kind === 'forward'
      ? forwardForms[form.name as FormNames['forward']](p, layer, x(), parts, form)
      : kind === 'inputGrad'
        ? inputGradForms[form.name as FormNames['inputGrad']](p, layer, dy(), parts, form)
        : kernelGradForms[form.name as FormNames['kernelGrad']](p, layer, x(), dy(), form)
  const flat = p.reshape(y, [product(y.shape)])
  const result = p.reshape(p.slice(flat, [0], [1]), [])
  const ready = p.graph.one('Identity', [p.constant(fromNumbers('float32', [], [0]))], { T: float }, 'float32', [], assigned)
  return { ready, result }
}

// Times by key, read once and written whenever something is new. A file that is damaged, or cannot be written, costs no more
// than trying again.
class Findings {
  readonly #file: string | undefined
  readonly #times: Map<string, Times>

  constructor(file: string | undefined) {
    this.#file = file
    this.#times = new Map(Object.entries(read(file)))
  }

  get(key: string): Times | undefined {
    return this.#times.get(key)
  }

  set(key: string, times: Times): void {
    if (this.#times.get(key) === times) return
    this.#times.set(key, times)
    if (this.#file === undefined) return
    try {
      // Others may have written since.
      writeFileAtomicSync(this.#file, `${JSON.stringify({ ...read(this.#file), ...Object.fromEntries(this.#times) }, null, 1)}\n`)
    } catch {
      // A read-only home or a full disk: tried again next time.
    }
  }
}

function read(file: string | undefined): { readonly [key: string]: Times } {
  try {
    const parsed: unknown = file === undefined ? {} : JSON.parse(readFileSync(file, 'utf8'))
    const isTimes = (value: unknown): value is Times => typeof value === 'object' && value !== null && Object.values(value).every((ms) => typeof ms === 'number')
    return typeof parsed === 'object' && parsed !== null ? Object.fromEntries(Object.entries(parsed).filter((entry): entry is [string, Times] => isTimes(entry[1]))) : {}
  } catch {
    return {}
  }
}
