// A module is a class with fields and `forward`. Fields that are parameters, buffers, modules, or arrays of modules are
// its parts; their names are property paths (`layer1.0.conv1.bases`), so that state dicts of PyTorch map by name.

import { GraphError, ShapeError } from '../backend/errors.ts'
import { copyHostTensor, type HostTensor } from '../tensor/hostTensor.ts'
import { formatShape, sameShape } from '../tensor/shape.ts'
import type { Tensor } from '../tensor/tensor.ts'
import { Buffer, Parameter } from './parameter.ts'

/** The values of a module's parameters and buffers, by name. */
export type StateDict = ReadonlyMap<string, HostTensor>

/** The base of all layers and networks. */
export abstract class Module {
  /** Whether the module is traced for training (batch statistics) or for inference. Set it through `train()` and `eval()`. */
  training: boolean = true

  /** The module applied to tensors of the running trace. */
  abstract forward(...inputs: Tensor[]): Tensor

  /** This module and all below it are traced for training from now on. */
  train(on: boolean = true): this {
    for (const [, module] of this.namedModules()) module.training = on
    return this
  }

  /** This module and all below it are traced for inference from now on. */
  eval(): this {
    return this.train(false)
  }

  /** This module ('') and all below it, by path, parents first. A module that occurs twice keeps its first path. */
  namedModules(): ReadonlyMap<string, Module> {
    return invert(walk(this), (part): part is Module => part instanceof Module)
  }

  /** The parameters, by path, in the order of the fields. A shared one keeps its first path. */
  namedParameters(): ReadonlyMap<string, Parameter> {
    return invert(walk(this), (part): part is Parameter => part instanceof Parameter)
  }

  /** The buffers, by path, in the order of the fields. */
  namedBuffers(): ReadonlyMap<string, Buffer> {
    return invert(walk(this), (part): part is Buffer => part instanceof Buffer)
  }

  /** Every parameter, buffer and module to its path: what `trace` takes as names. */
  paths(): ReadonlyMap<object, string> {
    return walk(this)
  }

  /** A copy of all parameters and buffers, by name (PyTorch's `state_dict`). */
  state(): Map<string, HostTensor> {
    return new Map([...this.namedParameters(), ...this.namedBuffers()].map(([name, part]) => [name, copyHostTensor(part.data)]))
  }

  /**
   * Takes the values of `state` by name. Nothing changes unless all fit.
   *
   * @param options.strict whether every name must be there on both sides (true unless given); PyTorch's `num_batches_tracked`
   * beside running statistics is passed over
   * @throws ShapeError that lists the first names that are missing, unexpected, or of another shape
   */
  loadState(state: StateDict, options: { readonly strict?: boolean } = {}): void {
    const own = new Map<string, Parameter | Buffer>([...this.namedParameters(), ...this.namedBuffers()])
    checkState('loadState', new Map([...own].map(([name, part]) => [name, part.data])), state, options.strict ?? true)
    for (const [name, part] of own) {
      const value = state.get(name)
      if (value) part.data = copyHostTensor(value)
    }
  }
}

/**
 * Throws unless `given` has the names, dtypes and shapes of `expected`.
 *
 * @throws ShapeError that lists the first five differences
 */
export function checkState(who: string, expected: StateDict, given: StateDict, strict: boolean): void {
  const problems: string[] = []
  for (const [name, want] of expected) {
    const got = given.get(name)
    if (!got) {
      if (strict) problems.push(`'${name}' is missing`)
    } else if (got.dtype !== want.dtype || !sameShape(got.shape, want.shape)) {
      problems.push(`'${name}' must be ${want.dtype}${formatShape(want.shape)}, got ${got.dtype}${formatShape(got.shape)}`)
    }
  }
  if (strict) for (const name of given.keys()) if (!expected.has(name) && !isBatchCount(name, expected)) problems.push(`'${name}' is not in this model`)
  if (!problems.length) return
  const more = problems.length > 5 ? `; and ${problems.length - 5} more` : ''
  throw new ShapeError(`${who}: the state does not fit this model: ${problems.slice(0, 5).join('; ')}${more}`)
}

// PyTorch counts the batches of a norm beside its running statistics, for an averaging that is not done here.
function isBatchCount(name: string, expected: StateDict): boolean {
  const [, path] = /^(.*)num_batches_tracked$/.exec(name) ?? []
  return path !== undefined && expected.has(`${path}running_mean`)
}

type Part = Module | Parameter | Buffer

// Depth first over own enumerable fields, in their order; arrays count by index. Insertion order is the order of names.
function walk(root: Module): ReadonlyMap<Part, string> {
  const paths = new Map<Part, string>()
  const visit = (part: unknown, path: string, above: readonly Module[]): void => {
    if (Array.isArray(part)) {
      part.forEach((item, i) => visit(item, join(path, String(i)), above))
    } else if (part instanceof Parameter || part instanceof Buffer) {
      if (!paths.has(part)) paths.set(part, path)
    } else if (part instanceof Module) {
      if (above.includes(part)) throw new GraphError(`module: '${path}' contains itself`)
      if (paths.has(part)) return
      paths.set(part, path)
      for (const [name, field] of Object.entries(part)) visit(field, join(path, name), [...above, part])
    }
  }
  visit(root, '', [])
  return paths
}

function join(path: string, name: string): string {
  return path ? `${path}.${name}` : name
}

function invert<T extends Part>(paths: ReadonlyMap<Part, string>, wanted: (part: Part) => part is T): ReadonlyMap<string, T> {
  const result = new Map<string, T>()
  for (const [part, path] of paths) if (wanted(part)) result.set(path, part)
  return result
}
