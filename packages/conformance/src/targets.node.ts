// From what a user names on the command line to a backend: a name that we know, a file, or a package.
//
// The suite depends on no backend, so none is imported here by name: each is looked up from the folder in which the command
// runs, where it and its engine are installed.

import { createRequire } from 'node:module'
import path from 'node:path'
import { pathToFileURL } from 'node:url'
import { type Backend, BackendUnavailableError, type OpName, referenceBackend } from '@dynconv/core'
import type { Target } from './run/outcomes.ts'

interface Known {
  readonly package: string
  /** The exported function that starts it. */
  readonly factory: string
  /** What may follow the name after a colon, with the options that the function is then given. */
  readonly variants?: { readonly [variant: string]: object }
}

/** Backends that are known by a name. A line each. */
const known: { readonly [name: string]: Known } = {
  onnx: { package: '@dynconv/backend-onnx', factory: 'onnx' },
  webgpu: { package: '@dynconv/backend-webgpu', factory: 'webgpu' },
  tfjs: {
    package: '@dynconv/backend-tfjs',
    factory: 'tfjs',
    variants: {
      'tfjs-node-gpu': { engine: 'tfjs-node-gpu' },
      'tfjs-node': { engine: 'tfjs-node' },
      'tfjs-node-gpu-composed': { engine: 'tfjs-node-gpu', executor: 'composed' },
      wasm: { engine: 'wasm' },
      cpu: { engine: 'cpu' },
    },
  },
}

/** What the suite runs on unless told. */
export const defaultTargets: readonly string[] = ['reference', 'onnx']

/**
 * The target that `name` means: `reference`, a known name (`tfjs:wasm`: one of its engines), a file (`./my-backend.js`) or a
 * package; with `#export` behind the latter two for another export than `backend` or `default`. The export is a function that gives a backend (or a promise of
 * one); beside it a module may export `notDeterministic` and `checkGuards` (see Target).
 *
 * @throws BackendUnavailableError when there is no such module, or it exports no such function
 */
export async function targetOf(name: string, folder: string = process.cwd()): Promise<Target> {
  if (name === 'reference') return { name, create: () => Promise.resolve(referenceBackend()) }
  const [base = '', variant] = name.split(':')
  const row = Object.hasOwn(known, base) ? known[base] : undefined
  const options = row && variant !== undefined ? row.variants?.[variant] : undefined
  if (row && variant !== undefined && !options) {
    throw new BackendUnavailableError(`conformance: ${base} has no engine '${variant}'; there are: ${Object.keys(row.variants ?? {}).join(', ') || 'none to choose from'}`)
  }
  const [specifier = '', exported] = row ? [row.package, row.factory] : name.split('#')
  const module = await load(specifier, folder)
  const create = exported === undefined ? (module.backend ?? module.default) : module[exported]
  if (typeof create !== 'function') {
    throw new BackendUnavailableError(`conformance: ${specifier} exports no function ${exported ?? "'backend' or 'default'"} that gives a backend`)
  }
  return {
    name: row ? name : path.basename(specifier).replace(/\.[cm]?[jt]s$/, ''),
    // Boundary: what a module exports is not known before it is loaded; a backend that is none fails its first case.
    create: async () => (await (create as (options?: object) => Backend | Promise<Backend>)(options)) satisfies Backend,
    ...(Array.isArray(module.notDeterministic) ? { notDeterministic: module.notDeterministic as readonly OpName[] } : {}),
    ...(typeof module.checkGuards === 'function' ? { checkGuards: module.checkGuards as NonNullable<Target['checkGuards']> } : {}),
  }
}

async function load(specifier: string, folder: string): Promise<Readonly<Record<string, unknown>>> {
  const isFile = /^\.{0,2}\//.test(specifier) || path.isAbsolute(specifier)
  try {
    const file = isFile ? path.resolve(folder, specifier) : createRequire(path.join(folder, 'package.json')).resolve(specifier)
    return (await import(pathToFileURL(file).href)) as Readonly<Record<string, unknown>>
  } catch (cause) {
    const reason = cause instanceof Error ? (cause.message.split('\n')[0] ?? '') : String(cause)
    const help = isFile ? '' : `; install it in ${folder}`
    throw new BackendUnavailableError(`conformance: the backend ${specifier} does not load: ${reason}${help}`, { cause })
  }
}
