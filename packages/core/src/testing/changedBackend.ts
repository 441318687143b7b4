// A backend whose programs do something else too: to count them, or to let their runs fail. For tests here; not published.

import type { Backend, Executable } from '../backend/contract.ts'

/** `backend`, with what `change` says about each program in the place of that program's own. */
export function changedBackend(backend: Backend, change: (f: Executable) => Partial<Executable>): Backend {
  return {
    name: backend.name,
    capabilities: backend.capabilities,
    supports: (node, graph) => backend.supports(node, graph),
    createState: (initial) => backend.createState(initial),
    compile: async (graph, options) => {
      const f = await backend.compile(graph, options)
      return { graph: f.graph, run: (inputs) => f.run(inputs), explain: () => f.explain(), dispose: () => f.dispose(), ...change(f) }
    },
    upload: (tensor) => backend.upload(tensor),
    memory: () => backend.memory(),
    dispose: () => backend.dispose(),
  }
}
