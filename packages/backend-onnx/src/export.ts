// Writes networks as .onnx files that any ONNX engine reads: standard ops only, weights inside under their own names, and
// the batch left open where it was left open. A dynamic convolution then stands in form 'outputs' (an ordinary convolution
// with constant weights and a weighted sum), which needs no known batch.

import { type Graph, GraphError, type HostTensor, type Module, optimise, planDynamicConv, ShapeError, traceModule, typeOf, ValueError } from '@dynconv/core'
import { plainKernels } from './kernels/table.ts'
import { Lowering } from './lowering.ts'
import { ModelBuilder } from './model.ts'

/** What an exported model says of itself. */
export interface ExportInfo {
  /** The graph's name: `network` unless given. */
  readonly name?: string
  /** A description. */
  readonly doc?: string
  /** The version of this library. */
  readonly producerVersion?: string
  /** More facts, by name. */
  readonly metadata?: ReadonlyMap<string, string>
}

/** How to export a module. */
export interface ExportOptions {
  /** The input's shape; null leaves a size open, which is meant for the batch: `[null, 3, 32, 32]`. Image sizes must be numbers where convolutions, pools or means need them. */
  readonly input: readonly (number | null)[]
  /** The names of the classes that the output scores, kept in the file (metadata `classes`, a JSON list). */
  readonly classes?: readonly string[]
  /** A description, kept in the file. */
  readonly doc?: string
}

/**
 * The bytes of an .onnx file with `graph`, its states replaced by `states`.
 *
 * @throws GraphError when a state is missing, or the graph writes one (it was traced for training)
 */
export function exportGraph(graph: Graph, states: ReadonlyMap<string, HostTensor>, info: ExportInfo = {}): Uint8Array {
  const model = new ModelBuilder()
  const lowering = new Lowering({ graph, model, kernels: plainKernels, standard: true })
  for (const { name, value } of graph.inputs) {
    const { dtype, shape } = typeOf(graph, value)
    lowering.bind(value, model.input(name, dtype, shape))
  }
  for (const s of graph.states) {
    const data = states.get(s.name)
    if (s.update !== undefined) throw new GraphError(`exportGraph: the graph writes the state '${s.name}'; trace it for inference`)
    if (!data) throw new GraphError(`exportGraph: the state '${s.name}' was not given`)
    if (data.dtype !== s.dtype || data.shape.join() !== s.shape.join()) {
      throw new ShapeError(`exportGraph: the state '${s.name}' is ${s.dtype}[${s.shape.join(', ')}], got ${data.dtype}[${data.shape.join(', ')}]`)
    }
    lowering.bind(s.value, model.weight(s.name, data))
  }
  // Reserved before the nodes are named, so that outputs have the graph's own names.
  const outputs = graph.outputs.map(({ name, value }) => ({ name: model.reserve(name), value, ...typeOf(graph, value) }))
  lowering.run()
  for (const { name, value, dtype, shape } of outputs) model.output(name, lowering.stored(value), dtype, shape)
  const { name = 'network', ...rest } = info
  return model.encode({ name, ...rest })
}

/**
 * Writes `module`, as it is in inference, to an .onnx file (beside it first, then under its name): input `input`, output
 * `output`, an open batch named `N`.
 *
 * @example await exportOnnx(net, 'net.onnx', { input: [null, 3, 32, 32] })
 * @throws whatever the ops' checks find in the module; FileError when the file cannot be written
 */
export async function exportOnnx(module: Module, file: string, options: ExportOptions): Promise<void> {
  const bytes = moduleToOnnx(module, { ...options, producerVersion: await ownVersion() })
  const { writeFileAtomic } = await import('@dynconv/core/node')
  await writeFileAtomic(file, bytes)
}

/** The bytes that `exportOnnx` writes. */
export function moduleToOnnx(module: Module, options: ExportOptions & { readonly producerVersion?: string }): Uint8Array {
  for (const d of options.input) {
    if (d !== null && (!Number.isInteger(d) || d < 1)) throw new ValueError(`exportOnnx: input [${options.input.join(', ')}]: a size must be a positive integer or null`)
  }
  const shape = options.input.map((d, axis) => d ?? (axis === 0 ? 'N' : `D${axis}`))
  const { graph, sources } = traceModule(module, { inputs: [{ name: 'input', shape }], mode: 'eval' })
  const planned = planDynamicConv(optimise(withOutputNames(graph))).graph
  const states = new Map([...sources].map(([name, source]) => [name, source.data]))
  const { doc, classes, producerVersion } = options
  return exportGraph(planned, states, {
    ...(doc === undefined ? {} : { doc }),
    ...(producerVersion === undefined ? {} : { producerVersion }),
    ...(classes === undefined ? {} : { metadata: new Map([['classes', JSON.stringify(classes)]]) }),
  })
}

// One output is `output`; several are `output0`, `output1`, ..., as they were traced.
function withOutputNames(graph: Graph): Graph {
  return graph.outputs.length === 1 ? { ...graph, outputs: graph.outputs.map((o) => ({ ...o, name: 'output' })) } : graph
}

// package.json stands one folder above this file, in the sources and in the published package.
async function ownVersion(): Promise<string> {
  const { readFile } = await import('node:fs/promises')
  const { version }: { readonly version: string } = JSON.parse(await readFile(new URL('../package.json', import.meta.url), 'utf8'))
  return version
}
