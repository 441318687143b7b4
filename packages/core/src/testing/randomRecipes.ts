// What random graphs are made of: each recipe takes values from the pool and adds a few nodes (at most nine). It gives
// nothing back where the pool holds nothing fit. Not for use by itself: see randomGraph.ts.

import { concat } from '../ops/shape.ts'
import { sameShape } from '../tensor/shape.ts'
import { convolution, dynamic, normalise, resample } from './randomImageRecipes.ts'
import { any, freeAxes, type Item, type Kitchen, known, moved, on, pick, type Recipe, rounded } from './randomKitchen.ts'

// Another operand for `item`: of its own shape, a vector along its last axis, or a number.
function partner(k: Kitchen, item: Item): Item | undefined {
  const twin = pick(k, (other) => sameShape(other.t.shape, item.t.shape))
  const last = item.t.shape.at(-1)
  const choices: readonly (() => Item | undefined)[] = [
    () => twin,
    () => ({ t: item.t.operand(1.5), bound: 1.5, exact: true }),
    () => (typeof last === 'number' && !k.isBatch(last) ? { t: k.constant([last], 2), bound: 2, exact: true } : undefined),
    () => (typeof last === 'number' && !k.isBatch(last) ? { t: k.state('parameter', [last], 2), bound: 2, exact: true } : undefined),
  ]
  return any(k.random, choices)?.()
}

const binary: Recipe = on((a, k) => {
  const b = partner(k, a)
  if (!b) return undefined
  const sum = a.bound + b.bound
  const exact = a.exact && b.exact
  return any<() => Item>(k.random, [
    () => rounded(a.t.add(b.t), sum),
    () => rounded(a.t.sub(b.t), sum),
    () => rounded(a.t.mul(b.t), a.bound * b.bound),
    () => rounded(a.t.div(b.t.abs().add(1)), a.bound),
    () => ({ t: a.t.min(b.t), bound: Math.max(a.bound, b.bound), exact }),
    () => ({ t: b.t.max(a.t), bound: Math.max(a.bound, b.bound), exact }),
  ])?.()
})

const unary: Recipe = on((x, k) =>
  any<() => Item>(k.random, [
    () => moved(x, x.t.neg()),
    () => moved(x, x.t.abs()),
    () => moved(x, x.t.relu()),
    () => ({ ...x, t: x.t.clamp(-1, 1.25), bound: 1.25 }),
    () => rounded(x.t.tanh(), 1),
    () => rounded(x.t.sigmoid(), 1),
    () => rounded(x.t.clamp(-2, 2).exp(), 8),
    () => rounded(x.t.abs().add(1).log(), Math.log(x.bound + 1)),
    () => rounded(x.t.abs().add(0.5).sqrt(), Math.sqrt(x.bound + 0.5)),
    () => rounded(x.t.abs().add(1).rsqrt(), 1),
    () => rounded(x.t.clamp(-3, 3).abs().add(0.5).pow(1.5), 7),
    () => rounded(x.t.square(), x.bound ** 2),
  ])?.(),
)

const decide: Recipe = on(
  (x, k) => {
    const bits = any(k.random, [() => x.t.greater(0.1), () => x.t.less(x.t.neg()), () => x.t.compare('lessEqual', 0.5), () => x.t.compare('notEqual', 0)])?.()
    const other = pick(k, (item) => sameShape(item.t.shape, x.t.shape)) ?? x
    if (!bits) return undefined
    return k.random.int(3) === 0
      ? { t: bits.cast('float32'), bound: 1, exact: true }
      : { t: bits.select(other.t, -1), bound: Math.max(1, other.bound), exact: other.exact }
  },
  (item) => item.exact,
)

const integers: Recipe = on(
  (x, k) => {
    const [axis, size] = any(k.random, freeAxes(k, x)) ?? []
    if (axis === undefined || size === undefined) return undefined
    return any<() => Item>(k.random, [
      () => ({ t: x.t.cast('int32').add(1).cast('float32'), bound: x.bound + 1, exact: true }),
      () => ({ t: x.t.argMax(axis).cast('float32'), bound: size, exact: true }),
      () => ({ t: x.t.argMax(axis).oneHot(size), bound: 1, exact: true }),
    ])?.()
  },
  (item) => item.exact && item.t.rank < 5,
)

const ramp: Recipe = on((x) => {
  const [axis] = x.t.shape.keys()
  if (axis === undefined) return undefined
  const index = x.t.graph.emit('iota', { shape: x.t.shape, axis: x.t.rank - 1, dtype: 'float32' }, [])
  return rounded(index[0]?.mul(0.25).add(x.t) ?? x.t, x.bound + 16)
})

const reorder: Recipe = on((x, k) => {
  const { t } = x
  const [axis, size] = any(k.random, freeAxes(k, x)) ?? []
  return any<() => Item | undefined>(k.random, [
    () => (t.rank > 1 && known(k, t.shape.slice(1)) ? moved(x, t.flatten(1)) : undefined),
    () => (axis !== undefined ? moved(x, t.reshape([...t.shape.slice(0, axis), 1, ...t.shape.slice(axis)])) : undefined),
    () => moved(x, t.transpose(k.random.shuffle(t.shape.map((_, i) => i)))),
    () => (t.rank < 4 ? moved(x, t.broadcastTo([2, ...t.shape])) : undefined),
    () => (axis !== undefined && size !== undefined ? cut(x, axis, size, k) : undefined),
    () => moved(x, t.pad(t.shape.map((_, i) => (i === axis ? 1 : 0)), t.shape.map((_, i) => (i === axis ? 2 : 0)), 0.5)),
    () => (axis !== undefined ? moved(x, concat([t, t.neg()], axis)) : undefined),
  ])?.()
}, (item) => item.t.rank < 6)

function cut(x: Item, axis: number, size: number, k: Kitchen): Item | undefined {
  const { t } = x
  if (!known(k, t.shape)) return undefined
  const backwards = k.random.int(3) === 0
  const length = backwards ? size : 1 + k.random.int(size)
  const start = backwards ? size - 1 : size - length
  return moved(
    x,
    t.slice(
      t.shape.map((_, i) => (i === axis ? start : 0)),
      t.shape.map((d, i) => (i === axis ? length : d)),
      t.shape.map((_, i) => (i === axis && backwards ? -1 : 1)),
    ),
  )
}

const index: Recipe = on((x, k) => {
  const [axis, size] = any(k.random, freeAxes(k, x)) ?? []
  if (axis === undefined || size === undefined) return undefined
  return k.random.int(2)
    ? moved(x, x.t.gather(k.indices([3], size), axis))
    : rounded(x.t.scatterAdd(k.indices([size], 4), axis, 4), x.bound * size)
})

const reduce: Recipe = on((x, k) => {
  const [axis, size] = any(k.random, freeAxes(k, x)) ?? []
  if (axis === undefined || size === undefined) return undefined
  const keep = k.random.int(2) === 1
  return any<() => Item>(k.random, [
    () => rounded(x.t.sum([axis], keep), x.bound * size),
    () => rounded(x.t.mean([axis], keep), x.bound),
    () => moved(x, x.t.maxOver([axis], keep)),
    () => rounded(x.t.softmax(axis), 1),
    () => rounded(x.t.logSoftmax(axis), 2 * x.bound + Math.log(size)),
  ])?.()
})

const product: Recipe = on(
  (x, k) => {
    const inner = x.t.shape.at(-1)
    if (typeof inner !== 'number' || k.isBatch(inner)) return undefined
    const transposeB = k.random.int(2) === 1
    const weight = k.state('parameter', transposeB ? [4, inner] : [inner, 4], 0.5)
    return rounded(x.t.matmul(weight, { transposeB }), x.bound * inner * 0.5)
  },
  (item) => item.t.rank >= 2,
)

// What passes look for: idle ops, ops done twice, arithmetic on constants.
const redundant: Recipe = on((x, k) =>
  any<() => Item>(k.random, [
    () => moved(x, x.t.neg().neg()),
    () => moved(x, x.t.mul(1)),
    () => moved(x, x.t.add(0)),
    () => moved(x, x.t.sub(0)),
    () => moved(x, x.t.stopGradient()),
    () => moved(x, x.t.reshape([1, ...x.t.shape]).reshape(x.t.shape)),
    () => moved(x, x.t.transpose().transpose()),
    () => rounded(x.t.tanh().sub(x.t.tanh()), 2),
    () => rounded(x.t.mul(x.t.operand(2).add(x.t.operand(3)).exp().log()), 5 * x.bound),
    () => rounded(x.t.add(x.t.full(2)).mul(x.t.full(0.5)), x.bound + 1),
  ])?.(),
)

/** Every recipe; a plain one is there for whatever the pool holds. */
export const recipes: readonly Recipe[] = [
  binary,
  unary,
  decide,
  integers,
  ramp,
  reorder,
  index,
  reduce,
  product,
  convolution,
  dynamic,
  resample,
  normalise,
  redundant,
]
