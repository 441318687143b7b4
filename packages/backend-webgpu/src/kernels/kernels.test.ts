// The texts of a few kernels, as they are: that a change of a generator is seen. Whether they are valid is tested in
// wgsl/validity.test.ts, what they compute on a real adapter.

import { expect, test } from 'vitest'
import { fold, literal, type Target } from '../wgsl/kernel.ts'
import { denseLayout } from '../wgsl/views.ts'
import { backwardAxes, convDirectKernel, forwardAxis, tileFor } from './convDirect.ts'
import { convPlainKernel } from './convPlain.ts'
import type { ConvShape } from './convShape.ts'
import { aggregateKernel } from './dynamic.ts'
import { elementwiseKernel, expressions } from './elementwise.ts'
import { reduceKernel } from './reduce.ts'
import { splitFor } from './tiledGemm.ts'

const software: Target = { f16: false, kind: 'software', tiledMacs: 1, maxGroups: 65535, maxBindings: 8 }
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

test('kernels are mixed in one pass over the bases', () => {
  expect(aggregateKernel({ target: software, dtype: 'float32', batch: 8, numBases: 2, size: 288 }).code).toMatchInlineSnapshot(`
    "@group(0) @binding(0) var<storage, read> bases: array<vec4<f32>>;
    @group(0) @binding(1) var<storage, read> pi: array<f32>;
    @group(0) @binding(2) var<storage, read_write> kernels: array<vec4<f32>>;
    @compute @workgroup_size(64)
    fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
      let item = group.x * 64u + lane;
      if (item >= 72u) { return; }
      let w0 = bases[item + 0u];
      let w1 = bases[item + 72u];
      for (var b = 0u; b < 8u; b++) {
        let v = pi[b * 2u + 0u] * w0 + pi[b * 2u + 1u] * w1;
        kernels[b * 72u + item] = v;
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
      let out = i32(n * 4u + g * 4u + quad * 4u) * 4 + (0 + y0 * 1) * 2 + 0 + x0 * 1;
      { y[out + 0] = a0_0_0.x; y[out + 1] = a0_1_0.x; }
      { y[out + 4] = a0_0_0.y; y[out + 5] = a0_1_0.y; }
      { y[out + 8] = a0_0_0.z; y[out + 9] = a0_1_0.z; }
      { y[out + 12] = a0_0_0.w; y[out + 13] = a0_1_0.w; }
    }
    "
  `)
})

test('tiles waste little and stay within the length of a text', () => {
  const of = (size: number, kernel: number, quads: number): unknown => {
    const s = { ...shape, inSize: [size, size], outSize: [size, size], kernelSize: [kernel, kernel] } as const
    return tileFor(forwardAxis(s, 0), forwardAxis(s, 1), quads)
  }
  expect(of(56, 3, 16)).toEqual({ rows: 7, columns: 7, quads: 2 })
  expect(of(16, 3, 16)).toEqual({ rows: 4, columns: 4, quads: 2 })
  expect(of(7, 3, 1)).toEqual({ rows: 7, columns: 7, quads: 1 })
  expect(of(28, 7, 2)).toMatchObject({ quads: 2 })
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
  expect([splitFor(64, 576, 8 * 784, 1), splitFor(512, 4608, 392, 1), splitFor(64, 64, 512, 1)]).toEqual([24, 1, 1])
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
