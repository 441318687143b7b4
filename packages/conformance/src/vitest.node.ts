// The suite as tests of vitest: one for each case and mode.

import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { Started, Target } from './run/outcomes.ts'
import { Plan, type PlanOptions } from './run/plan.ts'
import { attempt } from './run/suite.ts'
import { SupportSurvey } from './run/support.ts'

export type { Target } from './run/outcomes.ts'

/**
 * Defines the tests of a backend. What it declares unsupported is skipped, with the reason.
 *
 * @example conformanceTests({ name: 'mine', create: async () => myBackend() }, { modes: ['forward', 'gradient'] })
 */
export function conformanceTests(target: Target, options: PlanOptions = {}): void {
  describe(`conformance of ${target.name}`, () => {
    let engine: Started | undefined
    beforeAll(async () => {
      const backend = await target.create()
      engine = { target, backend, survey: new SupportSurvey(backend) }
    })
    afterAll(() => engine?.backend.dispose())
    for (const job of new Plan(options, [0]).jobs()) {
      test(`${job.mode} ${job.id}`, async ({ skip }) => {
        const { status, problems } = await attempt(job, engine)
        if (status === 'unsupported') skip(problems.join('; '))
        expect(problems).toEqual([])
      })
    }
  })
}
