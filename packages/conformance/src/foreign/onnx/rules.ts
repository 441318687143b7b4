// The rules of all families: from the ops of ONNX (https://onnx.ai/onnx/operators) to ours. Some are compositions of ours.

import type { Rule } from './node.ts'
import { elementwiseRules } from './rulesElementwise.ts'
import { imageRules } from './rulesImage.ts'
import { reduceRules } from './rulesReduce.ts'
import { shapeRules } from './rulesShape.ts'

/** By the op's name. */
export const rules: Readonly<Record<string, Rule>> = { ...elementwiseRules, ...shapeRules, ...reduceRules, ...imageRules }
