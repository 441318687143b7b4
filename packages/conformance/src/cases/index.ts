// The one list of cases.

import { convCases } from './conv.ts'
import type { Case } from './define.ts'
import { dynamicCases } from './dynamic.ts'
import { elementwiseCases } from './elementwise.ts'
import { imageCases } from './images.ts'
import { moduleCases } from './networks.ts'
import { randomCases } from './random.ts'
import { reduceCases } from './reduce.ts'
import { shapeCases } from './shape.ts'

/** Everything that an engine must compute: ops in the order of the op set, then layers, networks, training, random graphs. */
export function allCases(): readonly Case[] {
  return [
    ...elementwiseCases(),
    ...shapeCases(),
    ...reduceCases(),
    ...convCases(),
    ...imageCases(),
    ...dynamicCases(),
    ...moduleCases(),
    ...randomCases(),
  ]
}
