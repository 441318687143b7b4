// Which engines and executors the tests of this package run on: those that come from npm, or, where
// DYNCONV_TFJS_NATIVE names a native package, that one with both executors.

import type { TfjsOptions } from '../backend.ts'

/** Something to test. */
export interface TestedEngine {
  readonly title: string
  readonly options: TfjsOptions
}

const native = process.env['DYNCONV_TFJS_NATIVE']

/** In the order in which they are tested. */
export const testedEngines: readonly TestedEngine[] =
  native === 'tfjs-node-gpu' || native === 'tfjs-node'
    ? [
        { title: `${native}, program`, options: { engine: native, executor: 'program' } },
        { title: `${native}, composed`, options: { engine: native, executor: 'composed' } },
      ]
    : [
        { title: 'cpu', options: { engine: 'cpu' } },
        { title: 'wasm', options: { engine: 'wasm' } },
      ]
