// Dynamic convolution: each sample b is convolved with its own kernel, a mixture of K bases by its attention pi_b
// (Yang et al. 2019, CondConv; Chen et al. 2020, Dynamic Convolution):
//
//   y_b = (sum_k pi_bk W_k) conv x_b + sum_k pi_bk c_k
//   x [B, I, H, W], bases W [K, O, I/g, kh, kw], pi [B, K], bias c [K, O], y [B, O, P, Q]
//
// How pi comes about (the routing) is a layer's business. The op and its two gradients stay whole in the graph until a
// backend lowers them, for the faster of two equal forms depends on shape and engine
// (dynamicConvForms.ts has both). With n = O * I/g * kh * kw:
//
//   kernels   aggregate V_b = sum_k pi_bk W_k, one matmul [B, K] x [K, n]; then one convolution with B g groups, the
//             samples side by side as channels [1, B I, H, W]. Extra memory B n. The batch must be known.
//   outputs   Y_bk = W_k conv x_b, one convolution with K times the channels and constant weights; then
//             y_b = sum_k pi_bk Y_bk. Extra memory B K O P Q. The batch may be a name.
//
// Gradients, given dY, from those of an ordinary convolution (conv.ts) of one sample:
//   dX_b = inputGrad(dY_b, V_b)                                   dynamicConv2dInputGrad
//        = inputGrad([pi_bk dY_b]_k, [W_k]_k)                     in form outputs, since inputGrad is linear
//   dV_b = filterGrad(x_b, dY_b), and V = pi . W gives            dynamicConv2dKernelGrad
//   dW = pi^T . dV [K, n],  dpi = dV . W^T [B, K]                 form kernels: B n of memory, or `chunk` n by streaming
//   dW_k = filterGrad(x, pi_k dY),  dpi_bk = <Y_bk, dY_b>         form outputs
// and by the bias, with S = dY summed over pixels [B, O]: dc = pi^T . S, and S . c^T adds to dpi.

import { ShapeError, ValueError } from '../backend/errors.ts'
import { checkDType } from '../tensor/dtype.ts'
import { type Dim, formatShape, known, sameShape, type StaticShape, sizeOf } from '../tensor/shape.ts'
import { only, type Tensor } from '../tensor/tensor.ts'
import type { DynamicConv2dAttrs, DynamicConvForm } from './attrs.ts'
import { checkInt, checkInts, floats, sameDType, take } from './checks.ts'
import { checkGradSize, checkImages, checkSameBatch, outputSize } from './checks2d.ts'
import { checkGroups, checkInPerGroup, checkOutChannels, type Conv2dOptions, convAttrs, convOps, inputGradShape, type Kernels, pixels } from './conv.ts'
import { defineOp, type OpTable, type RefTensor, type ValueType } from './define.ts'
import { isOutputs, mixedConv, mixedInputGrad, mixedKernelGrad } from './dynamicConvForms.ts'
import { addAt, at, refTensor } from './refs.ts'

/** How `dynamicConv2d` walks and is computed. */
export interface DynamicConv2dOpOptions extends Omit<Conv2dOptions, 'bias'> {
  /** [K, O] */
  readonly bias?: Tensor | undefined
  /** auto unless given: the plan chooses. */
  readonly form?: DynamicConvForm
}

/**
 * Each sample of `x` [B, I, H, W] convolved with its own mixture, weighted by `pi` [B, K], of the kernels `bases`
 * [K, O, I/groups, kh, kw] (and of the biases [K, O]): [B, O, OH, OW].
 *
 * @example dynamicConv2d(x, bases, pi, { padding: 1 })
 * @throws ShapeError when channels, groups, bases or sizes do not fit, or the images have no pixels; ValueError for a padding that cannot be understood
 */
export function dynamicConv2d(x: Tensor, bases: Tensor, pi: Tensor, options: DynamicConv2dOpOptions = {}): Tensor {
  const attrs = { ...convAttrs('dynamicConv2d', bases, options), form: options.form ?? 'auto' }
  return only(x.graph.emit('dynamicConv2d', attrs, options.bias ? [x, bases, pi, options.bias] : [x, bases, pi]))
}

type DynamicName = 'dynamicConv2d' | 'dynamicConv2dInputGrad' | 'dynamicConv2dKernelGrad'

/** The definitions. */
export const dynamicConvOps: Pick<OpTable, DynamicName> = {
  dynamicConv2d: defineOp({
    name: 'dynamicConv2d',
    infer: (attrs, inputs) => {
      const who = 'dynamicConv2d'
      const names = ['x', 'bases', 'pi', 'bias'] as const
      const [x, bases, pi, bias] = inputs.length === 3 ? take(who, inputs, 'x', 'bases', 'pi') : take(who, inputs, ...names)
      const dtype = sameDType(who, names, inputs)
      const images = checkImages(who, 'x', x)
      const kernels = checkMixture(who, attrs, bases, pi, 'x', images.batch)
      checkGroups(who, attrs.groups, images.channels, kernels.outChannels)
      checkInPerGroup(who, 'bases', kernels, images.channels, attrs.groups)
      if (bias && !sameShape(bias.shape, [kernels.count, kernels.outChannels])) {
        throw new ShapeError(`${who}: bias must be [${kernels.count}, ${kernels.outChannels}], got ${formatShape(bias.shape)}`)
      }
      const size = outputSize(who, images.size, { ...attrs, kernelSize: kernels.size })
      return { dtype, shape: [images.batch, kernels.outChannels, ...size] }
    },
    gradient: ({ attrs, inputs, grad, needs }) => {
      const [x, bases, pi] = take('dynamicConv2d', inputs.slice(0, 3), 'x', 'bases', 'pi')
      const bias = inputs[3]
      const dx = needs[0] ? only(x.graph.emit('dynamicConv2dInputGrad', { ...attrs, inputSize: pixels(x) }, [grad, bases, pi])) : undefined
      const [dBases, dMixture] =
        needs[1] || needs[2]
          ? x.graph.emit('dynamicConv2dKernelGrad', { ...attrs, kernelSize: pixels(bases), chunk: 0 }, [x, grad, bases, pi])
          : []
      if (!bias) return [dx, dBases, dMixture]
      const perChannel = grad.sum([2, 3])
      const dPi = needs[2] ? dMixture?.add(perChannel.matmul(bias, { transposeB: true })) : undefined
      return [dx, dBases, dPi, needs[3] ? pi.matmul(perChannel, { transposeA: true }) : undefined]
    },
    reference: (attrs, inputs, [output]) => {
      const [x, bases, pi] = take('dynamicConv2d', inputs.slice(0, 3), 'x', 'bases', 'pi')
      const bias = inputs[3]
      if (!output) throw new RangeError('dynamicConv2d: the reference needs the output type')
      const y = refTensor(output.shape)
      const one = { dtype: output.dtype, shape: [1, ...output.shape.slice(1)] }
      forEachSample(y, (b, sample) => {
        const shared = bias ? [mixture(bias, pi, b)] : []
        sample.data.set(asRef(convOps.conv2d.reference(attrs, [sampleOf(x, b), mixture(bases, pi, b), ...shared], [one])).data)
      })
      return y
    },
    macs: (attrs, [x, bases], [y]) => {
      const { convolution, kernel, outputs, batch, count } = work(x, bases, y)
      return isOutputs(attrs, batch) ? count * (convolution + outputs) : convolution + batch * count * kernel
    },
    decompose: (attrs, inputs) => {
      const [x, bases, pi] = take('dynamicConv2d', inputs.slice(0, 3), 'x', 'bases', 'pi')
      const bias = inputs[3]
      const y = mixedConv(attrs, x, bases, pi)
      if (!bias) return [y]
      const [batch = 0, channels = 0] = y.shape
      return [y.add(pi.matmul(bias).reshape([batch, channels, 1, 1]))]
    },
  }),

  dynamicConv2dInputGrad: defineOp({
    name: 'dynamicConv2dInputGrad',
    // dy [B, O, P, Q], bases, pi -> [B, I, ...inputSize]
    infer: (attrs, inputs) => {
      const who = 'dynamicConv2dInputGrad'
      const [dy, bases, pi] = take(who, inputs, 'dy', 'bases', 'pi')
      const dtype = sameDType(who, ['dy', 'bases', 'pi'], inputs)
      const grads = checkImages(who, 'dy', dy)
      const kernels = checkMixture(who, attrs, bases, pi, 'dy', grads.batch)
      return { dtype, shape: inputGradShape(who, attrs, grads, kernels) }
    },
    reference: (attrs, inputs, [output]) => {
      const [dy, bases, pi] = take('dynamicConv2dInputGrad', inputs, 'dy', 'bases', 'pi')
      if (!output) throw new RangeError('dynamicConv2dInputGrad: the reference needs the output type')
      const dx = refTensor(output.shape)
      const one = { dtype: output.dtype, shape: [1, ...output.shape.slice(1)] }
      forEachSample(dx, (b, sample) => {
        sample.data.set(asRef(convOps.conv2dInputGrad.reference(attrs, [sampleOf(dy, b), mixture(bases, pi, b)], [one])).data)
      })
      return dx
    },
    macs: (attrs, [dy, bases], [dx]) => {
      const { convolution, kernel, outputs, batch, count } = work(dx, bases, dy)
      return isOutputs(attrs, batch) ? count * (convolution + outputs) : convolution + batch * count * kernel
    },
    decompose: (attrs, inputs) => {
      const [dy, bases, pi] = take('dynamicConv2dInputGrad', inputs, 'dy', 'bases', 'pi')
      return [mixedInputGrad(attrs, dy, bases, pi)]
    },
  }),

  dynamicConv2dKernelGrad: defineOp({
    name: 'dynamicConv2dKernelGrad',
    // x [B, I, H, W], dy [B, O, P, Q], bases, pi -> dBases as bases, dPi as pi (what comes through the kernels)
    infer: (attrs, inputs) => {
      const who = 'dynamicConv2dKernelGrad'
      const [x, dy, bases, pi] = take(who, inputs, 'x', 'dy', 'bases', 'pi')
      const dtype = sameDType(who, ['x', 'dy', 'bases', 'pi'], inputs)
      const images = checkImages(who, 'x', x)
      const grads = checkImages(who, 'dy', dy)
      checkSameBatch(who, 'x', images.batch, 'dy', grads.batch)
      const kernels = checkMixture(who, attrs, bases, pi, 'x', images.batch)
      checkGroups(who, attrs.groups, images.channels, kernels.outChannels)
      checkInPerGroup(who, 'bases', kernels, images.channels, attrs.groups)
      checkOutChannels(who, grads.channels, kernels)
      checkInts(who, 'kernelSize', attrs.kernelSize, 2, 1)
      if (!sameShape(attrs.kernelSize, kernels.size)) {
        throw new ShapeError(`${who}: kernelSize ${formatShape(attrs.kernelSize)} must be that of bases, ${formatShape(kernels.size)}`)
      }
      checkInt(who, 'chunk', attrs.chunk, 0)
      checkGradSize(who, 'dy', grads.size, images.size, outputSize(who, images.size, attrs))
      return [
        { dtype, shape: bases.shape },
        { dtype, shape: pi.shape },
      ]
    },
    reference: (attrs, inputs, [output]) => {
      const [x, dy, bases, pi] = take('dynamicConv2dKernelGrad', inputs, 'x', 'dy', 'bases', 'pi')
      if (!output) throw new RangeError('dynamicConv2dKernelGrad: the reference needs the output types')
      const dBases = refTensor(bases.shape)
      const dPi = refTensor(pi.shape)
      const [count = 0, ...kernelShape] = bases.shape
      const size = sizeOf(kernelShape)
      for (let b = 0; b < (pi.shape[0] ?? 0); b++) {
        const one = { dtype: output.dtype, shape: kernelShape }
        const dKernel = asRef(convOps.conv2dFilterGrad.reference(attrs, [sampleOf(x, b), sampleOf(dy, b)], [one]))
        for (let k = 0; k < count; k++) {
          const weight = at(pi.data, b * count + k)
          for (let i = 0; i < size; i++) {
            addAt(dBases.data, k * size + i, weight * at(dKernel.data, i))
            addAt(dPi.data, b * count + k, at(dKernel.data, i) * at(bases.data, k * size + i))
          }
        }
      }
      return [dBases, dPi]
    },
    macs: (attrs, [x, dy, bases]) => {
      const { convolution, kernel, outputs, batch, count } = work(x, bases, dy)
      return isOutputs(attrs, batch) ? 2 * count * (convolution + outputs) : convolution + 2 * batch * count * kernel
    },
    decompose: (attrs, inputs) => {
      const [x, dy, bases, pi] = take('dynamicConv2dKernelGrad', inputs, 'x', 'dy', 'bases', 'pi')
      return mixedKernelGrad(attrs, x, dy, bases, pi)
    },
  }),
}

const forms: readonly DynamicConvForm[] = ['auto', 'kernels', 'outputs']

interface Bases extends Kernels {
  /** K */
  readonly count: number
}

// Checks the form, and that bases and pi fit each other and the batch.
function checkMixture(who: DynamicName, attrs: DynamicConv2dAttrs, bases: ValueType, pi: ValueType, other: string, batch: Dim): Bases {
  if (!forms.includes(attrs.form)) throw new ValueError(`${who}: form must be ${forms.join(', ')}, got ${String(attrs.form)}`)
  checkDType(who, 'bases', bases.dtype, floats)
  if (bases.shape.length !== 5) throw new ShapeError(`${who}: bases must be [K, O, I/groups, kh, kw], got ${formatShape(bases.shape)}`)
  const sizes = bases.shape.map((d) => known(who, 'each size of bases', d))
  const [count = 0, outChannels = 0, inPerGroup = 0, height = 0, width = 0] = sizes
  if (sizeOf(sizes) === 0) throw new ShapeError(`${who}: bases must not be empty, got ${formatShape(bases.shape)}`)
  const [rows, columns] = pi.shape
  if (pi.shape.length !== 2 || rows === undefined || columns !== count) {
    throw new ShapeError(`${who}: pi must be [B, ${count}], a weight for each of the ${count} bases, got ${formatShape(pi.shape)}`)
  }
  checkSameBatch(who, other, batch, 'pi', rows)
  return { count, outChannels, inPerGroup, size: [height, width] }
}

// Work, with `convolution` that of one kernel per sample, `kernel` = n, and `outputs` = B O P Q.
function work(x: StaticShape | undefined, bases: StaticShape | undefined, y: StaticShape | undefined) {
  const [count = 0, , ...tap] = bases ?? []
  const outputs = sizeOf(y ?? [])
  return { convolution: outputs * sizeOf(tap), kernel: sizeOf((bases ?? []).slice(1)), outputs, batch: x?.[0] ?? 0, count }
}

// Reference, sample by sample.

/** sum_k pi_bk W_k, in W's shape without its first axis. */
function mixture(bases: RefTensor, pi: RefTensor, b: number): RefTensor {
  const [count = 0, ...shape] = bases.shape
  const result = refTensor(shape)
  const size = result.data.length
  for (let k = 0; k < count; k++) {
    const weight = at(pi.data, b * count + k)
    for (let i = 0; i < size; i++) addAt(result.data, i, weight * at(bases.data, k * size + i))
  }
  return result
}

/** Sample b as a batch of one, a view. */
function sampleOf(t: RefTensor, b: number): RefTensor {
  const shape = [1, ...t.shape.slice(1)]
  return { shape, data: t.data.subarray(b * sizeOf(shape), (b + 1) * sizeOf(shape)) }
}

function forEachSample(t: RefTensor, visit: (b: number, sample: RefTensor) => void): void {
  for (let b = 0; b < (t.shape[0] ?? 0); b++) visit(b, sampleOf(t, b))
}

function asRef(result: RefTensor | readonly RefTensor[]): RefTensor {
  if ('data' in result) return result
  throw new RangeError('dynamicConv2d: a convolution has one result')
}
