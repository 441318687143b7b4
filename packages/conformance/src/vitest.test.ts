import { referenceBackend } from '@dynconv/core'
import { floatTarget } from './testing/floatEngine.ts'
import { conformanceTests } from './vitest.node.ts'

conformanceTests({ name: 'reference', create: () => Promise.resolve(referenceBackend()) }, { filters: ['contract[', 'softmax[x=3x7'] })
conformanceTests(floatTarget('float32 between sentinels'), { filters: ['contract[', 'softmax[x=3x7'] })
