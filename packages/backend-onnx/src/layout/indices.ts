// Index tables for Gather: pure functions of shapes and block, checked without an engine. Two patterns recur: an index one
// past the end stands for a zero (a zero row is appended to the data), and an order of axes is written as nested loops in
// the order of the result.

/** The place of the appended zero row is the count of real rows. */
export type GatherIndex = Int32Array

/** How a convolution walks along one axis. */
export interface Axis {
  /** Input and output size. */
  readonly input: number
  readonly output: number
  readonly kernel: number
  readonly stride: number
  readonly dilation: number
  /** Padding before the first element. */
  readonly before: number
}

/** The input position that output `p` meets at kernel position `u`; undefined in the padding. */
function meets(axis: Axis, p: number, u: number): number | undefined {
  const at = p * axis.stride + u * axis.dilation - axis.before
  return at >= 0 && at < axis.input ? at : undefined
}

/**
 * Rows for the split filter gradient: [kernel, output] -> the input row that output row p meets at kernel row u, or
 * `axis.input` (the zero row).
 */
export function rowShifts(axis: Axis): GatherIndex {
  return build(axis.kernel * axis.output, (push) => {
    for (let u = 0; u < axis.kernel; u++) for (let p = 0; p < axis.output; p++) push(meets(axis, p, u) ?? axis.input)
  })
}

/** The same shifts over pixels: [P, W, kh] -> pixel (row that output row p meets at kernel row u, column c), or the zero row, H W. */
export function rowShiftPixels(rows: Axis, columns: Axis): GatherIndex {
  return build(rows.output * columns.input * rows.kernel, (push) => {
    for (let p = 0; p < rows.output; p++) {
      for (let c = 0; c < columns.input; c++) {
        for (let u = 0; u < rows.kernel; u++) {
          const r = meets(rows, p, u)
          push(r === undefined ? rows.input * columns.input : r * columns.input + c)
        }
      }
    }
  })
}

/**
 * Pixels of dY for the split filter gradient: [output rows, input columns, kernel columns] -> the pixel of dY in row p
 * whose column q meets input column c at kernel column v: q stride + v dilation - before = c. Or the zero row, P Q.
 */
export function columnShifts(rows: Axis, columns: Axis): GatherIndex {
  return build(rows.output * columns.input * columns.kernel, (push) => {
    for (let p = 0; p < rows.output; p++) {
      for (let c = 0; c < columns.input; c++) {
        for (let v = 0; v < columns.kernel; v++) {
          const q = (c + columns.before - v * columns.dilation) / columns.stride
          push(Number.isInteger(q) && q >= 0 && q < columns.output ? p * columns.output + q : rows.output * columns.output)
        }
      }
    }
  })
}

/**
 * Images blocked over pixels, from images whose blocks of pixels lie apart for each block of channels: with
 * W divisible by `block`, [P W/b, kh, I/b] -> tile (I block, input row, column block), in that order, or the zero tile.
 */
export function pixelBlocks(rows: Axis, columns: Axis, channelBlocks: number, block: number): GatherIndex {
  const perRow = columns.input / block
  const zero = channelBlocks * rows.input * perRow
  return build(rows.output * perRow * rows.kernel * channelBlocks, (push) => {
    for (let p = 0; p < rows.output; p++) {
      for (let c = 0; c < perRow; c++) {
        for (let u = 0; u < rows.kernel; u++) {
          const r = meets(rows, p, u)
          for (let i = 0; i < channelBlocks; i++) push(r === undefined ? zero : (i * rows.input + r) * perRow + c)
        }
      }
    }
  })
}

/**
 * The same from plain images, by runs of `run` pixels, which must divide W and the block: [P W/b, kh, I, b/run] -> run
 * (channel, input row, place in the row), or the zero run.
 */
export function pixelRuns(rows: Axis, columns: Axis, channels: number, block: number, run: number): GatherIndex {
  const perRow = columns.input / run
  const zero = channels * rows.input * perRow
  const runsPerBlock = block / run
  const blocks = (rows.output * columns.input) / block
  return build(blocks * rows.kernel * channels * runsPerBlock, (push) => {
    for (let b = 0; b < blocks; b++) {
      for (let u = 0; u < rows.kernel; u++) {
        for (let i = 0; i < channels; i++) {
          for (let j = b * runsPerBlock; j < (b + 1) * runsPerBlock; j++) {
            const r = meets(rows, Math.floor(j / perRow), u)
            push(r === undefined ? zero : (i * rows.input + r) * perRow + (j % perRow))
          }
        }
      }
    }
  })
}

/** A shift along a row as a convolution with a single 1 at tap `at` of `taps`. */
export interface ShiftWalk {
  readonly taps: number
  readonly at: number
  readonly before: number
  readonly after: number
}

/**
 * D_v of the split filter gradient along one row, from Q outputs to W inputs, with stride 1: d[c] = dy[c - s] with
 * s = v dilation - before, zero outside. Zeros before where s > 0, zeros behind where W > Q + s; what must be cut off
 * instead is stepped over by further taps.
 */
export function shiftWalk(columns: Axis, v: number): ShiftWalk {
  const shift = v * columns.dilation - columns.before
  const behind = columns.input - columns.output - shift
  const cut = [Math.max(0, -shift), Math.max(0, -behind)] as const
  return { taps: 1 + cut[0] + cut[1], at: cut[0], before: Math.max(0, shift), after: Math.max(0, behind) }
}

/** The columns of im2col: [P, Q, kh, kw] -> the pixel of x (row * W + column), or the zero row, H W. */
export function im2colPixels(rows: Axis, columns: Axis): GatherIndex {
  return build(rows.output * columns.output * rows.kernel * columns.kernel, (push) => {
    for (let p = 0; p < rows.output; p++) {
      for (let q = 0; q < columns.output; q++) {
        for (let u = 0; u < rows.kernel; u++) {
          for (let v = 0; v < columns.kernel; v++) {
            const [r, c] = [meets(rows, p, u), meets(columns, q, v)]
            push(r === undefined || c === undefined ? rows.input * columns.input : r * columns.input + c)
          }
        }
      }
    }
  })
}

/** A stack of kernels in kernel layout (order io), as blocks: [count, groups, O/g/b, I/g/b, kh, kw] of b x b numbers. */
export interface KernelBlocks {
  /** Leading axes together: bases. */
  readonly count: number
  readonly groups: number
  /** Channel blocks of one group. */
  readonly outBlocks: number
  readonly inBlocks: number
  readonly kernelSize: readonly [number, number]
}

/** How many blocks there are. */
export function blockCount(k: KernelBlocks): number {
  return k.count * k.groups * k.outBlocks * k.inBlocks * k.kernelSize[0] * k.kernelSize[1]
}

/** The block at kernel position (u, v). */
function blockAt(k: KernelBlocks, n: number, group: number, o: number, i: number, u: number, v: number): number {
  const [kh, kw] = k.kernelSize
  return ((((n * k.groups + group) * k.outBlocks + o) * k.inBlocks + i) * kh + u) * kw + v
}

/**
 * Blocks in the order of the input gradient with stride 1, whose kernel is W turned by 180 degrees with its channels
 * exchanged: [count, groups, I/g/b, O/g/b, kh, kw]. (Each block must still be transposed.)
 */
export function turnedBlocks(k: KernelBlocks): GatherIndex {
  const [kh, kw] = k.kernelSize
  return build(blockCount(k), (push) => {
    for (let n = 0; n < k.count; n++) {
      for (let g = 0; g < k.groups; g++) {
        for (let i = 0; i < k.inBlocks; i++) {
          for (let o = 0; o < k.outBlocks; o++) {
            for (let u = kh - 1; u >= 0; u--) for (let v = kw - 1; v >= 0; v--) push(blockAt(k, n, g, o, i, u, v))
          }
        }
      }
    }
  })
}

/**
 * The kernel of one residue of the input gradient with stride s ("sub-pixel"): with dilation 1,
 *   dx[s a + r] = sum_u dy[(s a + r + before - u) / s] w[u]    over the u that make the quotient an integer
 *               = sum_e dy[a + e] w[r + before - s e],         e an integer,
 * so the pixels of residue r are an ordinary convolution of dy over e, by every s-th tap.
 */
export interface Residue {
  /** The least e. */
  readonly first: number
  /** taps[e - first]: the kernel position, or -1 for a zero. */
  readonly taps: readonly number[]
  /** Zeros to put before and behind dy. */
  readonly pads: readonly [number, number]
}

/**
 * The residues along `axis`, each for ceil(input / stride) pixels. A window that would begin or end inside dy (which then
 * had to be cut) is widened by zeros, and one without taps is a zero.
 */
export function residues({ input, output, stride, before, kernel }: Axis): readonly Residue[] {
  const pixels = Math.ceil(input / stride)
  return Array.from({ length: stride }, (_, r) => {
    const least = Math.ceil((r + before - kernel + 1) / stride)
    const last = Math.floor((r + before) / stride)
    const first = Math.min(0, least)
    const size = Math.max(0, output - pixels, last) - first + 1
    const taps = Array.from({ length: size }, (_unused, j) => {
      const u = r + before - stride * (first + j)
      return u >= 0 && u < kernel ? u : -1
    })
    return { first, taps, pads: [-first, pixels - output + first + size - 1] as const }
  })
}

/**
 * Blocks of one residue's kernel, one group: [count, I/b, O/b, taps of the rows, taps of the columns]; a missing tap is the
 * zero block, `blockCount`. (Each block must still be transposed.)
 */
export function residueBlocks(k: KernelBlocks, rows: Residue, columns: Residue): GatherIndex {
  const zero = blockCount(k)
  return build(k.count * k.inBlocks * k.outBlocks * rows.taps.length * columns.taps.length, (push) => {
    for (let n = 0; n < k.count; n++) {
      for (let i = 0; i < k.inBlocks; i++) {
        for (let o = 0; o < k.outBlocks; o++) {
          for (const u of rows.taps) for (const v of columns.taps) push(u < 0 || v < 0 ? zero : blockAt(k, n, 0, o, i, u, v))
        }
      }
    }
  })
}

/**
 * Winograd filter gradient, x: [16, samples, tiles] -> the pixel that tile (a, b), samples of H x W pixels and one zero
 * row each, reads at place (i, j) of its 4 x 4 window, which begins at (2a - 1, 2b - 1).
 */
export function winogradInput(height: number, width: number, samples: number, firstSample: number): GatherIndex {
  const [tileRows, tileColumns] = [height / 2, width / 2]
  const rows = height * width + 1
  return build(16 * samples * tileRows * tileColumns, (push) => {
    for (let place = 0; place < 16; place++) {
      for (let n = firstSample; n < firstSample + samples; n++) {
        for (let a = 0; a < tileRows; a++) {
          for (let b = 0; b < tileColumns; b++) {
            const [r, c] = [2 * a - 1 + (place >> 2), 2 * b - 1 + (place & 3)]
            push(n * rows + (r >= 0 && r < height && c >= 0 && c < width ? r * width + c : rows - 1))
          }
        }
      }
    }
  })
}

/** Winograd filter gradient, dY: [4, samples, tiles] -> pixel (2a + i, 2b + j). */
export function winogradGrad(height: number, width: number, samples: number, firstSample: number): GatherIndex {
  return build(samples * height * width, (push) => {
    for (let place = 0; place < 4; place++) {
      for (let n = firstSample; n < firstSample + samples; n++) {
        for (let a = 0; a < height; a += 2) {
          for (let b = 0; b < width; b += 2) push((n * height + a + (place >> 1)) * width + b + (place & 1))
        }
      }
    }
  })
}

function build(length: number, fill: (push: (value: number) => void) => void): GatherIndex {
  const result = new Int32Array(length)
  let at = 0
  fill((value) => {
    result[at++] = value
  })
  return result
}
