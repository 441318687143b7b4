// Which convolution a network uses where. A network asks its factory for each convolution, telling what it is for; the
// factory may answer with an ordinary one, a dynamic one, or a user's own.

import { Conv2d, type Conv2dLayerOptions, DynamicConv2d, type DynamicConv2dOptions, type Module } from '@dynconv/core'

/** Where in a network a convolution stands. */
export interface ConvSite {
  /**
   * The first convolution, an ordinary one inside a block, a shortcut that changes the shape, a 1x1 that mixes channels,
   * one that filters each channel by itself, or the last one, before the classifier.
   */
  readonly role: 'stem' | 'block' | 'shortcut' | 'pointwise' | 'depthwise' | 'head'
  /** The stage, counted from 1; 0 for the stem. */
  readonly stage: number
  /** The block within the stage, counted from 0. */
  readonly block: number
}

/** Makes the convolution for a site. */
export type ConvFactory = (options: Conv2dLayerOptions, site: ConvSite) => Module

/** Ordinary convolutions everywhere. */
export const ordinary: ConvFactory = (options) => new Conv2d(options)

/** What a dynamic factory takes beside the geometry. */
export type DynamicOptions = Omit<DynamicConv2dOptions, keyof Conv2dLayerOptions> & {
  /** Which convolutions are dynamic; those inside blocks unless given: all but stem, shortcuts and head. */
  readonly where?: (options: Conv2dLayerOptions, site: ConvSite) => boolean
}

const outside: readonly ConvSite['role'][] = ['stem', 'shortcut', 'head']

/**
 * Dynamic convolutions inside blocks (or where `where` says), ordinary ones elsewhere.
 *
 * @example resnet18({ classes: 10, stem: 'cifar', conv: dynamic({ numBases: 4 }) })
 */
export function dynamic(options: DynamicOptions = {}): ConvFactory {
  const { where = (_, site) => !outside.includes(site.role), ...routing } = options
  return (geometry, site) => (where(geometry, site) ? new DynamicConv2d({ ...geometry, ...routing }) : new Conv2d(geometry))
}
