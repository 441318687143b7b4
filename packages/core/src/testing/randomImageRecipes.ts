// Recipes of random graphs for images [N, C, H, W]. Not for use by themselves: see randomGraph.ts.

import { conv2d } from '../ops/conv.ts'
import { dynamicConv2d } from '../ops/dynamicConv.ts'
import { batchNorm, batchNormInference, groupNorm } from '../ops/norm.ts'
import { avgPool2d, globalAvgPool2d, maxPool2d } from '../ops/pool.ts'
import { resize } from '../ops/resize.ts'
import { any, type Item, type Kitchen, known, moved, pick, type Recipe, rounded } from './randomKitchen.ts'

interface ImageItem extends Item {
  readonly channels: number
  readonly height: number
  readonly width: number
}

function pickImages(k: Kitchen): ImageItem | undefined {
  const item = pick(k, ({ t }) => t.rank === 4 && known(k, t.shape.slice(1)))
  if (!item) return undefined
  const [, channels, height, width] = item.t.shape
  if (typeof channels !== 'number' || typeof height !== 'number' || typeof width !== 'number') return undefined
  return { ...item, channels, height, width }
}

function onImages(make: (x: ImageItem, k: Kitchen) => Item | undefined): Recipe {
  return (k) => {
    const x = pickImages(k)
    const result = x && make(x, k)
    return result ? [result] : []
  }
}

/** conv2d. */
export const convolution: Recipe = onImages((x, k) => {
  const groups = x.channels % 2 === 0 && k.random.int(3) === 0 ? 2 : 1
  const size = 1 + k.random.int(Math.min(3, x.height, x.width))
  const shape = [4, x.channels / groups, size, size]
  const weight = k.random.int(3) ? k.state('parameter', shape, 0.3) : k.constant(shape, 0.3)
  const bias = k.random.int(2) ? k.state('parameter', [4], 1) : undefined
  const options = { bias, groups, stride: 1 + k.random.int(2), padding: k.random.int(size), dilation: 1 }
  return rounded(conv2d(x.t, weight, options), 0.3 * x.bound * (x.channels / groups) * size ** 2 + 1)
})

/** dynamicConv2d, with a routing. */
export const dynamic: Recipe = onImages((x, k) => {
  const groups = x.channels % 2 === 0 && k.random.int(3) === 0 ? 2 : 1
  const size = Math.min(x.height, x.width) >= 3 && k.random.int(2) ? 3 : 1
  const bases = k.state('parameter', [3, 4, x.channels / groups, size, size], 0.3)
  const route = k.state('parameter', [x.channels, 3], 0.5)
  const bias = k.random.int(2) ? k.state('parameter', [3, 4], 1) : undefined
  const pi = globalAvgPool2d(x.t).flatten(1).matmul(route).softmax()
  const y = dynamicConv2d(x.t, bases, pi, { bias, groups, padding: Math.floor(size / 2), stride: 1 + k.random.int(2) })
  return rounded(y, 0.3 * x.bound * (x.channels / groups) * size ** 2 + 1)
})

/** Pools and resize. */
export const resample: Recipe = onImages((x, k) =>
  any<() => Item | undefined>(k.random, [
    () => (Math.min(x.height, x.width) >= 2 ? moved(x, maxPool2d(x.t, { kernelSize: 2, stride: 1 + k.random.int(2) })) : undefined),
    () =>
      Math.min(x.height, x.width) >= 3
        ? rounded(avgPool2d(x.t, { kernelSize: 3, stride: 1, padding: 1, countIncludePad: k.random.int(2) === 1 }), x.bound)
        : undefined,
    () => rounded(resize(x.t, { size: [4, 5], mode: 'bilinear' }), x.bound),
    () => moved(x, resize(x.t, { size: [3, 6] })),
  ])?.(),
)

/** The norms. Their epsilons are large: a channel that is nearly constant must not blow up its roundings. */
export const normalise: Recipe = onImages((x, k) => {
  const [gamma, beta] = [k.state('parameter', [x.channels], 1), k.state('parameter', [x.channels], 1)]
  const epsilon = 0.1
  const bound = 1 + (2 * x.bound) / Math.sqrt(epsilon)
  return any<() => Item>(k.random, [
    () => {
      const running = k.state('buffer', [x.channels], 1)
      const [y, mean] = batchNorm(x.t, gamma, beta, { epsilon })
      k.update(running, running.mul(0.9).add(mean.mul(0.1)))
      return rounded(y, bound)
    },
    () => rounded(groupNorm(x.t, gamma, beta, { groups: x.channels % 2 === 0 ? 2 : 1, epsilon }), bound),
    () => rounded(batchNormInference(x.t, gamma, beta, k.constant([x.channels], 1), k.constant([x.channels], 1).abs().add(0.5), { epsilon }), bound),
  ])?.()
})
