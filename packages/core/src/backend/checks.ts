// The checks of what a caller gives to a backend, and the words of their errors: the same for every backend. What a graph may
// hold is not their business (the ops' `infer` has seen to it), only whether what comes with it fits.
//
// `who` is the backend's name; every message begins with it.

import { type Graph, type Node, typeOf } from '../graph/graph.ts'
import { formatType } from '../graph/print.ts'
import type { ValueType } from '../ops/define.ts'
import { checkData, type HostTensor } from '../tensor/hostTensor.ts'
import { formatShape, isStatic, sameShape } from '../tensor/shape.ts'
import type { Backend, DeviceTensor, StateInit, StateStore } from './contract.ts'
import { DTypeError, GraphError, ShapeError, UnsupportedOpError, ValueError } from './errors.ts'
import type { StaticType } from './interpret.ts'

/**
 * Throws unless `given` is of the type `wanted`: `onnx: input 'image' must be float32[8, 3], got [8, 4]`.
 *
 * @param what the beginning of the message: `onnx: input 'image'`
 * @param fits whether the shape will do; equal ones do unless told
 * @throws DTypeError, ShapeError
 */
export function checkType(what: string, wanted: ValueType, given: ValueType, fits: boolean = sameShape(given.shape, wanted.shape)): void {
  const message = `${what} must be ${formatType(wanted)}, got`
  if (given.dtype !== wanted.dtype) throw new DTypeError(`${message} ${given.dtype}`)
  if (!fits) throw new ShapeError(`${message} ${formatShape(given.shape)}`)
}

/** The same for a tensor, whose elements must be what its type says, too. @throws DTypeError, ShapeError */
export function checkTensor(what: string, wanted: ValueType, given: HostTensor): void {
  checkType(what, wanted, given)
  checkData(what, given)
}

/**
 * The inputs of a run of `graph`, each of its type.
 *
 * @param isOwn whether this very instance of the backend made a device tensor
 * @throws ShapeError, DTypeError for another number or another type; GraphError for a device tensor of another backend
 */
export function checkInputs<T extends DeviceTensor>(
  who: string,
  graph: Graph,
  inputs: readonly (HostTensor | DeviceTensor)[],
  isOwn: (tensor: DeviceTensor) => tensor is T,
): readonly (HostTensor | T)[] {
  const ports = graph.inputs
  if (inputs.length !== ports.length) {
    const names = ports.map((port) => `'${port.name}'`).join(', ')
    throw new ShapeError(`${who}: run takes ${ports.length} inputs${names && ` (${names})`}, got ${inputs.length}`)
  }
  return ports.map(({ name, value }, i) => {
    const given = inputs[i]
    const what = `${who}: input '${name}'`
    if (!given) throw new ShapeError(`${what} is missing`)
    checkType(what, typeOf(graph, value), given)
    if ('data' in given) checkData(what, given)
    else if (!isOwn(given)) {
      const whose = given.backend === who ? 'another instance of this backend' : given.backend
      throw new GraphError(`${who}: what came for '${name}' as input ${i} is a tensor of ${whose}; read() it first, or upload() it here`)
    }
    return given
  })
}

/** Throws unless an option, where it is given, is one of those that there are. @throws ValueError */
export function checkChoice(who: string, name: string, given: unknown, choices: readonly string[]): void {
  if (given === undefined || choices.some((choice) => choice === given)) return
  throw new ValueError(`${who}: ${name} must be ${choices.map((choice) => `'${choice}'`).join(' or ')}, got ${JSON.stringify(given)}`)
}

/** Throws unless the sizes of all inputs are known. @throws ShapeError */
export function checkSizes(who: string, graph: Graph): void {
  for (const { name, value } of graph.inputs) {
    const { shape } = typeOf(graph, value)
    if (!isStatic(shape)) throw new ShapeError(`${who}: input '${name}' has unknown sizes, ${formatShape(shape)}; specialise the graph first`)
  }
}

/** Why a backend that needs every size cannot run a node; undefined where all are known. */
export function unknownSizes(node: Node, graph: Graph): { readonly reason: string } | undefined {
  const open = [...node.inputs, ...node.outputs].map((id) => typeOf(graph, id).shape).find((shape) => !isStatic(shape))
  return open && { reason: `the shape ${formatShape(open)} has unknown sizes; specialise the graph first` }
}

/** Throws unless a backend runs every node. @throws UnsupportedOpError */
export function checkSupport(backend: Pick<Backend, 'name' | 'supports'>, graph: Graph): void {
  for (const node of graph.nodes) {
    const supported = backend.supports(node, graph)
    if (supported !== true) throw new UnsupportedOpError({ backend: backend.name, op: node.op, reason: supported.reason })
  }
}

/** A store as a backend keeps it: it knows the types of its states. */
export interface OwnStore extends StateStore {
  /** @throws GraphError for an unknown name; DisposedError */
  type(name: string): StaticType
}

/**
 * The store that the states of `graph` live in, as the backend's own kind, with each state of its type; undefined when the
 * graph has none.
 *
 * @throws GraphError when there is no store, it is another backend's or lacks a state; DTypeError, ShapeError; DisposedError
 */
export function ownState<S extends OwnStore>(who: string, graph: Graph, store: StateStore | undefined, isOwn: (store: StateStore) => store is S): S | undefined {
  const [first] = graph.states
  if (store === undefined) {
    if (first) throw new GraphError(`${who}: the graph reads the state '${first.name}' (of ${graph.states.length}); pass { state } from createState`)
    return undefined
  }
  if (!isOwn(store)) throw new GraphError(`${who}: the state belongs to another backend; make it with this one's createState`)
  for (const s of graph.states) checkType(`${who}: to fit the store, the graph's state '${s.name}'`, store.type(s.name), s)
  return first && store
}

/** Throws unless each state has a name of its own and the elements that its type says. @throws GraphError, ShapeError, DTypeError */
export function checkInitial(who: string, initial: readonly StateInit[]): void {
  const seen = new Set<string>()
  for (const { name, data } of initial) {
    if (seen.has(name)) throw new GraphError(`${who}: createState: the state '${name}' comes twice`)
    seen.add(name)
    checkData(`${who}: createState: state '${name}'`, data)
  }
}

/** What a store has under `name`. @throws GraphError for an unknown name */
export function stateNamed<S>(who: string, states: ReadonlyMap<string, S>, name: string): S {
  const found = states.get(name)
  if (found === undefined) throw new GraphError(`${who}: there is no state '${name}' in this store; it holds ${[...states.keys()].join(', ') || 'none'}`)
  return found
}
