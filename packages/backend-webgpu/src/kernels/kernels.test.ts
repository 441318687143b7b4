// The texts of a few kernels, as they are: that a change of a generator is seen. Whether they are valid is tested in
// wgsl/validity.test.ts, what they compute on a real adapter.

import { expect, test } from 'vitest'
import { fold, literal, type Target } from '../wgsl/kernel.ts'
import { denseLayout } from '../wgsl/views.ts'
import { backwardAxes, convDirectKernel, forwardAxis, tileFor, unrollLimit } from './convDirect.ts'
import { convPlainKernel } from './convPlain.ts'
import type { ConvShape } from './convShape.ts'
import { aggregateKernel } from './dynamic.ts'
import { elementwiseKernel, expressions } from './elementwise.ts'
import { matmulKernel } from './matmul.ts'
import { reduceKernel } from './reduce.ts'
import { packedProductKernel, packedSplit } from './registerGemm.ts'
import { stepsKernel } from './steps.ts'
import { splitFor, tilesOf } from './tiledGemm.ts'
import { tileGrid, transformImagesKernel } from './winograd.ts'

const software: Target = { f16: false, subgroups: false, kind: 'software', tiledMacs: 1, maxGroups: 65535, maxBindings: 8 }
const gpu: Target = { ...software, kind: 'gpu', f16: true }

const shape: ConvShape = {
  target: software,
  dtype: 'float32',
  batch: 2,
  inChannels: 4,
  outChannels: 8,
  inSize: [5, 6],
  outSize: [5, 6],
  kernelSize: [3, 3],
  attrs: { stride: [1, 1], padding: [1, 1, 1, 1], dilation: [1, 1], groups: 1 },
  perSample: true,
}

test('a fused group: four elements at a time, a channel read once for them', () => {
  const kernel = elementwiseKernel({
    target: software,
    layouts: [denseLayout([2, 3, 8]), { shape: [2, 3, 8], strides: [0, 1, 0], offset: 0 }],
    dtypes: ['float32', 'float32'],
    members: [
      { name: 'mul', expression: expressions.mul, args: [{ kind: 'input', index: 0 }, { kind: 'input', index: 1 }], dtype: 'float32' },
      { name: 'add', expression: expressions.add, args: [{ kind: 'member', index: 0 }, { kind: 'scalar', value: 0.5, dtype: 'float32' }], dtype: 'float32' },
    ],
    outputs: [1],
    shape: [2, 3, 8],
  })
  expect(kernel.groups).toEqual([1, 1, 1])
  expect(kernel.code).toMatchInlineSnapshot(`
    "@group(0) @binding(0) var<storage, read> in0: array<vec4<f32>>;
    @group(0) @binding(1) var<storage, read> in1: array<f32>;
    @group(0) @binding(2) var<storage, read_write> out0: array<vec4<f32>>;
    @compute @workgroup_size(64)
    fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
      let item = group.x * 64u + lane;
      if (item >= 12u) { return; }
      let flat = item * 4u;
      let c2 = i32(flat % 8u); let cq2 = flat / 8u;
      let c1 = i32(cq2 % 3u); let cq1 = cq2 / 3u;
      let c0 = i32(cq1);
      let x0 = in0[(c0 * 24 + c1 * 8 + c2) / 4];
      let x1 = vec4<f32>(in1[c1]);
      let v0 = x0 * x1;
      var s1_1 = vec4<f32>(0.5f);
      let v1 = v0 + s1_1;
      out0[item] = v1;
    }
    "
  `)
})

test('float16 is stored in 16 bits where the adapter can, and rounded by hand elsewhere', () => {
  const group = {
    layouts: [denseLayout([6])],
    dtypes: ['float16' as const],
    members: [{ name: 'exp', expression: expressions.exp, args: [{ kind: 'input' as const, index: 0 }], dtype: 'float16' as const }],
    outputs: [0],
    shape: [6],
  }
  expect(elementwiseKernel({ ...group, target: gpu }).code).toMatchInlineSnapshot(`
    "enable f16;
    @group(0) @binding(0) var<storage, read> in0: array<f16>;
    @group(0) @binding(1) var<storage, read_write> out0: array<f16>;
    fn isNan(x: f32) -> bool { return (bitcast<u32>(x) & 0x7fffffffu) > 0x7f800000u; }
    fn exponential(x: f32) -> f32 { return select(exp(x), x, isNan(x)); }
    @compute @workgroup_size(64)
    fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
      let item = group.x * 64u + lane;
      if (item >= 6u) { return; }
      let x0 = f32(in0[item]);
      let v0 = f32(f16(exponential(x0)));
      out0[item] = f16(v0);
    }
    "
  `)
  expect(elementwiseKernel({ ...group, target: software }).code).toContain('fn half(x: f32) -> f32')
})

test('ops that round once are computed in float16 where the adapter can', () => {
  const group = {
    layouts: [denseLayout([8])],
    dtypes: ['float16' as const],
    members: [
      { name: 'mul', expression: expressions.mul, args: [{ kind: 'input' as const, index: 0 }, { kind: 'scalar' as const, value: 0.1, dtype: 'float16' as const }], dtype: 'float16' as const },
      { name: 'relu', expression: expressions.relu, args: [{ kind: 'member' as const, index: 0 }], dtype: 'float16' as const },
    ],
    outputs: [1],
    shape: [8],
    target: gpu,
  }
  expect(elementwiseKernel(group).code).toMatchInlineSnapshot(`
    "enable f16;
    @group(0) @binding(0) var<storage, read> in0: array<vec4<f16>>;
    @group(0) @binding(1) var<storage, read_write> out0: array<vec4<f16>>;
    fn isNan4(x: vec4<f32>) -> vec4<bool> { return (bitcast<vec4<u32>>(x) & vec4<u32>(0x7fffffffu)) > vec4<u32>(0x7f800000u); }
    fn largerHalf4(a: vec4<f16>, b: vec4<f16>) -> vec4<f16> { return select(select(select(a, b, b > a), b, isNan4(vec4<f32>(b))), a, isNan4(vec4<f32>(a))); }
    @compute @workgroup_size(64)
    fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
      let item = group.x * 64u + lane;
      if (item >= 2u) { return; }
      let x0 = in0[item];
      var s0_1 = vec4<f16>(f16(0.10000000149011612f));
      let v0 = x0 * s0_1;
      let v1 = largerHalf4(v0, vec4<f16>(f16(0f)));
      out0[item] = v1;
    }
    "
  `)
  const [first, second] = group.members
  const large = { ...first!, args: [first!.args[0]!, { kind: 'scalar' as const, value: 1e5, dtype: 'float16' as const }] }
  expect(elementwiseKernel({ ...group, members: [large, second!] }).code).toContain('let x0 = vec4<f32>(in0[item]);')
})

test('a reduction: alone on a processor, by 64 lanes on a card', () => {
  const reduction = { op: 'reduceSum' as const, dtype: 'float32' as const, layout: denseLayout([3, 256]), axes: [1] }
  expect(reduceKernel({ ...reduction, target: software }).code).toMatchInlineSnapshot(`
    "@group(0) @binding(0) var<storage, read> x: array<f32>;
    @group(0) @binding(1) var<storage, read_write> y: array<f32>;
    @compute @workgroup_size(64)
    fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
      let item = group.x * 64u + lane;
      if (item >= 3u) { return; }
      let row = item;
      let first = 0u;
      let k0 = i32(row);
      let base = k0 * 256;
      var sum = f32(0);
      var sum1 = f32(0);
      var sum2 = f32(0);
      var sum3 = f32(0);
      for (var r0 = 0; r0 < 256; r0 += 4) { let at = base + r0 * 1; sum = sum + x[at + 0]; sum1 = sum1 + x[at + 1]; sum2 = sum2 + x[at + 2]; sum3 = sum3 + x[at + 3]; }
      sum = (sum + sum1) + (sum2 + sum3);

      { y[row] = sum; }
    }
    "
  `)
  expect(reduceKernel({ ...reduction, target: gpu }).code).toMatchInlineSnapshot(`
    "@group(0) @binding(0) var<storage, read> x: array<f32>;
    @group(0) @binding(1) var<storage, read_write> y: array<f32>;
    var<workgroup> lanes: array<f32, 64>;
    @compute @workgroup_size(64)
    fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
      let row = group.x;
      let first = lane;
      if (row >= 3u) { return; }
      let k0 = i32(row);
      let base = k0 * 256;
      var sum = f32(0);
      for (var r = first; r < 256u; r += 64u) {
        let r0 = i32(r);
        sum = sum + x[base + r0];
      }
      lanes[lane] = sum;
      workgroupBarrier();
      for (var h = 32u; h > 0u; h = h / 2u) {
        if (lane < h) { lanes[lane] = lanes[lane] + lanes[lane + h]; }
        workgroupBarrier();
      }
      sum = lanes[0];
      workgroupBarrier();
      if (lane == 0u) { y[row] = sum; }
    }
    "
  `)
})

test('where subgroups can, one value of each goes through memory', () => {
  const reduction = { op: 'reduceMax' as const, dtype: 'float32' as const, layout: denseLayout([3, 256]), axes: [1] }
  expect(reduceKernel({ ...reduction, target: { ...gpu, subgroups: true } }).code).toMatchInlineSnapshot(`
    "enable subgroups;
    requires subgroup_id;
    @group(0) @binding(0) var<storage, read> x: array<f32>;
    @group(0) @binding(1) var<storage, read_write> y: array<f32>;
    fn isNan(x: f32) -> bool { return (bitcast<u32>(x) & 0x7fffffffu) > 0x7f800000u; }
    fn larger(a: f32, b: f32) -> f32 { return select(select(select(a, b, b > a), b, isNan(b)), a, isNan(a)); }
    var<workgroup> lanes: array<f32, 64>;
    @compute @workgroup_size(64)
    fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32, @builtin(subgroup_id) subgroup: u32, @builtin(num_subgroups) subgroups: u32, @builtin(subgroup_size) subgroupSize: u32, @builtin(subgroup_invocation_id) subgroupLane: u32) {
      let row = group.x;
      let first = lane;
      if (row >= 3u) { return; }
      let k0 = i32(row);
      let base = k0 * 256;
      var sum = x[base];
      for (var r = first; r < 256u; r += 64u) {
        let r0 = i32(r);
        sum = larger(sum, x[base + r0]);
      }
      for (var h = subgroupSize / 2u; h > 0u; h = h / 2u) { let other = subgroupShuffleXor(sum, h); sum = larger(sum, other); }
      if (subgroupLane == 0u) { lanes[subgroup] = sum; }
      workgroupBarrier();
      sum = lanes[0];
      for (var s = 1u; s < subgroups; s++) { sum = larger(sum, lanes[s]); }
      workgroupBarrier();
      if (lane == 0u) { y[row] = sum; }
    }
    "
  `)
})

test('kernels are mixed in one pass over the bases', () => {
  expect(aggregateKernel({ target: software, dtype: 'float32', batch: 8, numBases: 8, size: 300 }).code).toMatchInlineSnapshot(`
    "@group(0) @binding(0) var<storage, read> bases: array<vec4<f32>>;
    @group(0) @binding(1) var<storage, read> pi: array<f32>;
    @group(0) @binding(2) var<storage, read_write> kernels: array<vec4<f32>>;
    @compute @workgroup_size(64)
    fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
      let item = group.x * 64u + lane;
      if (item >= 38u) { return; }
      let i0 = item + 0u;
      let i1 = min(item + 38u, 74u);
      let w0_0 = bases[i0 + 0u]; let w1_0 = bases[i0 + 75u]; let w2_0 = bases[i0 + 150u]; let w3_0 = bases[i0 + 225u]; let w4_0 = bases[i0 + 300u]; let w5_0 = bases[i0 + 375u]; let w6_0 = bases[i0 + 450u]; let w7_0 = bases[i0 + 525u];
      let w0_1 = bases[i1 + 0u]; let w1_1 = bases[i1 + 75u]; let w2_1 = bases[i1 + 150u]; let w3_1 = bases[i1 + 225u]; let w4_1 = bases[i1 + 300u]; let w5_1 = bases[i1 + 375u]; let w6_1 = bases[i1 + 450u]; let w7_1 = bases[i1 + 525u];
      for (var b = 0u; b < 8u; b++) {
        let p0 = pi[b * 8u + 0u]; let p1 = pi[b * 8u + 1u]; let p2 = pi[b * 8u + 2u]; let p3 = pi[b * 8u + 3u]; let p4 = pi[b * 8u + 4u]; let p5 = pi[b * 8u + 5u]; let p6 = pi[b * 8u + 6u]; let p7 = pi[b * 8u + 7u];
        kernels[b * 75u + i0] = p0 * w0_0 + p1 * w1_0 + p2 * w2_0 + p3 * w3_0 + p4 * w4_0 + p5 * w5_0 + p6 * w6_0 + p7 * w7_0;
        if (item + 38u < 75u) { kernels[b * 75u + i1] = p0 * w0_1 + p1 * w1_1 + p2 * w2_1 + p3 * w3_1 + p4 * w4_1 + p5 * w5_1 + p6 * w6_1 + p7 * w7_1; }
      }
    }
    "
  `)
})

test('a convolution without tiles, with a weight for each sample', () => {
  expect(convPlainKernel(shape, 'none').code).toMatchInlineSnapshot(`
    "@group(0) @binding(0) var<storage, read> x: array<f32>;
    @group(0) @binding(1) var<storage, read> w: array<f32>;
    @group(0) @binding(2) var<storage, read_write> y: array<f32>;
    @compute @workgroup_size(64)
    fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
      let item = group.x * 64u + lane;
      if (item >= 480u) { return; }
      let q = i32(item % 6u);
      let p = i32((item / 6u) % 5u);
      let o = i32((item / 30u) % 8u);
      let n = i32(item / 240u);
      let y0 = p * 1 - 1;
      let x0 = q * 1 - 1;
      var xi = (n * 4 + (o / 8) * 4) * 30;
      var wi = n * 288 + o * 36;
      var sum = 0.0;
      for (var i = 0; i < 4; i++) {
        for (var r = 0; r < 3; r++) {
          let h = y0 + r * 1;
          for (var s = 0; s < 3; s++) {
            let c = x0 + s * 1;
            let inside = (h >= 0) & (h < 5) & (c >= 0) & (c < 6);
            if (inside) { sum += x[xi + h * 6 + c] * w[wi + r * 3 + s]; }
          }
        }
        xi += 30;
        wi += 9;
      }
      y[item] = sum;
    }
    "
  `)
})

test('a convolution in registers: 1 x 1, its text short enough to read', () => {
  const one = { ...shape, kernelSize: [1, 1], attrs: { ...shape.attrs, padding: [0, 0, 0, 0] }, inSize: [2, 2], outSize: [2, 2], inChannels: 3, outChannels: 4 } as const
  const [rows, columns] = [forwardAxis(one, 0), forwardAxis(one, 1)]
  expect(convDirectKernel({ shape: one, direction: 'forward', rows, columns, tile: { rows: 1, columns: 2, quads: 1 }, bias: 'none' }).code).toMatchInlineSnapshot(`
    "@group(0) @binding(0) var<storage, read> x: array<f32>;
    @group(0) @binding(1) var<storage, read> w: array<vec4<f32>>;
    @group(0) @binding(2) var<storage, read_write> y: array<f32>;
    @compute @workgroup_size(32)
    fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
      let item = group.x * 32u + lane;
      if (item >= 2u) { return; }
      let quad = (item % 1u) * 1u;
      let tileAt = item / 1u;
      let y0 = i32(tileAt / 1u) * 1;
      let x0 = i32(tileAt % 1u) * 2;
      let n = group.y / 1u;
      let g = group.y % 1u;
      let row0 = (y0 * 1 + 0) * 2;
      let column0 = (x0 * 1 + 0);
      let column1 = (x0 * 1 + 1);
      let bias0 = vec4<f32>(0.0);
      var a0_0_0 = bias0; var a0_1_0 = bias0;
      var xi = i32(group.y) * 12;
      var wi = n * 3u + g * 3u + quad;
      for (var i = 0; i < 3; i += 1) {
        {
          let w0_0 = w[wi + 0u];
          let v0_0 = x[xi + 0 + row0 + column0];
          a0_0_0 += v0_0 * w0_0;
          let v0_1 = x[xi + 0 + row0 + column1];
          a0_1_0 += v0_1 * w0_0;
        }
        xi += 4;
        wi += 1u;
      }
      let out = (n * 4u + g * 4u + quad * 4u) * 4u + u32((0 + y0 * 1) * 2 + 0 + x0 * 1);
      { y[out + 0u] = a0_0_0.x; y[out + 1u] = a0_1_0.x; }
      { y[out + 4u] = a0_0_0.y; y[out + 5u] = a0_1_0.y; }
      { y[out + 8u] = a0_0_0.z; y[out + 9u] = a0_1_0.z; }
      { y[out + 12u] = a0_0_0.w; y[out + 13u] = a0_1_0.w; }
    }
    "
  `)
})

test('a packed product, its sum in two parts', () => {
  const product = { target: software, label: 'product', batches: 16, rows: 4, columns: 6, inner: 10, split: 2 }
  expect(packedProductKernel(product).code).toMatchInlineSnapshot(`
    "@group(0) @binding(0) var<storage, read> a: array<vec4<f32>>;
    @group(0) @binding(1) var<storage, read> b: array<vec4<f32>>;
    @group(0) @binding(2) var<storage, read_write> c: array<vec4<f32>>;
    @compute @workgroup_size(16)
    fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
      let item = group.x * 16u + lane;
      if (item >= 32u) { return; }
      let n0 = (item % 1u) * 2u;
      let m0 = ((item / 1u) % 1u) * 1u;
      let z = (item / 1u) % 16u;
      let part = item / 16u;
      let begin = part * 5u;
      let last = min(begin + 5u, 10u);
      var pa = (z * 10u + begin) * 1u;
      var pb = (z * 10u + begin) * 2u;
      var c0_0 = vec4<f32>(0.0); var c0_1 = vec4<f32>(0.0); var c1_0 = vec4<f32>(0.0); var c1_1 = vec4<f32>(0.0); var c2_0 = vec4<f32>(0.0); var c2_1 = vec4<f32>(0.0); var c3_0 = vec4<f32>(0.0); var c3_1 = vec4<f32>(0.0);
      var k = begin;
      let whole = begin + ((last - begin) / 2u) * 2u;
      for (; k < whole; k += 2u) {
        { let a0 = a[pa + 0u + (m0 + 0u)]; let b0 = b[pb + 0u + (n0 + 0u)]; let b1 = b[pb + 0u + (n0 + 1u)];
          c0_0 += a0.x * b0; c0_1 += a0.x * b1; c1_0 += a0.y * b0; c1_1 += a0.y * b1; c2_0 += a0.z * b0; c2_1 += a0.z * b1; c3_0 += a0.w * b0; c3_1 += a0.w * b1; }
        { let a0 = a[pa + 1u + (m0 + 0u)]; let b0 = b[pb + 2u + (n0 + 0u)]; let b1 = b[pb + 2u + (n0 + 1u)];
          c0_0 += a0.x * b0; c0_1 += a0.x * b1; c1_0 += a0.y * b0; c1_1 += a0.y * b1; c2_0 += a0.z * b0; c2_1 += a0.z * b1; c3_0 += a0.w * b0; c3_1 += a0.w * b1; }
        pa += 2u; pb += 4u;
      }
      for (; k < last; k++) {
        { let a0 = a[pa + 0u + (m0 + 0u)]; let b0 = b[pb + 0u + (n0 + 0u)]; let b1 = b[pb + 0u + (n0 + 1u)];
          c0_0 += a0.x * b0; c0_1 += a0.x * b1; c1_0 += a0.y * b0; c1_1 += a0.y * b1; c2_0 += a0.z * b0; c2_1 += a0.z * b1; c3_0 += a0.w * b0; c3_1 += a0.w * b1; }
        pa += 1u; pb += 2u;
      }
      let to = ((part * 16u + z) * 4u + m0 * 4u) * 2u + n0;
      c[to + 0u] = c0_0; c[to + 1u] = c0_1; c[to + 2u] = c1_0; c[to + 3u] = c1_1; c[to + 4u] = c2_0; c[to + 5u] = c2_1; c[to + 6u] = c3_0; c[to + 7u] = c3_1;
    }
    "
  `)
  expect(packedSplit({ rows: 16, columns: 16, inner: 4096, batches: 16 }, 256)).toBe(16)
  expect(packedSplit({ rows: 512, columns: 512, inner: 128, batches: 16 }, 256)).toBe(1)
})

test('tiles of dy, transformed', () => {
  const grid = tileGrid({ ...shape, perSample: false }, [5, 6], 2)
  expect(transformImagesKernel(grid, { channels: 8, size: [5, 6] }, 'channel').code).toMatchInlineSnapshot(`
    "@group(0) @binding(0) var<storage, read> x: array<f32>;
    @group(0) @binding(1) var<storage, read_write> v: array<f32>;
    @compute @workgroup_size(64)
    fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
      let item = group.x * 64u + lane;
      if (item >= 144u) { return; }
      let c = item % 8u; let t = (item / 8u) % 9u;
      let n = item / 72u;
      let tileAt = n * 9u + t;
      let z = 0u;
      let row = i32(t / 3u) * 2; let column = i32(t % 3u) * 2;
      let plane = i32(n * 8u + c) * 30;
      let rowOk0 = (row + 0 >= 0) & (row + 0 < 5); let row0 = clamp(row + 0, 0, 4) * 6;
      let rowOk1 = (row + 1 >= 0) & (row + 1 < 5); let row1 = clamp(row + 1, 0, 4) * 6;
      let columnOk0 = (column + 0 >= 0) & (column + 0 < 6); let column0 = clamp(column + 0, 0, 5);
      let columnOk1 = (column + 1 >= 0) & (column + 1 < 6); let column1 = clamp(column + 1, 0, 5);
      let d0_0 = select(0.0, x[plane + row0 + column0], rowOk0 & columnOk0);
      let d0_1 = select(0.0, x[plane + row0 + column1], rowOk0 & columnOk1);
      let d1_0 = select(0.0, x[plane + row1 + column0], rowOk1 & columnOk0);
      let d1_1 = select(0.0, x[plane + row1 + column1], rowOk1 & columnOk1);
      let dt0_0 = d0_0; let dt1_0 = d0_0 + d1_0; let dt2_0 = d0_0 - d1_0; let dt3_0 = -d1_0;
      let dt0_1 = d0_1; let dt1_1 = d0_1 + d1_1; let dt2_1 = d0_1 - d1_1; let dt3_1 = -d1_1;
      let to = z * 2304u + tileAt * 8u + c;
      v[to + 0u] = dt0_0;
      v[to + 144u] = dt0_0 + dt0_1;
      v[to + 288u] = dt0_0 - dt0_1;
      v[to + 432u] = -dt0_1;
      v[to + 576u] = dt1_0;
      v[to + 720u] = dt1_0 + dt1_1;
      v[to + 864u] = dt1_0 - dt1_1;
      v[to + 1008u] = -dt1_1;
      v[to + 1152u] = dt2_0;
      v[to + 1296u] = dt2_0 + dt2_1;
      v[to + 1440u] = dt2_0 - dt2_1;
      v[to + 1584u] = -dt2_1;
      v[to + 1728u] = dt3_0;
      v[to + 1872u] = dt3_0 + dt3_1;
      v[to + 2016u] = dt3_0 - dt3_1;
      v[to + 2160u] = -dt3_1;
    }
    "
  `)
})

test('tiles waste little and stay within the length of a text', () => {
  const of = (size: number, kernel: number, quads: number): unknown => {
    const s = { ...shape, inSize: [size, size], outSize: [size, size], kernelSize: [kernel, kernel] } as const
    return tileFor(forwardAxis(s, 0), forwardAxis(s, 1), quads, 900)
  }
  expect(of(56, 3, 16)).toEqual({ rows: 7, columns: 7, quads: 2 })
  expect(of(16, 3, 16)).toEqual({ rows: 4, columns: 8, quads: 2 })
  expect(of(7, 3, 1)).toEqual({ rows: 7, columns: 7, quads: 1 })
  const small = tileFor(forwardAxis({ ...shape, outSize: [16, 16] }, 0), forwardAxis({ ...shape, outSize: [16, 16] }, 1), 4, unrollLimit(shape))
  expect(9 * small.rows * small.columns * small.quads).toBeLessThanOrEqual(450)
  expect(of(28, 7, 2)).toEqual({ rows: 4, columns: 4, quads: 1 })
})

test('the phases of an input gradient share out pixels and taps', () => {
  const strided = { ...shape, inSize: [7, 8], outSize: [4, 4], attrs: { ...shape.attrs, stride: [2, 2] } } as const
  const phases = backwardAxes(strided, 0)
  expect(phases.map((p) => [p.outStart, p.outStep, p.count, p.taps])).toEqual([
    [0, 2, 4, [{ tap: 1, offset: 0 }]],
    [1, 2, 3, [{ tap: 0, offset: 1 }, { tap: 2, offset: 0 }]],
  ])
})

test('sums are cut where a card would be idle', () => {
  expect([splitFor(tilesOf(64, 576, 1), 8 * 784), splitFor(tilesOf(512, 4608, 1), 392), splitFor(tilesOf(64, 64, 1), 512), splitFor(tilesOf(64, 64, 1), 300)]).toEqual([24, 1, 2, 1])
})

test('grids fold at the limit of a dimension', () => {
  expect(fold(70000, software)).toEqual({ width: 35000, groups: [35000, 2, 1] })
  expect(fold(10, software)).toEqual({ width: 10, groups: [10, 1, 1] })
})

test('numbers that WGSL has no literals for come from bits', () => {
  expect([1, -0.5, 1e-50, 3e38, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY, Number.NaN].map((x) => literal(x, 'float32'))).toEqual([
    '1f',
    '(-0.5f)',
    '0f',
    '3.0000000054977558e+38f',
    'bitcast<f32>(infinityBits)',
    '(-bitcast<f32>(infinityBits))',
    'bitcast<f32>(nanBits)',
  ])
  expect(literal(-(2 ** 31), 'int32')).toBe('i32(-2147483647 - 1)')
})

test('small kernels as steps of one: elements of arrays that they share', () => {
  const target = { ...gpu, f16: false }
  const product = matmulKernel({ target, dtype: 'float32', a: denseLayout([2, 3]), b: denseLayout([3, 1]), shape: [2, 1], inner: 3 })
  const chain = elementwiseKernel({
    target,
    layouts: [denseLayout([2])],
    dtypes: ['float32'],
    members: [{ name: 'neg', expression: expressions.neg, args: [{ kind: 'input', index: 0 }], dtype: 'float32' }],
    outputs: [0],
    shape: [2],
  })
  const [first, second] = [product.items?.(), chain.items?.()]
  if (!first || !second) throw new Error('both may be steps')
  const kernel = stepsKernel(
    target,
    [
      { label: 'product', items: first, arrays: [0, 1, 2], waits: false },
      { label: 'chain', items: second, arrays: [2, 2], waits: true },
    ],
    [
      { dtype: 'float32', access: 'read' },
      { dtype: 'float32', access: 'read' },
      { dtype: 'float32', access: 'read_write' },
    ],
  )
  expect([kernel.label, kernel.groups, kernel.access]).toEqual(['product, chain', [1, 1, 1], ['read', 'read', 'read_write', 'read']])
  expect(kernel.code).toMatchInlineSnapshot(`
    "@group(0) @binding(0) var<storage, read> array0: array<f32>;
    @group(0) @binding(1) var<storage, read> array1: array<f32>;
    @group(0) @binding(2) var<storage, read_write> array2: array<f32>;
    @group(0) @binding(3) var<storage, read> starts: array<i32>;
    var<private> start0_0: u32;
    var<private> start0_1: u32;
    var<private> start0_2: u32;
    var<private> start1_0: u32;
    var<private> start1_1: u32;
    fn step0(item: u32) {
      let n0 = i32(item % 1u) * 4;
      let m0 = i32((item / 1u) % 1u) * 2;
      let z = item / 1u;
      
      let za = 0;
      let zb = 0;
      let am0 = za + min(m0 + 0, 1) * 3;
      let am1 = za + min(m0 + 1, 1) * 3;
      let bn0 = zb + min(n0 + 0, 0) * 1;
      let bn1 = zb + min(n0 + 1, 0) * 1;
      let bn2 = zb + min(n0 + 2, 0) * 1;
      let bn3 = zb + min(n0 + 3, 0) * 1;
      var c0_0 = vec4<f32>(0.0); var c1_0 = vec4<f32>(0.0);
      for (var k = 0; k < 3; k += 3) {
        { let a0 = array0[start0_0 + u32(am0 + (k + 0) * 1)]; let a1 = array0[start0_0 + u32(am1 + (k + 0) * 1)]; let b0 = vec4<f32>(array1[start0_1 + u32(bn0 + (k + 0) * 1)], array1[start0_1 + u32(bn1 + (k + 0) * 1)], array1[start0_1 + u32(bn2 + (k + 0) * 1)], array1[start0_1 + u32(bn3 + (k + 0) * 1)]); c0_0 += a0 * b0; c1_0 += a1 * b0; }
        { let a0 = array0[start0_0 + u32(am0 + (k + 1) * 1)]; let a1 = array0[start0_0 + u32(am1 + (k + 1) * 1)]; let b0 = vec4<f32>(array1[start0_1 + u32(bn0 + (k + 1) * 1)], array1[start0_1 + u32(bn1 + (k + 1) * 1)], array1[start0_1 + u32(bn2 + (k + 1) * 1)], array1[start0_1 + u32(bn3 + (k + 1) * 1)]); c0_0 += a0 * b0; c1_0 += a1 * b0; }
        { let a0 = array0[start0_0 + u32(am0 + (k + 2) * 1)]; let a1 = array0[start0_0 + u32(am1 + (k + 2) * 1)]; let b0 = vec4<f32>(array1[start0_1 + u32(bn0 + (k + 2) * 1)], array1[start0_1 + u32(bn1 + (k + 2) * 1)], array1[start0_1 + u32(bn2 + (k + 2) * 1)], array1[start0_1 + u32(bn3 + (k + 2) * 1)]); c0_0 += a0 * b0; c1_0 += a1 * b0; }
      }

      let to = z * 2u + u32(m0 * 1 + n0);
      if (m0 + 0 < 2 && n0 + 0 < 1) { array2[start0_2 + u32(to + 0u)] = c0_0.x; }
      if (m0 + 0 < 2 && n0 + 1 < 1) { array2[start0_2 + u32(to + 1u)] = c0_0.y; }
      if (m0 + 0 < 2 && n0 + 2 < 1) { array2[start0_2 + u32(to + 2u)] = c0_0.z; }
      if (m0 + 0 < 2 && n0 + 3 < 1) { array2[start0_2 + u32(to + 3u)] = c0_0.w; }
      if (m0 + 1 < 2 && n0 + 0 < 1) { array2[start0_2 + u32(to + 1u)] = c1_0.x; }
      if (m0 + 1 < 2 && n0 + 1 < 1) { array2[start0_2 + u32(to + 2u)] = c1_0.y; }
      if (m0 + 1 < 2 && n0 + 2 < 1) { array2[start0_2 + u32(to + 3u)] = c1_0.z; }
      if (m0 + 1 < 2 && n0 + 3 < 1) { array2[start0_2 + u32(to + 4u)] = c1_0.w; }
    }
    fn step1(item: u32) {
      let x0 = array2[start1_0 + u32(item)];
      let v0 = -x0;
      array2[start1_1 + u32(item)] = v0;
    }
    @compute @workgroup_size(64)
    fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
      start0_0 = u32(starts[0]);
      start0_1 = u32(starts[1]);
      start0_2 = u32(starts[2]);
      start1_0 = u32(starts[3]);
      start1_1 = u32(starts[4]);
      if (lane < 1u) { step0(lane); }
      storageBarrier();
      if (lane < 2u) { step1(lane); }
    }
    "
  `)
})

test('what a step does otherwise than by element is refused', () => {
  const items = { count: 1, iterations: 1, bindings: [{ name: 'x', dtype: 'float32' as const }], declarations: '', body: '  let n = arrayLength(&x);' }
  expect(() => stepsKernel(gpu, [{ label: 'length', items, arrays: [0], waits: false }], [{ dtype: 'float32', access: 'read' }])).toThrow('webgpu: a step reads x otherwise than by element')
})
