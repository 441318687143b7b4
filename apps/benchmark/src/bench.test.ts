import { expect, test } from 'vitest'
import { bench } from './bench.ts'
import { engineGemmPeak, memoryPeak } from './ceilings.ts'
import { startEngine, startEngines, stopEngines } from '@dynconv/app-kit/engines'
import { ownPeakMemory } from './memory.ts'
import { groupedPeer } from './peers/grouped.ts'
import { tfjsOpsPeer } from './peers/tfjsOps.ts'
import { npmPeersCalled } from './session.ts'
import { allWorkloads, selectWorkloads, type Workload } from './workloads.ts'

const tiny: Workload = { group: 'layers', name: 'tiny', net: { kind: 'chain', channels: 16, kernelSize: 3, depthwise: false, depth: 1 }, size: 6, batch: 2, task: 'infer', bases: [2], everyForm: true }
const step: Workload = { ...tiny, group: 'steps', name: 'tiny step', net: { kind: 'resnet', widths: [8], blocks: [1], stem: 'cifar', classes: 3 }, task: 'train', everyForm: false }
const depthwise: Workload = { ...tiny, name: 'tiny depthwise', net: { kind: 'chain', channels: 16, kernelSize: 3, depthwise: true, depth: 1 }, everyForm: false }
const mobile: Workload = { ...tiny, group: 'models', name: 'tiny MobileNetV2', net: { kind: 'mobilenetV2', width: 0.1, stem: 'cifar', classes: 3 }, size: 8, everyForm: false }

test('a tiny run: two engines of ours and two peers, layers and a step', async () => {
  const engines = await startEngines(['onnx', 'tfjs:cpu'], { threads: 1 })
  const peers = [await groupedPeer('ONNX Runtime grouped', 1), await tfjsOpsPeer('TensorFlow.js operators', 'cpu')]
  try {
    const seen: string[] = []
    const report = await bench({
      engines,
      peers,
      workloads: [tiny, depthwise, mobile, step],
      threads: 1,
      measure: { rounds: 2, warmup: 1, restMs: 0, burstMs: 0 },
      ceilings: false,
      progress: (what) => seen.push(what),
    })
    const names = (workload: Workload): readonly string[] => report.rows.filter((r) => r.workload === workload.name).map((r) => r.name)
    const ours = ['onnx static', 'onnx dynamic K=2 kernels', 'onnx dynamic K=2 outputs', 'onnx dynamic K=2 auto']
    expect(names(tiny)).toEqual([
      ...ours,
      ...ours.map((n) => n.replace('onnx', 'tfjs:cpu')),
      'ONNX Runtime grouped static',
      'ONNX Runtime grouped dynamic K=2',
      'TensorFlow.js operators (cpu) static',
      'TensorFlow.js operators (cpu) dynamic K=2',
    ])
    expect(names(depthwise)).toHaveLength(8)
    expect(names(mobile)).toHaveLength(6)
    expect(names(step)).toEqual(['onnx static', 'onnx dynamic K=2', 'tfjs:cpu static', 'tfjs:cpu dynamic K=2'])
    expect(report.notRun).toEqual([
      'tiny MobileNetV2: TensorFlow.js operators: only chains of layers are written in it',
      'tiny step: ONNX Runtime grouped: an exported model only runs inference',
      'tiny step: TensorFlow.js operators: only chains of layers are written in it',
    ])
    const dynamic = report.rows.find((r) => r.name === 'onnx dynamic K=2 kernels')
    expect(Object.keys(dynamic?.toPeers ?? {})).toEqual(['ONNX Runtime grouped', 'TensorFlow.js operators'])
    expect(dynamic?.toStatic?.against).toBe('onnx static')
    // One 3x3 convolution of two images, the kernels from two bases, and the routing: 16 -> 4 -> 2.
    expect(dynamic?.work?.macs).toBe(2 * 16 * 16 * 9 * 36 + 2 * 2 * 16 * 16 * 9 + 2 * (16 * 4 + 4 * 2))
    expect(report.rows.every((r) => r.medianMs > 0 && r.runs > 0)).toBe(true)
    expect(seen).toContain('tiny step')
  } finally {
    for (const peer of peers) await peer.stop()
    await stopEngines(engines)
  }
})

test('the machine’s ceilings are measured', async () => {
  const engine = await startEngine('onnx', { threads: 1 })
  try {
    expect((await engineGemmPeak(engine, 1)).macsPerSecond).toBeGreaterThan(1e6)
  } finally {
    await engine.backend.dispose()
  }
  expect((await memoryPeak(2 ** 20, 2, 1)).bytesPerSecond).toBeGreaterThan(1e6)
})

test('peak memory is measured in a process of its own', async () => {
  const peak = await ownPeakMemory({ engine: 'onnx', threads: 1, workload: tiny, choice: { numBases: 2, form: 'auto' } }, undefined, ['--import', 'tsx'])
  expect(peak.loadBytes).toBeGreaterThan(1e5)
  expect(peak.runBytes).toBeGreaterThan(1e5)
  await expect(ownPeakMemory({ engine: 'none', threads: 1, workload: tiny, choice: { numBases: 0, form: 'auto' } }, undefined, ['--import', 'tsx'])).rejects.toThrow('--backend must be one of')
})

test('an engine that nobody knows is refused by name', async () => {
  for (const name of ['onx', 'tfjs:onnx', 'constructor']) await expect(startEngine(name, { threads: 1 })).rejects.toThrow(`got '${name}'`)
})

test('peers are known by what reports call them', () => {
  expect(npmPeersCalled(['PyTorch', undefined, 'ONNX Runtime grouped'])).toEqual(['grouped'])
  expect(npmPeersCalled([])).toEqual([])
})

test('work is selected by kind and by name', () => {
  expect(selectWorkloads({})).toEqual(allWorkloads)
  expect(selectWorkloads({ only: ['steps'] }).every((w) => w.task === 'train')).toBe(true)
  expect(selectWorkloads({ filter: 'RESNET-20' }).map((w) => w.name)).toEqual(['step ResNet-20 16-32-64 batch 64'])
})
