// One training run, from its configuration to its folder: what `train` and the quickstart share. It prints nothing; what
// happens is told to a `Progress`.
//
//   <out>/last.safetensors    after each epoch, and where a run was interrupted
//   <out>/best.safetensors    of the epoch with the best test accuracy
//   <out>/metrics.jsonl       every step and every epoch
//
// A resumed run computes what an uninterrupted one would have, bit for bit: order and augmentation depend on (seed, epoch,
// position), the rate on the step, the temperature on the epoch; all else is in the checkpoint.

import { rm } from 'node:fs/promises'
import {
  adamW,
  type Backend,
  type Checkpoint,
  crossEntropy,
  type Module,
  NonFiniteError,
  type Optimizer,
  restoreCheckpoint,
  saveCheckpoint,
  type Schedule,
  sgd,
  temperatureState,
  trainer,
  type Training,
} from '@dynconv/core'
import { type ImageDataset, loader, subset } from '@dynconv/datasets'
import { augmentationOf, type RunConfig, scheduleOf, temperatureOf } from './config.ts'
import { type Data, type DataFacts, factsOf } from './data.ts'
import { RoutingWatch } from './entropy.ts'
import { type Best, bestIn, filesOf } from './folder.ts'
import { type EpochRecord, type History, resumeHistory, startHistory, type StepRecord } from './history.ts'
import { type Interrupt, uninterrupted } from './interrupt.ts'
import { buildNetwork, hasRouting } from './network.ts'

/** Who is told what happens. */
export interface Progress {
  /** Before the first step, with the updates that are done and those to come in all. */
  begin(plan: { readonly steps: number; readonly totalSteps: number; readonly epochs: number }): void
  step(record: StepRecord): void
  epoch(record: EpochRecord): void
  /** After the last step, also after a failure. */
  end(): void
}

/** Nobody. */
export const silent: Progress = { begin: () => undefined, step: () => undefined, epoch: () => undefined, end: () => undefined }

/** What to run. */
export interface RunOptions {
  readonly config: RunConfig
  readonly data: Data
  readonly backend: Backend
  /** The run's folder. */
  readonly out: string
  /** Where to go on from; unless given, the run starts anew, in place of what the folder held. */
  readonly from?: Checkpoint | undefined
  readonly interrupt?: Interrupt
  readonly progress?: Progress
}

/** What came of it. */
export interface RunResult {
  readonly config: RunConfig
  readonly facts: DataFacts
  /** The network as it was last. */
  readonly net: Module
  readonly history: History
  /** Whether it stopped before its end because somebody wanted it to. */
  readonly interrupted: boolean
  /** The checkpoint to go on from. */
  readonly last: string
}

/** Test images are evaluated in batches of at most this many. */
const TEST_BATCH = 250
/** The routings are looked at on this many test images. */
const WATCHED_IMAGES = 250

/**
 * Trains.
 *
 * @throws NonFiniteError when the loss is no number any more, FileError when the folder cannot be written; the last
 * checkpoint stays in both cases
 */
export async function trainRun(options: RunOptions): Promise<RunResult> {
  const { config, data, backend, out, from, interrupt = uninterrupted, progress = silent } = options
  const { train, test } = data
  const facts = factsOf(train)
  const files = filesOf(out)
  const batches = loader(train, { batchSize: config.batch, dropLast: true }).batches
  const schedule = scheduleOf(config, batches)
  const net = buildNetwork(config, facts)
  const clip = config.clip === undefined ? {} : { clipNorm: config.clip }
  const training = await trainer(net, { backend, loss: crossEntropy({ smoothing: config.smoothing }), optimizer: optimizerOf(config, schedule), compute: config.compute, ...clip })
  let watch: RoutingWatch | undefined
  try {
    let best: Best = { epoch: 0, accuracy: -1 }
    let completed = 0
    let history: History
    const save = (path: string): Promise<string> => saveCheckpoint(path, net, training, { epoch: completed, seed: config.seed, extras: { config, data: facts, best } })
    if (from) {
      await restoreCheckpoint(from, net, training)
      completed = from.info.epoch ?? 0
      best = bestIn(from)
      history = await resumeHistory(files.metrics, training.steps, completed)
    } else {
      await rm(`${files.best}.safetensors`, { force: true })
      history = await startHistory(files.metrics)
      await save(files.last)
    }
    const result = async (interrupted: boolean): Promise<RunResult> => {
      await training.sync()
      return { config, facts, net, history, interrupted, last: `${files.last}.safetensors` }
    }
    if (hasRouting(net)) {
      const [first] = loader(subset(test, Math.min(test.count, WATCHED_IMAGES)), { batchSize: WATCHED_IMAGES })
      if (first) watch = await RoutingWatch.create(net, backend, first.images)
    }
    const temperature = temperatureOf(config)
    progress.begin({ steps: training.steps, totalSteps: config.epochs * batches, epochs: config.epochs })
    while (completed < config.epochs) {
      const epoch = completed
      const done = training.steps - epoch * batches
      if (done === 0) for (const [name, value] of temperatureState(net, temperature(epoch))) await training.write(name, value)
      const augment = augmentationOf(config, Math.min(train.height, train.width))
      const epochLoader = loader(train, { batchSize: config.batch, shuffle: config.seed, epoch, dropLast: true, ...(augment ? { augment } : {}) })
      let started = performance.now()
      for (const { images, labels } of epochLoader.from(done)) {
        const lr = schedule(training.steps)
        const { loss, metrics } = await training.step(images, labels)
        const now = performance.now()
        const record: StepRecord = {
          type: 'step',
          epoch: epoch + 1,
          step: training.steps,
          loss,
          correct: metrics['correct'] ?? 0,
          samples: labels.data.length,
          lr,
          seconds: (now - started) / 1000,
        }
        history.add(record)
        progress.step(record)
        if (await interrupt.poll()) {
          await save(files.last)
          return await result(true)
        }
        started = performance.now()
      }
      const evaluation = await evaluateSet(training, test, interrupt)
      if (!evaluation) {
        await save(files.last)
        return await result(true)
      }
      completed++
      const record = epochRecord(history.stepsOf(completed), evaluation, { temperature: temperature(epoch), entropy: (await watch?.look(training)) ?? {} })
      history.add(record)
      if (record.testAccuracy > best.accuracy) {
        best = { epoch: completed, accuracy: record.testAccuracy }
        await save(files.best)
      }
      await save(files.last)
      progress.epoch(record)
      if (completed < config.epochs && (await interrupt.poll())) return await result(true)
    }
    return await result(false)
  } finally {
    progress.end()
    watch?.dispose()
    training.dispose()
  }
}

/** What an evaluation found. */
export interface Evaluation {
  /** The mean over all images. */
  readonly loss: number
  readonly accuracy: number
  readonly images: number
  readonly seconds: number
}

/**
 * The mean loss and the accuracy on a whole set; undefined when interrupted.
 *
 * @throws NonFiniteError when the loss is no number
 */
export async function evaluateSet(training: Training, set: ImageDataset, interrupt: Interrupt = uninterrupted): Promise<Evaluation | undefined> {
  const start = performance.now()
  let loss = 0
  let correct = 0
  for (const { images, labels } of loader(set, { batchSize: testBatchOf(set.count) })) {
    const n = labels.data.length
    const seen = await training.evaluate(images, labels)
    loss += seen.loss * n
    correct += seen.metrics['correct'] ?? 0
    if (await interrupt.poll()) return undefined
  }
  loss /= set.count
  if (!Number.isFinite(loss)) {
    throw new NonFiniteError(`the loss on ${set.name} is ${loss} after step ${training.steps}, though the training's was finite; lower the rate or clip gradients`, { step: training.steps })
  }
  return { loss, accuracy: correct / set.count, images: set.count, seconds: (performance.now() - start) / 1000 }
}

// The largest batch that leaves no remainder, for each size of batch is a program of its own; but no tiny ones.
function testBatchOf(count: number): number {
  for (let size = Math.min(count, TEST_BATCH); size > TEST_BATCH / 4; size--) if (count % size === 0) return size
  return Math.min(count, TEST_BATCH)
}

function epochRecord(steps: readonly StepRecord[], test: Evaluation, routing: Pick<EpochRecord, 'temperature' | 'entropy'>): EpochRecord {
  const samples = sum(steps, (s) => s.samples)
  return {
    type: 'epoch',
    epoch: steps.at(-1)?.epoch ?? 0,
    step: steps.at(-1)?.step ?? 0,
    trainLoss: sum(steps, (s) => s.loss * s.samples) / samples,
    trainAccuracy: sum(steps, (s) => s.correct) / samples,
    testLoss: test.loss,
    testAccuracy: test.accuracy,
    ...routing,
    seconds: sum(steps, (s) => s.seconds),
    testSeconds: test.seconds,
  }
}

function sum<T>(list: readonly T[], of: (item: T) => number): number {
  return list.reduce((total, item) => total + of(item), 0)
}

/** The optimizer of a run. */
export function optimizerOf(config: RunConfig, lr: Schedule): Optimizer {
  const { momentum, weightDecay } = config
  const optimizers: { readonly [O in RunConfig['optimizer']]: () => Optimizer } = {
    sgd: () => sgd({ lr, momentum, weightDecay, nesterov: momentum > 0 }),
    adamw: () => adamW({ lr, weightDecay }),
  }
  return optimizers[config.optimizer]()
}
