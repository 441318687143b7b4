// Runs a model so that its results go straight into memory that is given. onnxruntime-node copies every output into a fresh
// ArrayBuffer, even one that was written where it was wanted: for a training step, whose states are outputs, that can take
// longer than their update does (189 MB of states and one Add each: 118 ms, and 44 without the copies, on two cores of an
// Intel Xeon). It copies when everything has been computed, one output after another in the model's order, and gives up at
// one that is no tensor. So a model gets such an output in front of the others: nothing is copied, and the error is
// expected. The engine is asked once whether it does so; where it does not, its copies are copied once more.

import { GraphError } from '@dynconv/core'
import { bytesOf, ModelBuilder } from './model.ts'
import { elementTypes, encodeModel, type ModelProto } from './proto/onnx.ts'
import type { Engine, OrtTensor, Session, SessionOptions } from './session.ts'

/** Tensors of the engine, by the names of a model's inputs or outputs. */
export type Tensors = Readonly<Record<string, OrtTensor>>

/** A model that is loaded. */
export interface LoadedModel {
  /** Runs it; `results` has a tensor for each output, into whose memory it is written. */
  run(feeds: Tensors, results: Tensors): Promise<void>
  release(): Promise<void>
}

const stopName = 'stop'
const stopItem = 'stop.item'

/** An error takes about 60 us, in which 150 KB are copied twice. */
const fewBytes = 150e3

/** Loads a model whose results, `bytes` together, are to go into given memory. */
export async function loadModel(engine: Engine, model: ModelProto, bytes: number, options: SessionOptions): Promise<LoadedModel> {
  const stop = bytes <= fewBytes ? undefined : await stopMessage(engine)
  if (stop === undefined) return copying(await engine.createSession(encodeModel(model), options))
  return stopping(await engine.createSession(encodeModel(withStop(model)), options), stop)
}

/** A session that gives its results in memory of its own. */
export function copying(session: Session): LoadedModel {
  return {
    run: async (feeds, results) => {
      const fresh = await session.run(feeds)
      for (const [name, result] of Object.entries(results)) bytesIn(result).set(bytesIn(fresh[name]))
    },
    release: () => session.release(),
  }
}

/** A session of a model with a stop, where the engine says `stop` when it meets it. */
function stopping(session: Session, stop: string): LoadedModel {
  return {
    run: async (feeds, results) => {
      try {
        await session.run(feeds, { [stopName]: null, ...results })
      } catch (error) {
        if (String(error) !== stop) throw error
      }
    },
    release: () => session.release(),
  }
}

function withStop(model: ModelProto): ModelProto {
  const { graph } = model
  return {
    ...model,
    graph: {
      ...graph,
      node: [{ opType: 'SequenceConstruct', input: [stopItem], output: [stopName], attribute: [] }, ...graph.node],
      initializer: [...graph.initializer, { name: stopItem, dims: [], dataType: elementTypes.float32, rawData: new Uint8Array(4) }],
      output: [{ name: stopName, type: {} }, ...graph.output],
    },
  }
}

let asked: Promise<string | undefined> | undefined

/** What the engine says where it stops, all results being there; undefined where it does not stop. Asked once a process. */
export function stopMessage(engine: Engine): Promise<string | undefined> {
  asked ??= ask(engine)
  return asked
}

async function ask(engine: Engine): Promise<string | undefined> {
  const model = new ModelBuilder()
  const x = model.input('x', 'float32', [2])
  model.output('y', model.op('Add', [x, x]), 'float32', [2])
  const { Tensor } = engine.ort
  const y = Float32Array.of(0, 0)
  let session: Session | undefined
  try {
    session = await engine.createSession(encodeModel(withStop(model.build({ name: 'probe' }))))
    await session.run({ x: new Tensor('float32', Float32Array.of(1, 2), [2]) }, { [stopName]: null, y: new Tensor('float32', y, [2]) })
    return undefined
  } catch (error) {
    return y[0] === 2 && y[1] === 4 ? String(error) : undefined
  } finally {
    await session?.release()
  }
}

function bytesIn(t: OrtTensor | undefined): Uint8Array {
  if (!t || !ArrayBuffer.isView(t.data)) throw new GraphError('onnx: the engine gave no tensor where one was due')
  return bytesOf(t.data)
}
