// Random crop with padding and random horizontal flip, on bytes, at the moment a sample is turned into numbers. What is
// drawn for a sample depends on nothing but (seed, epoch, position in the epoch): see loader.ts.

import { type Random, ValueError } from '@dynconv/core'

/** How samples are varied; what is left out does not happen. */
export interface Augmentation {
  /**
   * Pads each side by `padding` pixels and cuts a random window of the image's own size. `fill`: 'zero' (black, the
   * default) or 'reflect' (mirrored, the border pixel not repeated).
   */
  readonly crop?: { readonly padding: number; readonly fill?: 'zero' | 'reflect' | undefined } | undefined
  /** Mirrors left and right with probability 1/2. */
  readonly flip?: boolean | undefined
  /** The seed of the draws; the loader's shuffle seed (0 when it does not shuffle) unless given. */
  readonly seed?: number | undefined
}

/** What was drawn for one sample: the window's top left corner in the padded image, and whether it is mirrored. */
export interface Placement {
  readonly top: number
  readonly left: number
  readonly flip: boolean
}

/** The size of the images that are augmented. */
export interface ImageSize {
  readonly channels: number
  readonly height: number
  readonly width: number
}

/** Draws placements and writes augmented images. */
export interface Augmenter {
  draw(random: Random): Placement
  /**
   * Writes the image [channels, height, width] that begins at `from` in `pixels`, placed as drawn, to `target` at `at`;
   * each pixel v of channel c becomes table[c * 256 + v].
   */
  write(target: Float32Array, at: number, pixels: Uint8Array, from: number, table: Float32Array, placement: Placement): void
}

/** @throws ValueError when the padding is not a whole number, or too wide to reflect */
export function augmenter(augmentation: Augmentation, { channels, height, width }: ImageSize): Augmenter {
  const padding = augmentation.crop?.padding ?? 0
  const fill = augmentation.crop?.fill ?? 'zero'
  if (!Number.isSafeInteger(padding) || padding < 0) throw new ValueError(`augment: padding must be a non-negative integer, got ${padding}`)
  if (fill !== 'zero' && fill !== 'reflect') throw new ValueError(`augment: fill must be 'zero' or 'reflect', got ${String(fill)}`)
  if (fill === 'reflect' && padding >= Math.min(height, width)) {
    throw new ValueError(`augment: padding=${padding} must be below the image's sides, ${height} x ${width}, to reflect`)
  }
  const rows = paddedAxis(height, padding, fill)
  const columns = paddedAxis(width, padding, fill)
  const size = height * width
  const source = new Int32Array(width)

  return {
    draw: (random) => ({
      top: random.int(2 * padding + 1),
      left: random.int(2 * padding + 1),
      flip: augmentation.flip === true && random.uniform() < 0.5,
    }),
    // Output (y, x) is the padded image's (top + y, left + x'), x' = x, or width - 1 - x when mirrored; `rows` and
    // `columns` turn padded coordinates into the image's own, -1 for a black border. The columns are the same for every
    // row, so they are looked up once.
    write(target, at, pixels, from, table, { top, left, flip }) {
      for (let x = 0; x < width; x++) source[x] = columns[left + (flip ? width - 1 - x : x)] ?? -1
      let out = at
      for (let c = 0; c < channels; c++) {
        const lookup = c * 256
        const black = table[lookup] ?? 0
        for (let y = 0; y < height; y++) {
          const row = rows[top + y] ?? -1
          if (row < 0) {
            target.fill(black, out, out + width)
            out += width
            continue
          }
          const begin = from + c * size + row * width
          for (let x = 0; x < width; x++) {
            const column = source[x] ?? -1
            target[out++] = column < 0 ? black : (table[lookup + (pixels[begin + column] ?? 0)] ?? 0)
          }
        }
      }
    },
  }
}

// For each coordinate p of an axis of `size` padded by P on both sides, the coordinate i = p - P of the image. Outside it:
// -1, or mirrored at the border pixel: -i on the near side, 2 (size - 1) - i on the far one.
function paddedAxis(size: number, padding: number, fill: 'zero' | 'reflect'): Int32Array {
  return Int32Array.from({ length: size + 2 * padding }, (_, p) => {
    const i = p - padding
    if (i >= 0 && i < size) return i
    if (fill === 'zero') return -1
    return i < 0 ? -i : 2 * (size - 1) - i
  })
}
