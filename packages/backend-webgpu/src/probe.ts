// Finds out which of a convolution's equal forms (plan/choose.ts) is the fastest on this very adapter, by running each on the
// layer's own sizes. What is found is kept in a map that the caller may save and give again.

import { type Executable, fromNumbers, type Graph, GraphBuilder, ops, type StaticShape, sizeOf, type Tensor } from '@dynconv/core'
import type { ConvShape } from './kernels/convShape.ts'
import type { Algorithm, OpenChoice, Pass } from './plan/choose.ts'

/** Compiles a graph without states, with this algorithm wherever it is possible. */
export type CompileWith = (graph: Graph, algorithm: Algorithm) => Promise<Executable>

const timedRuns = 3

/** The fastest algorithm. One that fails (for want of memory, say) is not it. */
export async function fastest({ pass, shape, algorithms }: OpenChoice, compile: CompileWith): Promise<Algorithm | undefined> {
  const { graph, inputs } = layerGraph(pass, shape)
  const data = inputs.map((s) => fromNumbers('float32', s, new Float64Array(sizeOf(s))))
  const candidates: { readonly algorithm: Algorithm; readonly executable: Executable; seconds: number }[] = []
  try {
    for (const algorithm of algorithms) {
      const executable = await compile(graph, algorithm).catch(() => undefined)
      if (!executable) continue
      candidates.push({ algorithm, executable, seconds: Number.POSITIVE_INFINITY })
      await executable.run(data)
    }
    for (let run = 0; run < timedRuns; run++) {
      for (const candidate of candidates) {
        const start = performance.now()
        await candidate.executable.run(data)
        candidate.seconds = Math.min(candidate.seconds, performance.now() - start)
      }
    }
  } finally {
    for (const { executable } of candidates) executable.dispose()
  }
  return candidates.sort((a, b) => a.seconds - b.seconds)[0]?.algorithm
}

const numBases = 4

// The op alone. One element comes back, so that a run is not the way to the host.
function layerGraph(pass: Pass, shape: ConvShape): { readonly graph: Graph; readonly inputs: readonly StaticShape[] } {
  const { batch, inChannels, outChannels, inSize, outSize, kernelSize, attrs, perSample } = shape
  const kernel = [outChannels, inChannels / attrs.groups, ...kernelSize]
  const shapes = {
    x: [batch, inChannels, ...inSize],
    dy: [batch, outChannels, ...outSize],
    w: perSample ? [numBases, ...kernel] : kernel,
    pi: [batch, numBases],
  }
  const b = new GraphBuilder(ops)
  const names: (keyof typeof shapes)[] = []
  const input = (name: keyof typeof shapes): Tensor => {
    names.push(name)
    return b.input(name, 'float32', shapes[name])
  }
  const dynamic = { ...attrs, form: 'kernels' } as const
  const emitted: { readonly [P in Pass]: () => readonly Tensor[] } = {
    forward: () => (perSample ? b.emit('dynamicConv2d', dynamic, [input('x'), input('w'), input('pi')]) : b.emit('conv2d', attrs, [input('x'), input('w')])),
    inputGrad: () =>
      perSample
        ? b.emit('dynamicConv2dInputGrad', { ...dynamic, inputSize: inSize }, [input('dy'), input('w'), input('pi')])
        : b.emit('conv2dInputGrad', { ...attrs, inputSize: inSize }, [input('dy'), input('w')]),
    filterGrad: () =>
      perSample
        ? b.emit('dynamicConv2dKernelGrad', { ...dynamic, kernelSize, chunk: 0 }, [input('x'), input('dy'), input('w'), input('pi')])
        : b.emit('conv2dFilterGrad', { ...attrs, kernelSize }, [input('x'), input('dy')]),
  }
  for (const [i, result] of emitted[pass]().entries()) b.output(`y${i}`, result.slice(result.shape.map(() => 0), result.shape.map(() => 1)))
  return { graph: b.build(), inputs: names.map((name) => shapes[name]) }
}
