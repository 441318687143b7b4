// The trace that is going on. A trace is synchronous, so one variable suffices; traces may nest.
// A parameter that is read or assigned inside a trace becomes a state of the trace's graph through here.

import { GraphError } from '../backend/errors.ts'
import type { HostTensor } from '../tensor/hostTensor.ts'
import type { Tensor } from '../tensor/tensor.ts'
import type { GraphBuilder } from './builder.ts'
import type { StateKind } from './graph.ts'

/** Something with a value that lives across runs: a parameter, a buffer, an optimizer's moment. */
export interface StateSource {
  readonly kind: StateKind
  /** The value at the start, on the host. Its dtype and shape never change. */
  data: HostTensor
}

/** A trace: its graph, the names of its states and modules, and what was recorded on the way. */
export class Scope {
  readonly builder: GraphBuilder
  /** Property paths (`layer1.0.conv1.bases`) of parameters and of modules. */
  readonly names: ReadonlyMap<object, string>
  /** The states that the graph uses, by name. */
  readonly sources: Map<string, StateSource> = new Map()
  /** Tensors put aside for inspection (`record`), by name. */
  readonly taps: Map<string, Tensor> = new Map()

  constructor(builder: GraphBuilder, names: ReadonlyMap<object, string>) {
    this.builder = builder
    this.names = names
  }

  read(source: StateSource): Tensor {
    const { dtype, shape } = source.data
    return this.builder.readState(this.#name(source), source.kind, dtype, shape)
  }

  write(source: StateSource, value: Tensor): void {
    const { dtype, shape } = source.data
    this.builder.writeState(this.#name(source), source.kind, dtype, shape, value)
  }

  #name(source: StateSource): string {
    const name = this.names.get(source)
    if (name === undefined) {
      throw new GraphError('trace: a parameter was used that does not belong to the traced module; make it (or its layer) a property of the module')
    }
    const other = this.sources.get(name)
    if (other && other !== source) throw new GraphError(`trace: two parameters share the name '${name}'`)
    this.sources.set(name, source)
    return name
  }
}

let active: Scope | undefined

/** The trace that is going on. @throws GraphError outside one */
export function currentScope(who: string): Scope {
  if (!active) throw new GraphError(`${who}: there is no trace here; call it inside forward() and run the module through compile() or trainer()`)
  return active
}

/** Runs `body` with `scope` as the trace that is going on. */
export function withScope<T>(scope: Scope, body: () => T): T {
  const outer = active
  active = scope
  try {
    return body()
  } finally {
    active = outer
  }
}

/**
 * Puts a tensor of the running trace aside for inspection, under `owner`'s path and `label`. It costs nothing unless the
 * trace was asked for its taps.
 */
export function record(owner: object, label: string, value: Tensor): void {
  const scope = currentScope('record')
  const path = scope.names.get(owner)
  scope.taps.set(path ? `${path}.${label}` : label, value)
}
