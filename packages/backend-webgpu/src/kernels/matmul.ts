// Matrix products. Without workgroup memory an invocation keeps a tile of rows times vec4 columns in registers. The operands
// may have any layout, so that transposes cost nothing.

import type { DType, StaticShape } from '@dynconv/core'
import { type Finish, itemKernel, type ItemText, type Kernel, loaded, reads, storing, type Target } from '../wgsl/kernel.ts'
import { coordinates, indexOf, type Layout } from '../wgsl/views.ts'
import { tiledGemmKernel } from './tiledGemm.ts'

/** [.., M, K] x [.., K, N], both broadcast to the batch axes of the result. */
export interface Product {
  readonly target: Target
  readonly dtype: DType
  readonly a: Layout
  readonly b: Layout
  /** [.., M, N] */
  readonly shape: StaticShape
  readonly inner: number
}

/** Bindings: a, b, and y (dense) or what `finish` has. */
export function matmulKernel(product: Product, finish: Finish = storing(product.dtype, product.target)): Kernel {
  const { target, shape, inner } = product
  const [rows = 1, columns = 1] = shape.slice(-2)
  const work = shape.reduce((x, y) => x * y, inner)
  return target.kind === 'gpu' && work >= target.tiledMacs && Math.min(rows, columns, inner) >= 8 ? matmulTiledKernel(product, finish) : matmulPlainKernel(product, finish)
}

// In tiles through workgroup memory.
function matmulTiledKernel({ target, dtype, a, b, shape, inner }: Product, finish: Finish): Kernel {
  const batch = shape.slice(0, -2)
  const [rows = 1, columns = 1] = shape.slice(-2)
  const [sam = 0, sak = 0] = a.strides.slice(-2)
  const [sbk = 0, sbn = 0] = b.strides.slice(-2)
  const masked = (array: string, index: string, ok: string): string => `select(0.0, ${loaded(`${array}[select(0, ${index}, ${ok})]`, dtype, target)}, ${ok})`
  const origin = `${coordinates('z', batch, 'z')} let zA = ${indexOf(a.strides.slice(0, -2), a.offset, 'z')}; let zB = ${indexOf(b.strides.slice(0, -2), b.offset, 'z')};`
  return tiledGemmKernel({
    label: `matmul tiled${finish.label}`,
    target,
    dtype,
    bindings: [...reads(dtype, 'a', 'b'), ...finish.bindings],
    declarations: finish.declarations,
    rows,
    columns,
    inner,
    batches: batch.reduce((x, y) => x * y, 1),
    split: 1,
    a: {
      prepare: (m, j) => `${j === 0 ? origin : ''} let okA${j} = ${m} < ${rows}u; let atA${j} = zA + i32(${m}) * ${sam};`,
      load: (j) => masked('a', `atA${j} + i32(k) * ${sak}`, `(inside & okA${j})`),
    },
    b: {
      prepare: (n, j) => `let okB${j} = ${n} < ${columns}u; let atB${j} = zB + i32(${n}) * ${sbn};`,
      load: (j) => masked('b', `atB${j} + i32(k) * ${sbk}`, `(inside & okB${j})`),
    },
    store: finish.store('value', `z * ${rows * columns}u + m * ${columns}u + n`),
  })
}

function matmulPlainKernel(product: Product, finish: Finish): Kernel {
  const { target, b, shape, inner } = product
  const columns = shape.at(-1) ?? 1
  const [sbk = 0, sbn = 0] = b.strides.slice(-2)
  const wide = sbn === 1 && columns % (columns > 4 ? 8 : 4) === 0 && [sbk, b.offset, ...b.strides.slice(0, -2)].every((s) => s % 4 === 0)
  const { declarations } = finish
  return itemKernel({ label: `matmul${finish.label}`, target, declarations, ...plainText(product, finish, wide), iterations: inner, oneByOne: () => plainText(product, finish, false) })
}

// Rows of b are read as vec4s where they are `wide`.
function plainText({ target, dtype, a, b, shape, inner }: Product, finish: Finish, wide: boolean): Pick<ItemText, 'bindings' | 'body' | 'count'> {
  const batch = shape.slice(0, -2)
  const [rows = 1, columns = 1] = shape.slice(-2)
  const [sam = 0, sak = 0] = a.strides.slice(-2)
  const [sbk = 0, sbn = 0] = b.strides.slice(-2)
  const tileRows = Math.min(4, rows)
  const tileColumns = columns > 4 ? 2 : 1
  const [groupRows, groupColumns] = [Math.ceil(rows / tileRows), Math.ceil(columns / (4 * tileColumns))]
  const batches = batch.reduce((x, y) => x * y, 1)
  const each = (f: (i: number, j: number) => string): string[] =>
    Array.from({ length: tileRows }, (_, i) => Array.from({ length: tileColumns }, (_unused, j) => f(i, j))).flat()
  const step = (k: string): string => {
    const loadsA = Array.from({ length: tileRows }, (_, i) => `let a${i} = ${loaded(`a[am${i} + ${k} * ${sak}]`, dtype, target)};`)
    const loadsB = Array.from({ length: tileColumns }, (_, j) => {
      if (wide) return `let b${j} = ${loaded(`b[(bn${j * 4} + ${k} * ${sbk}) / 4]`, dtype, target, 4)};`
      const parts = [0, 1, 2, 3].map((c) => loaded(`b[bn${j * 4 + c} + ${k} * ${sbk}]`, dtype, target))
      return `let b${j} = vec4<f32>(${parts.join(', ')});`
    })
    return `{ ${[...loadsA, ...loadsB, ...each((i, j) => `c${i}_${j} += a${i} * b${j};`)].join(' ')} }`
  }
  const unroll = Math.min(4, Math.max(inner, 1))
  const whole = Math.floor(inner / unroll) * unroll
  const steps = Array.from({ length: unroll }, (_, u) => `    ${step(`(k + ${u})`)}`).join('\n')
  const rest = Array.from({ length: inner - whole }, (_, u) => `  ${step(String(whole + u))}`).join('\n')
  const bases = [
    ...Array.from({ length: tileRows }, (_, i) => `let am${i} = za + min(m0 + ${i}, ${rows - 1}) * ${sam};`),
    ...Array.from({ length: tileColumns * 4 }, (_, j) => (wide && j % 4 ? '' : `let bn${j} = zb + min(n0 + ${j}, ${columns - 1}) * ${sbn};`)).filter((line) => line),
  ]
  const stores = each((i, j) => {
    return [0, 1, 2, 3]
      .map((c) => `if (m0 + ${i} < ${rows} && n0 + ${j * 4 + c} < ${columns}) { ${finish.store(`c${i}_${j}.${'xyzw'[c]}`, `to + ${i * columns + j * 4 + c}u`)} }`)
      .join('\n  ')
  })
  return {
    bindings: [{ name: 'a', dtype }, { name: 'b', dtype, width: wide ? 4 : 1 }, ...finish.bindings],
    count: batches * groupRows * groupColumns,
    body: `  let n0 = i32(item % ${groupColumns}u) * ${4 * tileColumns};
  let m0 = i32((item / ${groupColumns}u) % ${groupRows}u) * ${tileRows};
  let z = item / ${groupColumns * groupRows}u;
  ${coordinates('z', batch, 'z').replaceAll('\n', '\n  ')}
  let za = ${indexOf(a.strides.slice(0, -2), a.offset, 'z')};
  let zb = ${indexOf(b.strides.slice(0, -2), b.offset, 'z')};
  ${bases.join('\n  ')}
  ${each((i, j) => `var c${i}_${j} = vec4<f32>(0.0);`).join(' ')}
${whole > 0 ? `  for (var k = 0; k < ${whole}; k += ${unroll}) {\n${steps}\n  }` : ''}
${rest}
  let to = z * ${rows * columns}u + u32(m0 * ${columns} + n0);
  ${stores.join('\n  ')}`,
  }
}
