// The workloads on our own engines.

import { type Backend, compile, type DynamicConvForm, type HostTensor, type Module, trainer } from '@dynconv/core'
import { dynamic, ordinary } from '@dynconv/models'
import type { RunningEngine } from '@dynconv/app-kit/engines'
import { randomImages, randomLabels } from './images.ts'
import { timed, type Variant, type VariantInfo } from './measure.ts'
import { keptNetwork } from './networks.ts'
import { inferenceWork, stepOptions, stepWork, type Work } from './work.ts'
import { classesOf, inputShape, type Workload } from './workloads.ts'

/** A variant that holds an engine's memory until it is disposed. */
export interface OwnVariant extends Variant {
  /** Seconds from a built network to its first result: tracing, planning, compiling, and the first run. */
  readonly firstRunSeconds: number
  readonly work: Work
  readonly explain: () => string
  readonly dispose: () => void
}

/** What of a workload runs. */
export interface Choice {
  /** K, or 0 for ordinary convolutions. */
  readonly numBases: number
  readonly form: DynamicConvForm
}

/** The variants that a workload asks for. */
export function choicesOf({ bases, everyForm }: Pick<Workload, 'bases' | 'everyForm'>): readonly Choice[] {
  const forms: readonly DynamicConvForm[] = everyForm ? ['kernels', 'outputs', 'auto'] : ['auto']
  return [{ numBases: 0, form: 'auto' as const }, ...bases.flatMap((numBases) => forms.map((form) => ({ numBases, form })))]
}

/** How a variant is called. */
export function ownInfo(library: string, { everyForm }: Pick<Workload, 'everyForm'>, { numBases, form }: Choice): VariantInfo {
  const name = [library, numBases ? `dynamic K=${numBases}` : 'static', ...(everyForm && numBases ? [form] : [])].join(' ')
  return { name, library, vendor: 'dynconv', numBases }
}

/** A network of a workload, its convolutions as `choice` says. */
export function ownNetwork({ net }: Pick<Workload, 'net'>, { numBases, form }: Choice): Module {
  return keptNetwork(net, numBases ? `${numBases} ${form}` : 'static', () => (numBases ? dynamic({ numBases, form }) : ordinary))
}

/** A workload on an engine, in one variant. */
export async function ownVariant({ name, backend }: RunningEngine, workload: Workload, choice: Choice): Promise<OwnVariant> {
  const net = ownNetwork(workload, choice)
  const images = randomImages(inputShape(workload))
  const work = (workload.task === 'infer' ? inferenceWork : stepWork)(net, images, backend)
  const start = performance.now()
  const program = await ownProgram(net, workload, images, backend)
  try {
    await program.work()
  } catch (error) {
    program.dispose()
    throw error
  }
  const firstRunSeconds = (performance.now() - start) / 1e3
  return { ...ownInfo(name, workload, choice), firstRunSeconds, work, run: (times) => timed(times, program.work), explain: program.explain, dispose: program.dispose }
}

/** Compiled work. */
export interface Program {
  readonly work: () => Promise<unknown>
  readonly explain: () => string
  readonly dispose: () => void
}

/** A network's inference or training step on a backend. */
export async function ownProgram(net: Module, workload: Workload, images: HostTensor, backend: Backend): Promise<Program> {
  if (workload.task === 'infer') {
    const compiled = await compile(net, { backend, inputs: [{ shape: images.shape }] })
    return { work: () => compiled.run([images]), explain: () => compiled.explain(), dispose: () => compiled.dispose() }
  }
  const training = await trainer(net, { backend, ...stepOptions() })
  const labels = randomLabels(workload.batch, classesOf(workload))
  return { work: () => training.step(images, labels), explain: () => training.explain(), dispose: () => training.dispose() }
}
