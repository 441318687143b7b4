// Which of its equal forms a convolution takes on an adapter. Without measurements a rule by the kind of adapter decides; what
// a probe has found (probe.ts) goes before it.

import { directCost } from '../kernels/convDirect.ts'
import { type ConvShape, convMacs, perGroup, weightSize } from '../kernels/convShape.ts'
import { winogradTakes } from '../kernels/winograd.ts'
import { cheapestTiles, mixingCost } from '../kernels/winogradBlocks.ts'

/** `plain`: an element for each invocation; `direct`: tiles in registers; `tiled`: in workgroup memory; `winograd`. */
export type Algorithm = (typeof algorithms)[number]

/** All of them. */
export const algorithms = ['plain', 'direct', 'tiled', 'winograd'] as const

/** What is computed of a convolution. */
export type Pass = 'forward' | 'inputGrad' | 'filterGrad'

/** What goes before the rules. */
export interface Preferences {
  /** The fastest of those that were tried, by `choiceKey`. */
  readonly found?: ReadonlyMap<string, Algorithm> | undefined
  /** Taken wherever it is possible. */
  readonly prefer?: Algorithm | undefined
  /** Told of every choice between several. */
  readonly onChoice?: ((choice: OpenChoice) => void) | undefined
}

/** A convolution that several algorithms can compute. */
export interface OpenChoice {
  readonly key: string
  readonly pass: Pass
  readonly shape: ConvShape
  readonly algorithms: readonly Algorithm[]
}

/** What a choice depends on, as text: `forward 8x64x56x56 -> 64x56x56, 3x3 s1,1 p1,1,1,1 d1,1 g1 float32 each`. */
export function choiceKey(pass: Pass, { batch, inChannels, outChannels, inSize, outSize, kernelSize, attrs, dtype, perSample }: ConvShape): string {
  const { stride, padding, dilation, groups } = attrs
  const sizes = `${[batch, inChannels, ...inSize].join('x')} -> ${[outChannels, ...outSize].join('x')}, ${kernelSize.join('x')}`
  return `${pass} ${sizes} s${stride.join()} p${padding.join()} d${dilation.join()} g${groups} ${dtype}${perSample ? ' each' : ''}`
}

// Channels that are computed (of the filter gradient: output channels).
const computedOf = (pass: Pass, shape: ConvShape): number => perGroup(shape)[pass === 'inputGrad' ? 0 : 1]

/** The algorithms that can compute this, first the one that is taken unless something better is known. */
export function candidates(pass: Pass, shape: ConvShape): readonly [Algorithm, ...Algorithm[]] {
  const { target, batch, attrs } = shape
  // Tiles where the work pays for their long texts, and where a group has channels enough to share a pixel among.
  if (convMacs(shape) < target.tiledMacs || computedOf(pass, shape) < 4) return ['plain']
  if (batch * attrs.groups > target.maxGroups) return ['plain']
  const tiles = target.kind === 'gpu' ? 'tiled' : 'direct'
  if (!winogradTakes(shape)) return [tiles]
  return winogradFirst(pass, shape) ? ['winograd', tiles] : [tiles, 'winograd']
}

// Whichever costs less, by what its loads and multiply-adds cost on SwiftShader: transformed kernels are two to four times as
// large, which a sample with few tiles does not win back where each has a kernel of its own. With fewer channels the
// transforms are most of the work; there the filter gradient still gains from 16 channels up.
function winogradFirst(pass: Pass, shape: ConvShape): boolean {
  const channels = Math.min(shape.inChannels, shape.outChannels)
  // On cards, as measured on one: three dispatches for one pay from about 10 us of work on; the filter gradient loads its patches
  // from far apart, which many channels win back; and gradients for each sample are larger transformed than not.
  if (shape.target.kind === 'gpu') return convMacs(shape) >= 2 ** 26 && channels >= 16 && (pass !== 'filterGrad' || (channels >= 128 && !shape.perSample))
  if (pass === 'filterGrad') return channels >= 16
  return channels >= 32 && cheapestTiles(shape, pass === 'forward' ? 'forward' : 'backward').cost < directCost(shape) + mixingCost(shape, weightSize(shape))
}

/** The algorithm for this. */
export function algorithmFor(pass: Pass, shape: ConvShape, { found, prefer, onChoice }: Preferences): Algorithm {
  const algorithms = candidates(pass, shape)
  if (algorithms.length === 1) return algorithms[0]
  const key = choiceKey(pass, shape)
  onChoice?.({ key, pass, shape, algorithms })
  return [prefer, found?.get(key)].find((a) => a !== undefined && algorithms.includes(a)) ?? algorithms[0]
}
