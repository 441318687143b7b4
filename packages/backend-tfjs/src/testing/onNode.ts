// A training step through TensorFlow's native library, for other versions of Node than the one that runs the tests: they take
// the types out of the sources themselves. `node onNode.ts tfjs-node-gpu` prints Node's version and what came out.

import { GraphBuilder, ops, tensor } from '@dynconv/core'
import { tfjs } from '../backend.ts'
import { engineNames } from '../load.ts'

const engine = engineNames.find((name) => name === process.argv[2])
if (engine === undefined) throw new Error(`onNode: expected one of ${engineNames.join(', ')}, got ${String(process.argv[2])}`)
const backend = await tfjs({ engine })
const state = await backend.createState([{ name: 'w', kind: 'parameter', data: tensor([1, 2]) }])
const builder = new GraphBuilder(ops)
const x = builder.input('x', 'float32', [2])
const w = builder.readState('w', 'parameter', 'float32', [2])
builder.writeState('w', 'parameter', 'float32', [2], w.sub(x))
builder.output('loss', w.mul(x).sum())
const program = await backend.compile(builder.build(), { state })
const [loss] = await program.run([tensor([3, 4])])
process.stdout.write(`${JSON.stringify({ node: process.version, loss: loss?.data[0], w: Array.from((await state.read('w')).data) })}\n`)
program.dispose()
state.dispose()
await backend.dispose()
