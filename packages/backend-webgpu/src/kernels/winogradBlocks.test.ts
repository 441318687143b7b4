import { expect, test } from 'vitest'
import type { Target } from '../wgsl/kernel.ts'
import { tileGrid } from './winograd.ts'
import { blockedOutputKernel, blockedPatchesKernel, blockedProductsKernel, blocksFor, cheapestTiles, patchesSize } from './winogradBlocks.ts'

const alone: Target = { f16: false, subgroups: false, kind: 'software', tiledMacs: 1, maxGroups: 65535, maxBindings: 8 }
const talking: Target = { ...alone, subgroups: true }

const large = {
  target: alone,
  dtype: 'float32',
  batch: 8,
  inChannels: 8,
  outChannels: 8,
  inSize: [8, 8],
  outSize: [8, 8],
  kernelSize: [3, 3],
  attrs: { stride: [1, 1], padding: [1, 1, 1, 1], dilation: [1, 1], groups: 1 },
  perSample: false,
} as const

const grid = (target: Target, size: readonly [number, number], batch: number = 2, perSample: boolean = false): ReturnType<typeof tileGrid> =>
  tileGrid(
    {
      target,
      dtype: 'float32',
      batch,
      inChannels: 8,
      outChannels: 8,
      inSize: size,
      outSize: size,
      kernelSize: [3, 3],
      attrs: { stride: [1, 1], padding: [1, 1, 1, 1], dilation: [1, 1], groups: 1 },
      perSample,
    },
    size,
    2,
  )

test('products: four lanes share the patches that they load, and store them in the order in which they have them', () => {
  expect(blockedProductsKernel(grid(talking, [4, 6]), 8, 20, { fours: 1, quads: 1 }).code).toMatchInlineSnapshot(`
    "enable subgroups;
    requires subgroup_id;
    @group(0) @binding(0) var<storage, read> u: array<vec4<f32>>;
    @group(0) @binding(1) var<storage, read> v: array<vec4<f32>>;
    @group(0) @binding(2) var<storage, read_write> p: array<vec4<f32>>;
    @compute @workgroup_size(32)
    fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32, @builtin(subgroup_id) subgroup: u32, @builtin(num_subgroups) subgroups: u32, @builtin(subgroup_size) subgroupSize: u32, @builtin(subgroup_invocation_id) subgroupLane: u32) {
      let place = group.x * 32u + subgroup * subgroupSize + subgroupLane;
      let item = min(place, 383u);
      let q = subgroupLane % 4u;
      let first = (item % 8u) * 1u;
      let at = (item / 8u) % 3u;
      let e = (item / 24u) % 16u;
      let z = item / 384u;
      var pu = (z * 16u + e) * 40u;
      var pv = ((z * 3u + at) * 16u + e) * 8u;
      var c0_0 = mat4x4<f32>();
      for (var c = 0u; c < 2u; c++) {
        let s0 = v[pv + 0u + q]; let v0 = mat4x4<f32>(s0, quadSwapX(s0), quadSwapY(s0), quadSwapDiagonal(s0));
        let k0 = pu + min(first + 0u, 4u);
        let u0 = mat4x4<f32>(u[k0 + 0u], u[k0 + 5u], u[k0 + 10u], u[k0 + 15u]);
        c0_0 = c0_0 + u0 * v0;
        pu += 20u;
        pv += 4u;
      }
      if (place >= 384u) { return; }
      let tile0_0 = at * 4u + (q ^ 0u) + 0u; let to0_0 = ((z * 12u + tile0_0) * 16u + e) * 5u + first; { if (first + 0u < 5u) { p[to0_0 + 0u] = c0_0[0]; } }
      let tile0_1 = at * 4u + (q ^ 1u) + 0u; let to0_1 = ((z * 12u + tile0_1) * 16u + e) * 5u + first; { if (first + 0u < 5u) { p[to0_1 + 0u] = c0_0[1]; } }
      let tile0_2 = at * 4u + (q ^ 2u) + 0u; let to0_2 = ((z * 12u + tile0_2) * 16u + e) * 5u + first; { if (first + 0u < 5u) { p[to0_2 + 0u] = c0_0[2]; } }
      let tile0_3 = at * 4u + (q ^ 3u) + 0u; let to0_3 = ((z * 12u + tile0_3) * 16u + e) * 5u + first; { if (first + 0u < 5u) { p[to0_3 + 0u] = c0_0[3]; } }
    }
    "
  `)
})

test('products: a lane alone loads all of its patches', () => {
  const { code, groups, multiplyAdds } = blockedProductsKernel(grid(alone, [4, 6], 2, true), 8, 16, { fours: 1, quads: 2 })
  expect(code).not.toMatch(/subgroup|quadSwap/)
  expect(code).toContain('let v0 = mat4x4<f32>(v[pv + 0u], v[pv + 1u], v[pv + 2u], v[pv + 3u]);')
  // 2 pairs of vec4s, 2 blocks of 4 tiles (of 6), 16 elements, 2 samples
  expect(groups).toEqual([4, 1, 1])
  expect(multiplyAdds).toBe(2 * 2 * 16 * 2 * (4 * 8) * 8)
})

test('patches and outputs: a tile and four channels an invocation, eight tiles before the next channels', () => {
  const odd = grid(alone, [3, 5])
  const patches = blockedPatchesKernel(odd, { channels: 8, size: [3, 5], padding: [1, 1] }, { fours: 1, quads: 1 })
  expect(patches.code).toContain(`let quad = (item / 8u) % 2u;
  let tile = (item / 16u) * 8u + item % 8u;
  if (tile >= 12u) { return; }`)
  expect(patches.code).toContain('let to = (z * 3u + tileAt / 4u) * 128u + quad * 4u + tileAt % 4u;')
  expect(patchesSize(odd, 8, { fours: 1, quads: 1 })).toBe(3 * 128)
  const output = blockedOutputKernel(odd, 8, [3, 5], 'channel').code
  expect(output).toContain('if ((row + 1 < 3) & (column + 1 < 5)) { y[at + 6] = y1_1.x; y[at + 21] = y1_1.y; y[at + 36] = y1_1.z; y[at + 51] = y1_1.w; }')
  expect(output).toContain('let added = vec4<f32>(bias[biasAt + 0u], bias[biasAt + 1u], bias[biasAt + 2u], bias[biasAt + 3u]);')
})

test('blocks waste few tiles and stay within the length of a text', () => {
  expect(blocksFor(talking, 784, 64, 900)).toEqual({ fours: 7, quads: 4 })
  expect(blocksFor(talking, 49, 256, 900)).toEqual({ fours: 13, quads: 2 })
  expect(blocksFor(talking, 3, 16, 900)).toEqual({ fours: 1, quads: 1 })
  const { fours, quads } = blocksFor(alone, 784, 64, 200)
  expect(fours * quads * 16).toBeLessThanOrEqual(200)
})

test('tiles of 4 x 4 pixels, but smaller ones where mixing their kernels would cost more than they save', () => {
  const tilesOf = (channels: number, size: number, perSample: boolean): number => {
    const { side } = cheapestTiles({ ...large, target: talking, inChannels: channels, outChannels: channels, inSize: [size, size], outSize: [size, size], perSample }, 'forward')
    return side
  }
  expect([tilesOf(64, 56, false), tilesOf(128, 28, false), tilesOf(256, 14, false), tilesOf(512, 7, false)]).toEqual([4, 4, 4, 4])
  expect([tilesOf(64, 56, true), tilesOf(128, 28, true), tilesOf(256, 14, true), tilesOf(512, 7, true)]).toEqual([4, 4, 2, 2])
})

test('a transform of 6 x 6 patches names what its rows share', () => {
  const patches = blockedPatchesKernel(tileGrid({ ...large, batch: 1 }, [8, 8], 4), { channels: 8, size: [8, 8], padding: [1, 1] }, { fours: 1, quads: 1 })
  expect(patches.code).toContain('let dk0 = d4_0 - 2.0 * d2_0;')
  expect(patches.code).toContain('dt1_0 = dk0 + dk1; let dt2_0 = dk0 - dk1;')
  expect(patches.code).toContain('let row = i32(t / 2u) * 4; let column = i32(t % 2u) * 4;')
})
