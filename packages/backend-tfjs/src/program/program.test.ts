import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { compareRounded, randn, roundedDifference } from '@dynconv/conformance'
import { type Backend, dynamicConv2d, gradients, type Graph, GraphBuilder, MemoryLedger, ops, randomGraph, tensor } from '@dynconv/core'
import { describe, expect, test } from 'vitest'
import { tfjs, TfjsBackend } from '../backend.ts'
import { loadTf } from '../load.ts'
import { families } from '../testing/cases.ts'
import { testedEngines } from '../testing/engines.ts'
import { smallBatch, smallStep, smallTraining } from '../testing/net.ts'
import { buildBundle } from './build.ts'
import type { ProgramChoices } from './executor.node.ts'
import { type Candidates, candidates, type Device, type DynamicLayer, type FormNames, type Forms, tableForms } from './forms.ts'
import type { TfNode } from './graph.ts'
import type { Target } from './lowering.ts'
import { encodeSavedModel } from './proto.ts'

const cpu: Target = { forms: tableForms('cpu') }

function fixed({ forward, inputGrad, kernelGrad }: FormNames, together?: number): Forms {
  const beside = together === undefined ? {} : { together }
  return {
    forward: () => ({ form: { name: forward, ...beside }, why: '' }),
    inputGrad: () => ({ form: { name: inputGrad, ...beside }, why: '' }),
    kernelGrad: () => ({ form: { name: kernelGrad, ...beside }, why: '' }),
  }
}

function layerOf(channels: number, side: number, batch: number, stride: number = 1): DynamicLayer {
  const size = [side, side] as const
  return { batch, numBases: 4, inChannels: channels, outChannels: channels, kernelSize: [3, 3], inputSize: [side * stride, side * stride], outputSize: size, stride: [stride, stride], padding: [1, 1, 1, 1] }
}

type Program = ReturnType<typeof buildBundle>['programs'][number]

function build(graph: Graph, target: Target = cpu): Program {
  const [program] = buildBundle([{ graph }], { losesNaN: false }, target).programs
  if (!program) throw new Error('there is no program')
  return program
}

// The nodes that a step runs.
function needed(program: Program): readonly TfNode[] {
  const found = new Set<TfNode>()
  const visit = (node: TfNode): void => {
    if (found.has(node)) return
    found.add(node)
    for (const { node: input } of node.inputs) visit(input)
    node.after.forEach(visit)
  }
  for (const { value } of program.outputs) visit(value.node)
  visit(program.done.node)
  return [...found]
}

describe('a program', () => {
  test('keeps images NHWC and filters HWIO through a training step: only what comes in is transposed', async () => {
    const nodes = needed(build(await smallStep(false)))
    const transposed = nodes.filter((n) => n.op === 'Transpose' && (n.inputs[0]?.shape.length ?? 0) >= 4)
    expect(transposed.map((n) => n.inputs[0]?.shape)).toEqual([[4, 3, 8, 8]])
    // The last relu's gradient comes from a mean: it repeats one number for all pixels, and a select stretches that by itself.
    const count = (op: string): number => nodes.filter((n) => n.op === op).length
    expect(['Conv2D', 'Conv2DBackpropInput', 'Conv2DBackpropFilter', 'FusedBatchNormV3', 'FusedBatchNormGradV3', 'ReluGrad'].map(count)).toEqual([6, 5, 6, 5, 5, 4])
  })

  test('moves images of a dynamic network only where its forms do', async () => {
    const loops = fixed({ forward: 'loop', inputGrad: 'loop', kernelGrad: 'loop' })
    const nodes = needed(build(await smallStep(true), { forms: loops }))
    const transposed = nodes.filter((n) => n.op === 'Transpose' && (n.inputs[0]?.shape.length ?? 0) >= 4)
    expect(transposed.map((n) => n.inputs[0]?.shape)).toEqual([[4, 3, 8, 8]])
    // The stem, the shortcut, and four samples in four layers.
    expect(nodes.filter((n) => n.op === 'Conv2D').length).toBe(2 + 4 * 4)
  })

  test('leaves images side by side between convolutions in groups', async () => {
    const grouped = fixed({ forward: 'grouped', inputGrad: 'grouped', kernelGrad: 'grouped' }, 2)
    const nodes = needed(build(await smallStep(true), { forms: grouped }))
    const moved = nodes.filter((n) => n.op === 'Transpose' && n.inputs[0]?.shape.length === 5).map((n) => n.inputs[0]?.shape.join(' '))
    // To two side by side: what comes from the stem, its own convolution's result where its norm's gradient takes it, and what
    // the shortcut gives forward and back. Apart: for the stem's gradient, and what the shortcut takes forward and back.
    expect(moved).toEqual(['2 2 8 8 4', '2 2 4 4 8', '2 8 8 2 4', '2 8 8 2 4', '2 2 8 8 4', '2 4 4 2 8', '2 2 8 8 4'])
    const norms = nodes.filter((n) => n.op === 'FusedBatchNormV3' || n.op === 'FusedBatchNormGradV3').map((n) => n.inputs[0]?.shape.join(' '))
    // Only the stem's norm, forward, sees images in their own order.
    expect(norms.filter((shape) => shape === '4 8 8 4')).toHaveLength(1)
    expect(norms).toHaveLength(10)
  })

  test('assigns no variable before every new value is there', async () => {
    const nodes = needed(build(await smallStep(false)))
    const assigned = nodes.filter((n) => n.op === 'AssignVariableOp')
    expect(assigned.length).toBeGreaterThan(20)
    const barriers = new Set(assigned.flatMap((n) => n.after))
    expect([...barriers].map((n) => n.op)).toEqual(['NoOp'])
    const [barrier] = barriers
    expect(assigned.every((n) => barrier?.after.includes(n.inputs[1]?.node as TfNode))).toBe(true)
  })

  test('is written in the order of protobuf fields that TensorFlow reads', () => {
    const bytes = encodeSavedModel([{ name: 'a', op: 'NoOp', input: ['^b'], attr: { T: { type: 1 } } }])
    // SavedModel{1: 1, 2: MetaGraph{1: {4: "serve"}, 2: {1: NodeDef, 4: {1: 1645}}}}
    const text = Buffer.from(bytes).toString('latin1')
    expect(Array.from(bytes.slice(0, 3))).toEqual([8, 1, 18])
    expect(text).toContain('"\u0005serve')
    expect(text).toContain('\n\u0001a\u0012\u0004NoOp\u001a\u0002^b*\u0007\n\u0001T\u0012\u00020\u0001')
  })

  test('has the candidates of its forms from the table, and no form that the layer does not allow', () => {
    const names = (layer: DynamicLayer, device: Device = 'onednn'): readonly string[] => Object.values(candidates(layer, device)).map((forms) => forms.map((f) => f.name).join(' '))
    expect(names(layerOf(16, 32, 64))).toEqual(['grouped loop', 'grouped loop', 'grouped loop rows columns'])
    expect(names(layerOf(64, 56, 8))).toEqual(['loop grouped', 'loop grouped flipped', 'columns rows grouped loop'])
    expect(names(layerOf(128, 16, 64, 2))).toEqual(['loop grouped', 'loop grouped flipped', 'columns grouped loop'])
    expect(names(layerOf(64, 8, 64))).toEqual(['taps columns loop grouped', 'turned columns flipped loop', 'turned columns rows grouped loop'])
    expect(names(layerOf(512, 7, 1))).toEqual(['taps columns loop', 'loop columns', 'columns loop'])
    expect(names({ ...layerOf(16, 32, 4), padding: [3, 1, 1, 1] })[1]).toBe('grouped loop')
    expect(names({ ...layerOf(64, 8, 4), padding: [3, 1, 1, 1] }).slice(1)).toEqual(['columns loop', 'columns rows grouped loop'])
    // TensorFlow's own kernels have no gradients in groups.
    expect(names(layerOf(16, 32, 64), 'cpu')).toEqual(['grouped loop', 'flipped loop', 'loop rows columns'])
    expect(names(layerOf(16, 16, 64, 2), 'cpu')[1]).toBe('flipped loop')
    expect(names(layerOf(64, 56, 8), 'gpu')[0]).toBe('grouped columns')
  })

  test('has as many samples side by side as their channels leave room for', () => {
    const together = (channels: number, batch: number): number | undefined => candidates(layerOf(channels, 32, batch), 'cpu').forward.find((f) => f.name === 'grouped')?.together
    expect([together(16, 64), together(32, 64), together(64, 64), together(16, 12), together(16, 17), together(512, 8)]).toEqual([16, 16, 8, 12, undefined, undefined])
    expect(candidates(layerOf(64, 32, 64), 'gpu').forward[0]?.together).toBe(64)
  })

  test('of random graphs is written without a node that is read before it is made', () => {
    for (let seed = 0; seed < 20; seed++) {
      const { nodes } = buildBundle([{ graph: randomGraph(seed).graph }], { losesNaN: false }, cpu).graph
      const order = new Map(nodes.map((n, i) => [n, i]))
      expect(nodes.every((n, i) => [...n.inputs.map((v) => v.node), ...n.after].every((m) => (order.get(m) ?? Infinity) < i))).toBe(true)
    }
  })
})

const native = testedEngines.filter(({ options }) => options.executor === 'program')

describe.each([...native])('$title', ({ options }) => {
  async function withChoices(choices: ProgramChoices): Promise<Backend> {
    const { tf } = await loadTf(options.engine, { verbose: false })
    const { programExecutor } = await import('./executor.node.ts')
    const ledger = new MemoryLedger()
    return new TfjsBackend(await programExecutor(tf, ledger, choices), ledger, [])
  }

  test.each<FormNames>([
    { forward: 'loop', inputGrad: 'loop', kernelGrad: 'loop' },
    { forward: 'grouped', inputGrad: 'loop', kernelGrad: 'columns' },
    { forward: 'columns', inputGrad: 'loop', kernelGrad: 'columns' },
    { forward: 'grouped', inputGrad: 'grouped', kernelGrad: 'grouped' },
  ])('every dynamic convolution agrees with the oracle in forms $forward, $inputGrad, $kernelGrad', async (forms) => {
    const backend = await withChoices({ forms: fixed(forms) })
    const failures: string[] = []
    for (const c of families['dynamic convolution and its gradients'] ?? []) {
      const found = await roundedDifference(backend, c).catch((error: unknown) => `${c.name}: ${String(error)}`)
      if (found !== undefined) failures.push(found)
    }
    expect(failures).toEqual([])
    await backend.dispose()
  })

  test.each<FormNames>([
    { forward: 'taps', inputGrad: 'columns', kernelGrad: 'rows' },
    { forward: 'grouped', inputGrad: 'flipped', kernelGrad: 'rows' },
    { forward: 'columns', inputGrad: 'turned', kernelGrad: 'turned' },
  ])('those of stride 1 also in forms $forward, $inputGrad, $kernelGrad', async (forms) => {
    const backend = await withChoices({ forms: fixed(forms) })
    const failures: string[] = []
    for (const c of families['dynamic convolution and its gradients'] ?? []) {
      if (!c.name.includes('stride [1, 1]') || c.name.includes('padding [0, 2, 1, 0]')) continue
      const found = await roundedDifference(backend, c).catch((error: unknown) => `${c.name}: ${String(error)}`)
      if (found !== undefined) failures.push(found)
    }
    expect(failures).toEqual([])
    await backend.dispose()
  })

  test.each([
    { stride: [1, 1], inputGrad: 'flipped', kernelGrad: 'rows' },
    { stride: [2, 2], inputGrad: 'flipped', kernelGrad: 'columns' },
    { stride: [2, 1], inputGrad: 'flipped', kernelGrad: 'columns' },
    { stride: [1, 1], inputGrad: 'grouped', kernelGrad: 'grouped' },
    { stride: [2, 2], inputGrad: 'grouped', kernelGrad: 'grouped' },
    { stride: [2, 1], inputGrad: 'grouped', kernelGrad: 'grouped' },
  ] as const)('samples stand side by side in twos as well, with stride $stride in forms $inputGrad, $kernelGrad', async ({ stride, inputGrad, kernelGrad }) => {
    const backend = await withChoices({ forms: fixed({ forward: 'grouped', inputGrad, kernelGrad }, 2) })
    const found = await roundedDifference(backend, {
      name: 'side by side',
      fn: (x, bases, pi) => {
        const y = dynamicConv2d(x, bases, pi, { padding: 1, stride, form: 'kernels' })
        return [y, ...gradients(y.mul(y).sum(), [x, bases, pi])].flatMap((t) => t ?? [])
      },
      inputs: [randn([6, 3, 7, 8], 1), randn([2, 4, 3, 3, 3], 2), randn([6, 2], 3)],
      roundings: 600,
    })
    expect(found).toBeUndefined()
    await backend.dispose()
  })

  test('forms are tried once, those that TensorFlow refuses are passed over, and what was found is kept in a file', async () => {
    const { tf } = await loadTf(options.engine, { verbose: false })
    const { bindingOf } = await import('./binding.node.ts')
    const { probingForms } = await import('./probe.node.ts')
    const folder = mkdtempSync(path.join(tmpdir(), 'dynconv-forms-'))
    const file = path.join(folder, 'cache', 'forms.json')
    const layer = layerOf(8, 6, 4)
    const platform = { binding: bindingOf(tf), quirks: { losesNaN: false }, device: 'cpu', version: '2', file, leastMacs: 0 } as const
    const list: Candidates = { forward: [{ name: 'loop' }, { name: 'columns' }], inputGrad: [{ name: 'loop' }], kernelGrad: [{ name: 'rows' }, { name: 'columns' }] }
    const forms = probingForms({ ...platform, candidates: () => list })
    const first = forms.forward(layer)
    expect(first.why).toMatch(/^ \(tried: (loop|columns) [\d.]+ ms, (loop|columns) [\d.]+ ms\)$/)
    expect(forms.inputGrad(layer)).toEqual({ form: { name: 'loop' }, why: '' })
    // With steps the sizes of `rows` do not fit together.
    expect(forms.kernelGrad(layerOf(8, 3, 4, 2)).form.name).toBe('columns')
    expect(Object.keys(JSON.parse(readFileSync(file, 'utf8')))).toHaveLength(2)
    expect(forms.forward(layer)).toEqual(first)
    const again = probingForms({ ...platform, candidates: () => list })
    expect(again.forward(layer)).toEqual(first)
    writeFileSync(file, '{"damaged":')
    const anew = probingForms({ ...platform, candidates: () => list })
    expect(['loop', 'columns']).toContain(anew.forward(layer).form.name)
    expect(Object.keys(JSON.parse(readFileSync(file, 'utf8')))).toHaveLength(1)
    rmSync(folder, { recursive: true })
  })

  test.each([false, true])('a residual network (dynamic: %s) trains as on the oracle', async (dynamic) => {
    const backend = await tfjs(options)
    const { referenceBackend } = await import('@dynconv/core')
    const [mine, oracle] = [await smallTraining(backend, dynamic), await smallTraining(referenceBackend(), dynamic)]
    for (let step = 0; step < 3; step++) {
      const [a, b] = [await mine.step(...smallBatch(step)), await oracle.step(...smallBatch(step))]
      expect(Math.abs(a.loss - b.loss) / b.loss).toBeLessThan(2e-5)
    }
    mine.dispose()
    oracle.dispose()
    expect(backend.memory()).toMatchObject({ liveTensors: 0, liveBytes: 0 })
    await backend.dispose()
  })

  // Two programs that write one state, and one that reads it, come to be in one session by joining twice.
  test.each([
    { sessions: 'of their own', join: false, asked: 4 },
    { sessions: 'in common', join: true, asked: 2 },
  ])('programs with sessions $sessions that take turns on one state pass it on, and what one leaves behind stays', async ({ join, asked }) => {
    let questions = 0
    const joins = (): boolean => {
      questions++
      return join
    }
    const backend = await withChoices({ joins })
    const state = await backend.createState([
      { name: 'w', kind: 'parameter', data: randn([4, 4, 3, 3]) },
      { name: 'count', kind: 'buffer', data: tensor(0) },
    ])
    const step = (amount: number, write: boolean) => {
      const b = new GraphBuilder(ops)
      const [w, count] = [b.readState('w', 'parameter', 'float32', [4, 4, 3, 3]), b.readState('count', 'buffer', 'float32', [])]
      if (write) {
        b.writeState('count', 'buffer', 'float32', [], count.add(amount))
        b.writeState('w', 'parameter', 'float32', [4, 4, 3, 3], w.add(amount))
      }
      b.output('count', count)
      b.output('sum', w.sum())
      return backend.compile(b.build(), { state })
    }
    const [ten, one, look] = [await step(10, true), await step(1, true), await step(0, false)]
    const start = Number((await look.run([]))[1]?.data[0])
    for (const program of [ten, one, one, ten]) await program.run([])
    const [count, sum] = await look.run([])
    expect(count?.data[0]).toBe(22)
    await ten.run([])
    await ten.run([])
    expect((await look.run([]))[0]?.data[0]).toBe(42)
    expect(questions).toBe(asked)
    expect(compareRounded(sum ?? tensor(0), { shape: [], data: Float64Array.of(start + 22 * 144) }, 200)).toBeUndefined()
    await ten.run([])
    ten.dispose()
    expect((await state.read('count')).data[0]).toBe(52)
    await state.write('count', tensor(5))
    expect((await one.run([]))[0]?.data[0]).toBe(5)
    expect((await look.run([]))[0]?.data[0]).toBe(6)
    for (const thing of [one, look, state]) thing.dispose()
    expect(backend.memory()).toMatchObject({ liveTensors: 0, liveBytes: 0 })
    await backend.dispose()
  })

  test('a run whose guard is not finite changes no state, and another program need not take it over', async () => {
    const backend = await tfjs(options)
    const state = await backend.createState([{ name: 'total', kind: 'buffer', data: tensor([1, 2]) }])
    const b = new GraphBuilder(ops)
    const x = b.input('x', 'float32', [2])
    b.writeState('total', 'buffer', 'float32', [2], b.readState('total', 'buffer', 'float32', [2]).add(x))
    b.output('loss', x.sum())
    const program = await backend.compile(b.build(), { state, guard: 'loss' })
    const totals: number[][] = []
    for (const bad of [1, Number.NaN, Number.POSITIVE_INFINITY, 3]) {
      await program.run([tensor([bad, 1])])
      totals.push(Array.from((await state.read('total')).data))
    }
    expect(totals).toEqual([[2, 3], [2, 3], [2, 3], [5, 4]])
    for (const thing of [program, state]) thing.dispose()
    await backend.dispose()
  })
})
