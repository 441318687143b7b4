// For tests of the blocked layout: the engine, one thread of it, and a backend over it that surely has the layout,
// with what is cut by threads cut for two.

import { OnnxBackend } from '../backend.ts'
import { layoutsOf } from '../layout/layouts.ts'
import type { Nchwc } from '../layout/nchwc.ts'
import { probeNchwc } from '../layout/probe.ts'
import { type Engine, loadEngine } from '../session.ts'

/** What such a test works with; who starts it disposes of the backend. */
export interface Blocked {
  readonly engine: Engine
  readonly nchwc: Nchwc
  readonly backend: OnnxBackend
}

/** Starts it. @throws Error where the engine has no blocked layout: the tests would check nothing */
export async function startBlocked(): Promise<Blocked> {
  const engine = await loadEngine(1)
  const nchwc = await probeNchwc(engine)
  if (!nchwc) throw new Error('this engine has no blocked layout; these tests need one')
  return { engine, nchwc, backend: new OnnxBackend(engine, layoutsOf(nchwc, 2), {}) }
}
