// What a training run is, as plain data: the options of the command line with their defaults and their checks, and what
// follows from them (the rate at a step, the temperature of an epoch, the augmentation). Every checkpoint carries it.

import { anneal, cosine, type Schedule, stepDecay, ValueError, warmup } from '@dynconv/core'
import type { Augmentation } from '@dynconv/datasets'

/** The values that some options choose from. */
export const choices = {
  dataset: ['fashion-mnist', 'fashion-small', 'cifar10', 'cifar100', 'folder'],
  model: ['resnet8', 'resnet14', 'resnet20', 'resnet18', 'mobilenetv2'],
  optimizer: ['sgd', 'adamw'],
  schedule: ['cosine', 'step', 'constant'],
  compute: ['float32', 'float16'],
} as const

/** Which data set. */
export type DatasetName = (typeof choices.dataset)[number]
/** Which network. */
export type ModelName = (typeof choices.model)[number]

/** Everything that decides what a run computes. Undefined: not limited, or the model's own. */
export interface RunConfig {
  readonly dataset: DatasetName
  readonly data: string | undefined
  readonly size: number
  readonly trainSamples: number | undefined
  readonly testSamples: number | undefined
  readonly model: ModelName
  readonly bases: number
  readonly width: number | undefined
  readonly epochs: number
  readonly batch: number
  readonly optimizer: (typeof choices.optimizer)[number]
  readonly lr: number
  readonly schedule: (typeof choices.schedule)[number]
  readonly warmup: number
  readonly milestones: string
  readonly momentum: number
  readonly weightDecay: number
  readonly smoothing: number
  readonly clip: number | undefined
  readonly compute: (typeof choices.compute)[number]
  readonly temperature: string
  readonly augment: string
  readonly seed: number
}

/** One option: what the help says, its default, and its check, which returns the value or throws. */
export interface Field<T> {
  readonly type: 'number' | 'string'
  readonly describe: string
  readonly choices?: readonly string[]
  readonly default: T
  /** `name` is the option as typed: `--batch`. */
  check(name: string, value: unknown): T
}

function choice<const T extends string>(describe: string, allowed: readonly T[], value: T): Field<T> {
  return {
    type: 'string',
    describe,
    choices: allowed,
    default: value,
    check: (name, given) => allowed.find((a) => a === given) ?? refuse(name, `one of ${allowed.join(', ')}`, given),
  }
}

interface Range {
  readonly integer?: boolean
  readonly least?: number
  readonly above?: number
  readonly below?: number
}

function number<T extends number | undefined>(describe: string, value: T, range: Range): Field<number | T> {
  const { integer = false, least = Number.NEGATIVE_INFINITY, above = Number.NEGATIVE_INFINITY, below = Number.POSITIVE_INFINITY } = range
  const limits = [least > Number.NEGATIVE_INFINITY ? `of at least ${least}` : '', above > Number.NEGATIVE_INFINITY ? `above ${above}` : '', below < Number.POSITIVE_INFINITY ? `below ${below}` : '']
  const expected = [integer ? 'an integer' : 'a number', limits.filter(Boolean).join(' and ')].filter(Boolean).join(' ')
  return {
    type: 'number',
    describe,
    default: value,
    check: (name, given) => {
      if (given === undefined && value === undefined) return value
      const good = typeof given === 'number' && Number.isFinite(given) && given >= least && given > above && given < below && (!integer || Number.isSafeInteger(given))
      return good ? given : refuse(name, expected, given)
    },
  }
}

function text<T extends string | undefined>(describe: string, value: T, parse: (text: string) => unknown = () => undefined): Field<string | T> {
  return {
    type: 'string',
    describe,
    default: value,
    check: (name, given) => {
      if (given === undefined && value === undefined) return value
      if (typeof given !== 'string') return refuse(name, 'a text', given)
      try {
        parse(given)
      } catch (error) {
        throw new ValueError(`${name}: ${error instanceof Error ? error.message : String(error)}`, { cause: error })
      }
      return given
    },
  }
}

function refuse(name: string, expected: string, given: unknown): never {
  throw new ValueError(`${name} must be ${expected}, got ${given === undefined ? 'nothing' : typeof given === 'number' ? given : JSON.stringify(given)}`)
}

/** Which part of the help an option stands in. */
export const groups: { readonly [title: string]: readonly (keyof RunConfig)[] } = {
  'Data:': ['dataset', 'data', 'size', 'trainSamples', 'testSamples', 'augment'],
  'Network:': ['model', 'bases', 'width', 'temperature'],
  'Training:': ['epochs', 'batch', 'optimizer', 'lr', 'schedule', 'warmup', 'milestones', 'momentum', 'weightDecay', 'smoothing', 'clip', 'compute', 'seed'],
}

/** All options of a run. */
export const fields: { readonly [K in keyof RunConfig]: Field<RunConfig[K]> } = {
  dataset: choice('the images; fashion-small comes with the package (6,000 of the 60,000), folder takes --data', choices.dataset, 'fashion-mnist'),
  data: text('folder with the data set’s files; for --dataset folder: with train/<class>/ and test/<class>/', undefined),
  size: number('side that the images of --dataset folder are brought to, in pixels', 32, { integer: true, least: 4 }),
  trainSamples: number('train with this many images only, equally many per class', undefined, { integer: true, least: 1 }),
  testSamples: number('test with this many images only, equally many per class', undefined, { integer: true, least: 1 }),
  augment: text('crop, flip, both (crop,flip), or none', 'crop,flip', parseAugment),
  model: choice('the network', choices.model, 'resnet8'),
  bases: number('K, basis kernels of each dynamic convolution; 1: ordinary convolutions', 4, { integer: true, least: 1 }),
  width: number('channels of the first convolution; the others follow in proportion', undefined, { integer: true, least: 1 }),
  temperature: text('of the routing: a number, or start:end:epochs', '1', parseTemperature),
  epochs: number('passes over the training images', 10, { integer: true, least: 1 }),
  batch: number('images in a step', 128, { integer: true, least: 1 }),
  optimizer: choice('how gradients become updates', choices.optimizer, 'sgd'),
  lr: number('the rate at its peak', 0.1, { least: 0 }),
  schedule: choice('how the rate falls', choices.schedule, 'cosine'),
  warmup: number('epochs over which the rate rises from 0 (fractions allowed)', 0.5, { least: 0 }),
  milestones: text('epochs after which --schedule step divides the rate by 10, as 30,45; half and three quarters of all unless given', '', parseMilestones),
  momentum: number('of sgd', 0.9, { least: 0, below: 1 }),
  weightDecay: number('decay of the parameters', 5e-4, { least: 0 }),
  smoothing: number('label smoothing', 0, { least: 0, below: 1 }),
  clip: number('scale gradients down to this global norm', undefined, { above: 0 }),
  compute: choice('precision of convolutions and products; float16: mixed precision, with a loss scale that finds itself', choices.compute, 'float32'),
  seed: number('decides initial values, order and augmentation', 1, { integer: true, least: 0 }),
}

/** The names of all options of a run. */
export const fieldNames: readonly (keyof RunConfig)[] = Object.values(groups).flat()

/** `trainSamples` -> `--train-samples` */
export function flag(name: string): string {
  return `--${name.replace(/[A-Z]/g, (c) => `-${c.toLowerCase()}`)}`
}

/**
 * A run's configuration from values by name; what is undefined takes its default.
 *
 * @throws ValueError that names the option, what was expected and what came
 */
export function checkConfig(values: { readonly [name: string]: unknown }): RunConfig {
  const config = Object.fromEntries(fieldNames.map((name) => [name, fields[name].check(flag(name), values[name] ?? fields[name].default)]))
  if (config['dataset'] === 'folder' && config['data'] === undefined) throw new ValueError('--dataset folder needs --data: a folder with train/<class>/ and test/<class>/')
  // Every entry was made by its own field's check, which the table ties to RunConfig.
  return config as unknown as RunConfig
}

/** Options that a resumed run may change: how long it goes on, and where its data are. */
export const changeable: readonly (keyof RunConfig)[] = ['epochs', 'data']

/** The rate at each step, of a run with `stepsPerEpoch` steps in an epoch. */
export function scheduleOf(config: RunConfig, stepsPerEpoch: number): Schedule {
  const { lr: peak, epochs } = config
  const total = epochs * stepsPerEpoch
  const rise = Math.min(total - 1, Math.round(config.warmup * stepsPerEpoch))
  const milestones = config.milestones ? parseMilestones(config.milestones) : [epochs / 2, (epochs * 3) / 4]
  const falls: { readonly [S in RunConfig['schedule']]: () => Schedule } = {
    cosine: () => cosine({ peak, steps: total - rise }),
    // The milestones count from the start of the run, the schedule from the end of the rise.
    step: () => stepDecay({ peak, milestones: milestones.map((m) => Math.round(m * stepsPerEpoch) - rise) }),
    constant: () => () => peak,
  }
  const fall = falls[config.schedule]()
  return rise > 0 ? warmup({ steps: rise, schedule: fall }) : fall
}

/** The temperature in each epoch, counted from 0. */
export function temperatureOf(config: RunConfig): (epoch: number) => number {
  return parseTemperature(config.temperature)
}

/** The augmentation, for images of `side` pixels; undefined for none. */
export function augmentationOf(config: RunConfig, side: number): Augmentation | undefined {
  const { crop, flip } = parseAugment(config.augment)
  if (!crop && !flip) return undefined
  // 4 pixels for 32 (He et al. 2016, sec. 4.2), in proportion for other sizes.
  return { ...(crop ? { crop: { padding: Math.max(1, Math.round(side / 8)) } } : {}), flip, seed: config.seed }
}

function parseTemperature(given: string): (epoch: number) => number {
  const parts = given.split(':')
  const numbers = parts.map((part) => (part.trim() === '' ? Number.NaN : Number(part)))
  const [start = Number.NaN, end = start, over = 0] = numbers
  if ((parts.length !== 1 && parts.length !== 3) || !numbers.every((n) => Number.isFinite(n) && n > 0)) {
    throw new ValueError(`expected a positive number or start:end:epochs (30:1:10), got '${given}'`)
  }
  return anneal(start, end, over)
}

function parseMilestones(given: string): readonly number[] {
  const milestones = given === '' ? [] : given.split(',').map((part) => (part.trim() === '' ? Number.NaN : Number(part)))
  if (!milestones.every((m) => Number.isFinite(m) && m > 0)) throw new ValueError(`expected positive numbers separated by commas (30,45), got '${given}'`)
  return milestones
}

function parseAugment(given: string): { readonly crop: boolean; readonly flip: boolean } {
  const parts = given.split(',').map((part) => part.trim())
  const good = given === 'none' || (parts.every((p) => p === 'crop' || p === 'flip') && new Set(parts).size === parts.length)
  if (!good) throw new ValueError(`expected crop, flip, crop,flip or none, got '${given}'`)
  return { crop: parts.includes('crop'), flip: parts.includes('flip') }
}
