import { evaluate, prepare, randomGraph, toRef } from '@dynconv/core'
import { expect, test } from 'vitest'
import { tfjs } from './backend.ts'
import { compare } from './testing/compare.ts'
import { testedEngines } from './testing/engines.ts'

test.each([...testedEngines])('random graphs agree with the oracle, before and after the passes: $title', async ({ options }) => {
  const backend = await tfjs(options)
  const failures: string[] = []
  for (let seed = 0; seed < 40; seed++) {
    const { graph, inputs, states } = randomGraph(seed)
    const start = new Map(states.map((s) => [s.name, toRef(s.data)]))
    const oracle = evaluate(graph, inputs.map(toRef), start)
    for (const candidate of [graph, prepare(graph, backend).graph]) {
      const state = await backend.createState(states)
      const program = await backend.compile(candidate, { state })
      const outputs = await program.run(inputs)
      const found = outputs.map((t, i) => compare(t, oracle.outputs[i], 500))
      for (const name of state.names) found.push(compare(await state.read(name), oracle.states.get(name) ?? start.get(name), 500))
      failures.push(...found.flatMap((d) => (d === undefined ? [] : [`graph ${seed}: ${d}`])))
      program.dispose()
      state.dispose()
    }
  }
  expect(failures).toEqual([])
  expect(backend.memory()).toMatchObject({ liveTensors: 0, liveBytes: 0 })
  await backend.dispose()
})
