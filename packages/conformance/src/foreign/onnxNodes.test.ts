import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { referenceBackend, ValueError } from '@dynconv/core'
import protobuf from 'protobufjs/light.js'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { runForeign } from './foreign.node.ts'
import { formatOnnxNodes, onnxNodesPassed, runOnnxNodeCases } from './onnxNodes.node.ts'

// Models written field by field, so that no description of the format is read and written by the same hand.
const field = (number: number, content: string | Uint8Array): Uint8Array => {
  const writer = protobuf.Writer.create().uint32((number << 3) | 2)
  return (typeof content === 'string' ? writer.string(content) : writer.bytes(content)).finish()
}
const int = (number: number, value: number): Uint8Array => protobuf.Writer.create().uint32(number << 3).int64(value).finish()
const bytesOf = (...parts: readonly Uint8Array[]): Uint8Array => Uint8Array.from(parts.flatMap((p) => Array.from(p)))

const [float, int64, double] = [1, 7, 11]

interface Values {
  readonly type: number
  readonly dims: readonly number[]
  readonly data: readonly number[]
}

const floats = (data: readonly number[], dims: readonly number[] = [data.length]): Values => ({ type: float, dims, data })
const longs = (data: readonly number[]): Values => ({ type: int64, dims: [data.length], data })

function tensorBytes({ type, dims, data }: Values): Uint8Array {
  const array = type === float ? Float32Array.from(data) : type === double ? Float64Array.from(data) : BigInt64Array.from(data, BigInt)
  return bytesOf(...dims.map((d) => int(1, d)), int(2, type), field(9, new Uint8Array(array.buffer)))
}

interface Node {
  readonly op: string
  readonly inputs: readonly string[]
  readonly output: string
  readonly ints?: Readonly<Record<string, number>>
}

function modelBytes(nodes: readonly Node[], inputs: readonly Values[], output: Values): Uint8Array {
  const port = (number: number, name: string, { type }: Values): Uint8Array => field(number, bytesOf(field(1, name), field(2, field(1, int(1, type)))))
  const node = ({ op, inputs: from, output: to, ints = {} }: Node): Uint8Array =>
    field(1, bytesOf(...from.map((name) => field(1, name)), field(2, to), field(4, op), ...Object.entries(ints).map(([name, i]) => field(5, bytesOf(field(1, name), int(3, i))))))
  const graph = bytesOf(...nodes.map(node), ...inputs.map((v, i) => port(11, `x${i}`, v)), port(12, 'y', output))
  return bytesOf(field(7, graph), field(8, int(2, 17)))
}

let folder = ''
const write = async (id: string, nodes: readonly Node[], inputs: readonly Values[], output: Values): Promise<void> => {
  const data = join(folder, id, 'test_data_set_0')
  await mkdir(data, { recursive: true })
  await writeFile(join(folder, id, 'model.onnx'), modelBytes(nodes, inputs, output))
  for (const [i, t] of inputs.entries()) await writeFile(join(data, `input_${i}.pb`), tensorBytes(t))
  await writeFile(join(data, 'output_0.pb'), tensorBytes(output))
}
const add: Node = { op: 'Add', inputs: ['x0', 'x1'], output: 'y' }

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'onnx-nodes-'))
  await write('node/add', [add], [floats([1, 2]), floats([3, 4])], floats([4, 6]))
  await write('node/add_one_digit_off', [add], [floats([1, 2]), floats([3, 4])], floats([4, 6.00001]))
  await write('node/add_other_shape', [add], [floats([1, 2]), floats([3, 4])], floats([4, 6], [1, 2]))
  await write('node/add_double', [add], [{ ...floats([1]), type: double }, { ...floats([2]), type: double }], { ...floats([3]), type: double })
  await write('node/erf', [{ op: 'Erf', inputs: ['x0'], output: 'y' }], [floats([0])], floats([0]))
  await write('node/pool_dilation', [{ op: 'ArgMax', inputs: ['x0'], output: 'y', ints: { select_last_index: 1, axis: 0 } }], [floats([1, 1])], longs([1]))
  await write('node/unread_attribute', [{ ...add, ints: { nonsense: 1 } }], [floats([1]), floats([3])], floats([4]))
  const shapeFromData: readonly Node[] = [
    { op: 'Add', inputs: ['x1', 'x2'], output: 'shape' },
    { op: 'Reshape', inputs: ['x0', 'shape'], output: 'y' },
  ]
  await write('other/reshape_computed', shapeFromData, [floats([1, 2, 3, 4]), longs([0, 3]), longs([2, -1])], floats([1, 2, 3, 4], [2, 2]))
  await write('other/cut_off', [add], [floats([1]), floats([3])], floats([4]))
  await writeFile(join(folder, 'other/cut_off/model.onnx'), Uint8Array.of(0x3a, 0x7f, 1))
})
afterAll(() => rm(folder, { recursive: true, force: true }))

test('cases pass, fail, or are out for a reason that is counted', async () => {
  const seen: string[] = []
  const report = await runOnnxNodeCases(folder, [referenceBackend()], { onCase: (done, total, id) => seen.push(`${done}/${total} ${id}`) })
  expect(report.total).toBe(9)
  expect(report.ran).toBe(4)
  expect([...report.suites]).toEqual([
    ['node', { ran: 3, total: 7 }],
    ['other', { ran: 1, total: 2 }],
  ])
  expect(report.onnxOps).toEqual(['Add', 'Reshape'])
  expect(report.out.map(({ kind, what, ids }) => [kind, what, ids])).toEqual([
    ['attribute', 'Add.nonsense', ['node/unread_attribute']],
    ['attribute', 'ArgMax.select_last_index=1', ['node/pool_dilation']],
    ['op', 'Erf', ['node/erf']],
    ['dtype', 'double', ['node/add_double']],
  ])
  expect(report.broken.map(({ id }) => id)).toEqual(['other/cut_off'])
  expect(report.broken[0]?.problems[0]).toMatch(/^FormatError: other\/cut_off\/model.onnx/)
  for (const engine of report.engines) {
    expect(engine.passed).toBe(2)
    expect(engine.failures.map(({ id }) => id)).toEqual(['node/add_one_digit_off', 'node/add_other_shape'])
  }
  expect(report.engines.map(({ name }) => name)).toEqual(['reference', 'reference'])
  expect(onnxNodesPassed(report)).toBe(false)
  expect(seen.at(-1)).toBe('9/9 other/reshape_computed')

  const text = formatOnnxNodes(report)
  expect(text).toMatch(/^ONNX node cases: 4 of 9 are graphs of ours \(2 ops of ONNX, by 2 of ours\)\n {2}node: 3 of 7\n {2}other: 1 of 2\n {2}reference: 2 of 4 pass, 2 FAIL\n/)
  expect(text).toContain('  1 for ops that we do not have\n    1  Erf\n')
  expect(text).toContain('FAILED on reference: node/add_one_digit_off\n  y float32[2]: 1 of 2 elements are off\n')
})

test('a run passes when all that are ours do', async () => {
  const report = await runOnnxNodeCases(join(folder, 'node', 'add'), [])
  expect([report.total, report.ran]).toEqual([1, 1])
  expect(onnxNodesPassed(report)).toBe(true)
  expect(onnxNodesPassed(await runOnnxNodeCases(join(folder, 'node', 'erf'), []))).toBe(false)
})

test('a folder without cases is refused, and a missing one says what to install', async () => {
  await expect(runOnnxNodeCases(join(folder, 'node', 'add', 'test_data_set_0'), [])).rejects.toThrow(ValueError)
  const missing = runForeign({ backends: [], folder: join(folder, 'nowhere'), write: () => undefined })
  await expect(missing).rejects.toThrow(/apt-get install --no-install-recommends libonnx-testdata/)
})
