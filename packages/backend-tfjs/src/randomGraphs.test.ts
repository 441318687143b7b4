import { randomCase } from '@dynconv/conformance'
import { conformanceTests } from '@dynconv/conformance/vitest'
import { tfjs } from './backend.ts'
import { testedEngines } from './testing/engines.ts'

const cases = Array.from({ length: 40 }, (_, seed) => seed).flatMap((seed) => [randomCase(seed), randomCase(seed, 'optimised')])

for (const { title, options } of testedEngines) conformanceTests({ name: title, create: () => tfjs(options) }, { modes: ['forward'], cases })
