import { randn } from '@dynconv/conformance'
import { dynamicConv2d, gradients, tensor, type Tensor, trace } from '@dynconv/core'
import { expect, test } from 'vitest'
import { tfjs } from './backend.ts'
import { loadTf } from './load.ts'
import { testedEngines } from './testing/engines.ts'

test.each([...testedEngines])("$title: the engine's own count of tensors returns to its start, over a thousand runs and a failing one", async ({ options: { engine, executor } }) => {
  const { tf } = await loadTf(engine, { verbose: false })
  const backend = await tfjs({ tf, ...(executor ? { executor } : {}) })
  // The native engine counts its tensors itself, too.
  const count = (): readonly [engine: number, native: number | undefined] => [tf.memory().numTensors, (tf.backend() as { getNumOfTFTensors?: () => number }).getNumOfTFTensors?.()]
  const start = count()
  const step = (x: Tensor, bases: Tensor, pi: Tensor): readonly Tensor[] => {
    const loss = dynamicConv2d(x, bases, pi, { padding: 1 }).relu().square().sum()
    return [loss, ...gradients(loss, [x, bases, pi])].flatMap((t) => t ?? [])
  }
  const inputs = [randn([2, 2, 2, 2]), randn([2, 2, 2, 3, 3], 2), randn([2, 2], 3)]
  const { graph } = trace(step, { inputs: inputs.map(({ dtype, shape }) => ({ dtype, shape })) })
  const program = await backend.compile(graph)
  await program.run(inputs)
  const settled = count()
  for (let i = 0; i < 1000; i++) await program.run(inputs)
  expect(count()).toEqual(settled)
  const picking = await backend.compile(trace((t, i) => t.mul(2).gather(i).mul(3), { inputs: [{ shape: [2] }, { shape: [1], dtype: 'int32' }] }).graph)
  const outside = picking.run([tensor([1, 2]), tensor([7], [1], 'int32')])
  await expect(outside.then(() => 'no error')).rejects.toThrow(/no state was changed/)
  program.dispose()
  picking.dispose()
  await backend.dispose()
  expect(count()).toEqual(start)
})
