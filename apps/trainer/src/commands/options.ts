// Options that several commands share, in yargs' terms.

import type { Argv } from 'yargs'
import { engineNames } from '@dynconv/app-kit/engines'
import { fieldNames, fields, flag, groups, type RunConfig } from '../config.ts'

interface Described {
  readonly describe: string
  readonly group?: string
  readonly requiresArg?: boolean
}

/** Where and how to run. */
export const engineOptions: {
  readonly backend: Described & { readonly choices: readonly string[]; readonly default: string }
  readonly threads: Described & { readonly type: 'number' }
} = {
  backend: { choices: engineNames, default: 'onnx', describe: 'the engine: ONNX Runtime, TensorFlow.js (its first engine that works, or one of them), WebGPU, or the slow reference', group: 'Engine:' },
  threads: { type: 'number', describe: 'threads of ONNX Runtime [default: all cores]', group: 'Engine:', requiresArg: true },
}

/** What every command takes. */
export const jsonOption: { readonly json: Described & { readonly type: 'string' } } = {
  json: { type: 'string', describe: 'write what was printed to this file, as JSON', requiresArg: true },
}

/**
 * Adds options of a run, all unless `names` says which. Defaults are shown, but not filled in: a resumed run must know what
 * was typed. What came is read with `typed`.
 */
export function withRunOptions<T>(cli: Argv<T>, names: readonly (keyof RunConfig)[] = fieldNames): Argv<T> {
  for (const name of names) {
    const field = fields[name]
    const group = Object.entries(groups).find(([, members]) => members.includes(name))?.[0] ?? ''
    cli.option(option(name), {
      type: field.type,
      describe: field.describe,
      group,
      requiresArg: true,
      ...(field.choices ? { choices: field.choices } : {}),
      ...(field.default === undefined || field.default === '' ? {} : { defaultDescription: String(field.default) }),
    })
  }
  return cli
}

/** The options of a run that were typed, by their names in the configuration. */
export function typed(argv: { readonly [name: string]: unknown }): { readonly [name: string]: unknown } {
  return Object.fromEntries(fieldNames.flatMap((name) => (argv[option(name)] === undefined ? [] : [[name, argv[option(name)]]])))
}

// As yargs knows an option: without its dashes.
function option(name: string): string {
  return flag(name).slice(2)
}
