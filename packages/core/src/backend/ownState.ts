// The check that stands before every compilation with state.

import type { Graph } from '../graph/graph.ts'
import type { StateStore } from './contract.ts'
import { GraphError } from './errors.ts'

/**
 * The store that a graph's states live in, as the backend's own kind; undefined when the graph has no states and no store
 * was given.
 *
 * @param who the backend's name, for messages
 * @throws GraphError when the graph reads states and there is no store, or the store is another backend's
 */
export function ownState<S extends StateStore>(who: string, graph: Graph, store: StateStore | undefined, isOwn: (store: StateStore) => store is S): S | undefined {
  if (store === undefined) {
    const [first] = graph.states
    if (first) throw new GraphError(`${who}: the graph reads the state '${first.name}' (of ${graph.states.length}); pass { state } from createState`)
    return undefined
  }
  if (!isOwn(store)) throw new GraphError(`${who}: the state belongs to another backend; make it with this one's createState`)
  return store
}
