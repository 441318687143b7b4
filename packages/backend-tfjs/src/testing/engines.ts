// Which engines and executors the tests of this package run on: those that come from npm, or, where
// DYNCONV_TFJS_NATIVE names a native package, that one with both executors.

import type { TfjsOptions } from '../backend.ts'

/** Something to test. */
export interface TestedEngine {
  readonly title: string
  readonly options: TfjsOptions
}

const named = process.env['DYNCONV_TFJS_NATIVE']

/** The native engine to test, where one is named. */
export const nativeEngine: 'tfjs-node-gpu' | 'tfjs-node' | undefined = named === 'tfjs-node-gpu' || named === 'tfjs-node' ? named : undefined

/** In the order in which they are tested. */
export const testedEngines: readonly TestedEngine[] =
  nativeEngine === undefined
    ? [
        { title: 'cpu', options: { engine: 'cpu' } },
        { title: 'wasm', options: { engine: 'wasm' } },
      ]
    : [
        { title: `${nativeEngine}, program`, options: { engine: nativeEngine, executor: 'program' } },
        { title: `${nativeEngine}, composed`, options: { engine: nativeEngine, executor: 'composed' } },
      ]
