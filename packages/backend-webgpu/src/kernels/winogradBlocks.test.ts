import { expect, test } from 'vitest'
import type { Target } from '../wgsl/kernel.ts'
import { tileGrid } from './winograd.ts'
import { blockedOutputKernel, blockedPatchesKernel, blockedProductsKernel, blocksFor, cheapestTiles, patchesSize, sideFor } from './winogradBlocks.ts'

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
  expect(output).toContain('if ((row + 1 < 3) & (column + 1 < 5)) { y[at + 6u] = y1_1.x; y[at + 21u] = y1_1.y; y[at + 36u] = y1_1.z; y[at + 51u] = y1_1.w; }')
  expect(output).toContain('let added = vec4<f32>(bias[biasAt + 0u], bias[biasAt + 1u], bias[biasAt + 2u], bias[biasAt + 3u]);')
})

test('blocks waste few tiles and stay within the length of a text', () => {
  const products = { target: talking, arrays: 1, maxUnrolled: 900 }
  expect(blocksFor({ ...products, tiles: 784, computed: 64 })).toEqual({ fours: 8, quads: 4 })
  expect(blocksFor({ ...products, tiles: 49, computed: 256 })).toEqual({ fours: 13, quads: 2 })
  expect(blocksFor({ ...products, tiles: 3, computed: 16 })).toEqual({ fours: 1, quads: 1 })
  const { fours, quads } = blocksFor({ ...products, target: alone, tiles: 784, computed: 64, maxUnrolled: 200 })
  expect(fours * quads * 16).toBeLessThanOrEqual(200)
})

test('kernels of samples with few tiles are mixed as the bases are loaded, for as many samples as there is room for', () => {
  const products = { target: talking, arrays: 8, numBases: 4, maxUnrolled: 900 }
  expect(blocksFor({ ...products, tiles: 196, computed: 64 })).toEqual({ fours: 7, quads: 4 })
  expect(blocksFor({ ...products, tiles: 16, computed: 256 })).toEqual({ fours: 4, quads: 1, samples: 8 })
  expect(blocksFor({ ...products, tiles: 16, computed: 256, arrays: 1 })).toEqual({ fours: 4, quads: 4, samples: 1 })
  expect(blocksFor({ ...products, tiles: 16, computed: 256, numBases: 9 })).not.toHaveProperty('samples')
  const { fours, quads, samples = 0 } = blocksFor({ ...products, tiles: 16, computed: 256, maxUnrolled: 450 })
  expect(quads * samples * (16 * fours + 4 * 4)).toBeLessThanOrEqual(450)
})

test('products that mix: bases once for all samples, patches of a sample before the next ones', () => {
  // 5 samples of 6 tiles by threes of samples, 5 vec4s of kernels by pairs
  const { code, groups, multiplyAdds } = blockedProductsKernel(grid(talking, [4, 6], 5, true), 8, 20, { fours: 1, quads: 2, samples: 3 }, 3)
  expect(code.slice(code.indexOf('  let first'))).toMatchInlineSnapshot(`
    "  let first = (item % 4u) * 2u;
      let at = (item / 4u) % 2u;
      let e = (item / 8u) % 16u;
      let z = (item / 128u) * 3u;
      var pu = e * 40u;
      var pv = ((item / 128u * 2u + at) * 16u + e) * 24u;
      let pi0_0 = pi[(z + 0u) * 3u + 0u]; let pi0_1 = pi[(z + 0u) * 3u + 1u]; let pi0_2 = pi[(z + 0u) * 3u + 2u];
      let pi1_0 = pi[min(z + 1u, 4u) * 3u + 0u]; let pi1_1 = pi[min(z + 1u, 4u) * 3u + 1u]; let pi1_2 = pi[min(z + 1u, 4u) * 3u + 2u];
      let pi2_0 = pi[min(z + 2u, 4u) * 3u + 0u]; let pi2_1 = pi[min(z + 2u, 4u) * 3u + 1u]; let pi2_2 = pi[min(z + 2u, 4u) * 3u + 2u];
      var c0_0 = mat4x4<f32>(); var c0_1 = mat4x4<f32>();
        var c1_0 = mat4x4<f32>(); var c1_1 = mat4x4<f32>();
        var c2_0 = mat4x4<f32>(); var c2_1 = mat4x4<f32>();
      for (var c = 0u; c < 2u; c++) {
        let k0 = pu + min(first + 0u, 4u);
        let w0_0 = mat4x4<f32>(u[k0 + 0u], u[k0 + 5u], u[k0 + 10u], u[k0 + 15u]);
        let w1_0 = mat4x4<f32>(u[k0 + 640u], u[k0 + 645u], u[k0 + 650u], u[k0 + 655u]);
        let w2_0 = mat4x4<f32>(u[k0 + 1280u], u[k0 + 1285u], u[k0 + 1290u], u[k0 + 1295u]);
        let k1 = pu + min(first + 1u, 4u);
        let w0_1 = mat4x4<f32>(u[k1 + 0u], u[k1 + 5u], u[k1 + 10u], u[k1 + 15u]);
        let w1_1 = mat4x4<f32>(u[k1 + 640u], u[k1 + 645u], u[k1 + 650u], u[k1 + 655u]);
        let w2_1 = mat4x4<f32>(u[k1 + 1280u], u[k1 + 1285u], u[k1 + 1290u], u[k1 + 1295u]);
        let s0 = v[pv + 0u + q]; let v0 = mat4x4<f32>(s0, quadSwapX(s0), quadSwapY(s0), quadSwapDiagonal(s0));
        let u0_0 = pi0_0 * w0_0 + pi0_1 * w1_0 + pi0_2 * w2_0;
        let u0_1 = pi0_0 * w0_1 + pi0_1 * w1_1 + pi0_2 * w2_1;
        c0_0 = c0_0 + u0_0 * v0; c0_1 = c0_1 + u0_1 * v0;
        let s1 = v[pv + 4u + q]; let v1 = mat4x4<f32>(s1, quadSwapX(s1), quadSwapY(s1), quadSwapDiagonal(s1));
        let u1_0 = pi1_0 * w0_0 + pi1_1 * w1_0 + pi1_2 * w2_0;
        let u1_1 = pi1_0 * w0_1 + pi1_1 * w1_1 + pi1_2 * w2_1;
        c1_0 = c1_0 + u1_0 * v1; c1_1 = c1_1 + u1_1 * v1;
        let s2 = v[pv + 8u + q]; let v2 = mat4x4<f32>(s2, quadSwapX(s2), quadSwapY(s2), quadSwapDiagonal(s2));
        let u2_0 = pi2_0 * w0_0 + pi2_1 * w1_0 + pi2_2 * w2_0;
        let u2_1 = pi2_0 * w0_1 + pi2_1 * w1_1 + pi2_2 * w2_1;
        c2_0 = c2_0 + u2_0 * v2; c2_1 = c2_1 + u2_1 * v2;
        pu += 20u;
        pv += 12u;
      }
      if (place >= 256u) { return; }
      let tile0_0 = at * 4u + (q ^ 0u) + 0u; let to0_0 = ((z * 6u + tile0_0) * 16u + e) * 5u + first; if (tile0_0 < 6u) { if (first + 0u < 5u) { p[to0_0 + 0u] = c0_0[0]; } if (first + 1u < 5u) { p[to0_0 + 1u] = c0_1[0]; } }
      let tile0_1 = at * 4u + (q ^ 1u) + 0u; let to0_1 = ((z * 6u + tile0_1) * 16u + e) * 5u + first; if (tile0_1 < 6u) { if (first + 0u < 5u) { p[to0_1 + 0u] = c0_0[1]; } if (first + 1u < 5u) { p[to0_1 + 1u] = c0_1[1]; } }
      let tile0_2 = at * 4u + (q ^ 2u) + 0u; let to0_2 = ((z * 6u + tile0_2) * 16u + e) * 5u + first; if (tile0_2 < 6u) { if (first + 0u < 5u) { p[to0_2 + 0u] = c0_0[2]; } if (first + 1u < 5u) { p[to0_2 + 1u] = c0_1[2]; } }
      let tile0_3 = at * 4u + (q ^ 3u) + 0u; let to0_3 = ((z * 6u + tile0_3) * 16u + e) * 5u + first; if (tile0_3 < 6u) { if (first + 0u < 5u) { p[to0_3 + 0u] = c0_0[3]; } if (first + 1u < 5u) { p[to0_3 + 1u] = c0_1[3]; } }
      if ((z + 1u) < 5u) {
      let tile1_0 = at * 4u + (q ^ 0u) + 0u; let to1_0 = (((z + 1u) * 6u + tile1_0) * 16u + e) * 5u + first; if (tile1_0 < 6u) { if (first + 0u < 5u) { p[to1_0 + 0u] = c1_0[0]; } if (first + 1u < 5u) { p[to1_0 + 1u] = c1_1[0]; } }
      let tile1_1 = at * 4u + (q ^ 1u) + 0u; let to1_1 = (((z + 1u) * 6u + tile1_1) * 16u + e) * 5u + first; if (tile1_1 < 6u) { if (first + 0u < 5u) { p[to1_1 + 0u] = c1_0[1]; } if (first + 1u < 5u) { p[to1_1 + 1u] = c1_1[1]; } }
      let tile1_2 = at * 4u + (q ^ 2u) + 0u; let to1_2 = (((z + 1u) * 6u + tile1_2) * 16u + e) * 5u + first; if (tile1_2 < 6u) { if (first + 0u < 5u) { p[to1_2 + 0u] = c1_0[2]; } if (first + 1u < 5u) { p[to1_2 + 1u] = c1_1[2]; } }
      let tile1_3 = at * 4u + (q ^ 3u) + 0u; let to1_3 = (((z + 1u) * 6u + tile1_3) * 16u + e) * 5u + first; if (tile1_3 < 6u) { if (first + 0u < 5u) { p[to1_3 + 0u] = c1_0[3]; } if (first + 1u < 5u) { p[to1_3 + 1u] = c1_1[3]; } }
      }
      if ((z + 2u) < 5u) {
      let tile2_0 = at * 4u + (q ^ 0u) + 0u; let to2_0 = (((z + 2u) * 6u + tile2_0) * 16u + e) * 5u + first; if (tile2_0 < 6u) { if (first + 0u < 5u) { p[to2_0 + 0u] = c2_0[0]; } if (first + 1u < 5u) { p[to2_0 + 1u] = c2_1[0]; } }
      let tile2_1 = at * 4u + (q ^ 1u) + 0u; let to2_1 = (((z + 2u) * 6u + tile2_1) * 16u + e) * 5u + first; if (tile2_1 < 6u) { if (first + 0u < 5u) { p[to2_1 + 0u] = c2_0[1]; } if (first + 1u < 5u) { p[to2_1 + 1u] = c2_1[1]; } }
      let tile2_2 = at * 4u + (q ^ 2u) + 0u; let to2_2 = (((z + 2u) * 6u + tile2_2) * 16u + e) * 5u + first; if (tile2_2 < 6u) { if (first + 0u < 5u) { p[to2_2 + 0u] = c2_0[2]; } if (first + 1u < 5u) { p[to2_2 + 1u] = c2_1[2]; } }
      let tile2_3 = at * 4u + (q ^ 3u) + 0u; let to2_3 = (((z + 2u) * 6u + tile2_3) * 16u + e) * 5u + first; if (tile2_3 < 6u) { if (first + 0u < 5u) { p[to2_3 + 0u] = c2_0[3]; } if (first + 1u < 5u) { p[to2_3 + 1u] = c2_1[3]; } }
      }
    }
    "
  `)
  expect(code).toContain('var<storage, read> pi: array<f32>;')
  // 4 lanes, 2 blocks, 16 elements, 2 groups of samples
  expect(groups).toEqual([8, 1, 1])
  expect(multiplyAdds).toBe(4 * 2 * 16 * 2 * (2 * 3 * 16) * 8)
})

test('products that mix: a lane alone, and samples that divide', () => {
  const { code } = blockedProductsKernel(grid(alone, [4, 4], 4, true), 8, 16, { fours: 1, quads: 1, samples: 2 }, 2)
  expect(code).not.toMatch(/subgroup|quadSwap|if \(\(z/)
  expect(code).toContain('let u1_0 = pi1_0 * w0_0 + pi1_1 * w1_0;')
  expect(code).toContain('let pi1_1 = pi[(z + 1u) * 2u + 1u];')
})

test('patches of samples that are mixed together lie together', () => {
  const odd = grid(talking, [4, 6], 5, true)
  const blocks = { fours: 1, quads: 2, samples: 3 }
  expect(blockedPatchesKernel(odd, { channels: 8, size: [4, 6], padding: [1, 1] }, blocks).code).toContain(
    'let to = (z / 3u * 2u + tileAt / 4u) * 384u + quad * 12u + (z % 3u) * 4u + tileAt % 4u;',
  )
  expect(patchesSize(odd, 8, blocks)).toBe(6 * 16 * 2 * 8)
})

test('tiles of 4 x 4 pixels, but smaller ones where mixing their kernels would cost more than they save', () => {
  const tilesOf = (channels: number, size: number, perSample: boolean): number => {
    const { side } = cheapestTiles({ ...large, target: talking, inChannels: channels, outChannels: channels, inSize: [size, size], outSize: [size, size], perSample }, 'forward')
    return side
  }
  expect([tilesOf(64, 56, false), tilesOf(128, 28, false), tilesOf(256, 14, false), tilesOf(512, 7, false)]).toEqual([4, 4, 4, 4])
  expect([tilesOf(64, 56, true), tilesOf(128, 28, true), tilesOf(256, 14, true), tilesOf(512, 7, true)]).toEqual([4, 4, 4, 2])
  expect(sideFor({ ...large, target: talking, inChannels: 256, outChannels: 256, inSize: [14, 14], outSize: [14, 14], perSample: true }, 'forward', false)).toBe(2)
})

test('a transform of 6 x 6 patches names what its rows share', () => {
  const patches = blockedPatchesKernel(tileGrid({ ...large, batch: 1 }, [8, 8], 4), { channels: 8, size: [8, 8], padding: [1, 1] }, { fours: 1, quads: 1 })
  expect(patches.code).toContain('let dk0 = d4_0 - 2.0 * d2_0;')
  expect(patches.code).toContain('dt1_0 = dk0 + dk1; let dt2_0 = dk0 - dk1;')
  expect(patches.code).toContain('let row = i32(t / 2u) * 4; let column = i32(t % 2u) * 4;')
})
