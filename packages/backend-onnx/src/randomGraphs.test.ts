import { randomCase } from '@dynconv/conformance'
import { conformanceTests } from '@dynconv/conformance/vitest'
import { onnx } from './backend.ts'

const seeds = Array.from({ length: 100 }, (_, seed) => seed)

conformanceTests({ name: 'onnx', create: () => onnx({ threads: 1 }) }, { modes: ['forward'], cases: seeds.flatMap((seed) => [randomCase(seed), randomCase(seed, 'optimised')]) })
