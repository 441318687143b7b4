// Several small kernels as one, of one workgroup: a step for each, with a barrier where one reads what another wrote. What the
// steps bind are parts of few arrays. Where in it a part begins is data, so that the layers of a network share a text.

import { type DType, GraphError } from '@dynconv/core'
import { type Binding, type Items, kernel, type Kernel, type Target } from '../wgsl/kernel.ts'

/** A small kernel of several. */
export interface SmallStep {
  readonly label: string
  readonly items: Items
  /** For each of its bindings the array that it is a part of. */
  readonly arrays: readonly number[]
  /** Whether all steps before must be done. */
  readonly waits: boolean
}

/** What parts are taken of. */
export interface StepArray {
  readonly dtype: DType
  readonly access: NonNullable<Binding['access']>
}

/** The most items of a step: a workgroup that every adapter takes. */
export const maxStepItems = 256

/** Bindings: the arrays, and for each binding of each step the element of its array that it begins with (int32). */
export function stepsKernel(target: Target, steps: readonly SmallStep[], arrays: readonly StepArray[]): Kernel {
  const starts = steps.flatMap((step, s) => step.items.bindings.map((_, b) => `start${s}_${b}`))
  const functions = steps.map(({ items, arrays: taken }, s) => {
    const { bindings, declarations, body } = items
    const places = new Map(bindings.map(({ name }, b) => [name, { array: `array${taken[b]}`, start: `start${s}_${b}` }]))
    const text = `${declarations ? `${declarations}\n` : ''}fn step(item: u32) {\n${body}\n}`
    return relocated(apart(text, s), places)
  })
  const calls = steps.map(({ items: { count }, waits }, s) => `${waits ? '  storageBarrier();\n' : ''}  if (lane < ${count}u) { step${s}(lane); }`)
  const most = Math.max(...steps.map(({ items: { count } }) => count))
  return kernel({
    label: steps.map(({ label }) => label).join(', '),
    target,
    bindings: [...arrays.map(({ dtype, access }, i): Binding => ({ name: `array${i}`, dtype, access })), { name: 'starts', dtype: 'int32' }],
    declarations: [...starts.map((name) => `var<private> ${name}: u32;`), ...functions].join('\n'),
    workgroupSize: Math.ceil(most / 64) * 64,
    groups: [1, 1, 1],
    body: [...starts.map((name, i) => `  ${name} = u32(starts[${i}]);`), ...calls].join('\n'),
  })
}

// A step's functions under names of their own.
function apart(text: string, step: number): string {
  const names = [...text.matchAll(/\bfn (\w+)\(/g)].map(([, name]) => name)
  return text.replace(new RegExp(`\\b(${names.join('|')})\\(`, 'g'), `$1${step}(`)
}

// `name[index]` as the element of an array, for each name.
function relocated(text: string, places: ReadonlyMap<string, { readonly array: string; readonly start: string }>): string {
  const found = new RegExp(`(?<![\\w.])(${[...places.keys()].join('|')})\\b`).exec(text)
  if (!found) return text
  const [name] = found
  const place = places.get(name)
  const open = found.index + name.length
  const close = text[open] === '[' ? closing(text, open) : -1
  if (!place || close < 0) throw new GraphError(`webgpu: a step reads ${name} otherwise than by element`)
  const index = relocated(text.slice(open + 1, close), places)
  return `${text.slice(0, found.index)}${place.array}[${place.start} + u32(${index})]${relocated(text.slice(close + 1), places)}`
}

// Where the bracket at `open` closes.
function closing(text: string, open: number): number {
  let depth = 0
  for (let i = open; i < text.length; i++) {
    if (text[i] === '[') depth += 1
    if (text[i] === ']' && --depth === 0) return i
  }
  return -1
}
