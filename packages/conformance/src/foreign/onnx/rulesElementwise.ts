// Ops that work element by element.

import { type Comparison, isFloat, type Tensor, tensor } from '@dynconv/core'
import { dtypeOf, type NodeView, type Rule } from './node.ts'
import { onnxType } from './proto.ts'

type Method = 'abs' | 'exp' | 'log' | 'neg' | 'relu' | 'sigmoid' | 'sqrt' | 'tanh'
type BinaryMethod = 'add' | 'sub' | 'mul' | 'div' | 'min' | 'max'

const unary =
  (name: Method): Rule =>
  (n) =>
    n.x(0)[name]()

// Before opset 7 broadcasting had to be asked for, from `axis` on.
function operands(n: NodeView): readonly [Tensor, Tensor] {
  const [a, b] = [n.x(0), n.x(1)]
  if (n.opset >= 7 || n.int('broadcast', 0) === 0) return [a, b]
  const axis = n.int('axis', a.rank - b.rank)
  return [a, b.reshape([...b.shape, ...Array.from({ length: a.rank - b.rank - axis }, () => 1)])]
}

const binary =
  (name: BinaryMethod): Rule =>
  (n) => {
    const [a, b] = operands(n)
    return a[name](b)
  }

const many =
  (name: BinaryMethod): Rule =>
  (n) =>
    n.all().reduce((a, b) => a[name](b))

const comparison =
  (kind: Comparison): Rule =>
  (n) => {
    const [a, b] = operands(n)
    return a.compare(kind, b)
  }

const negativeOr = (x: Tensor, negative: (x: Tensor) => Tensor): Tensor => x.less(0).select(negative(x), x)

/** The rules. */
export const elementwiseRules: Readonly<Record<string, Rule>> = {
  Abs: unary('abs'),
  Exp: unary('exp'),
  Log: unary('log'),
  Neg: unary('neg'),
  Relu: unary('relu'),
  Sigmoid: unary('sigmoid'),
  Sqrt: unary('sqrt'),
  Tanh: unary('tanh'),
  Reciprocal: (n) => n.x(0).operand(1).div(n.x(0)),
  Identity: (n) => n.result(0),
  Sign: (n) => {
    const x = n.x(0)
    return x.greater(0).select(x.full(1), x.less(0).select(x.full(-1), x))
  },

  Add: binary('add'),
  Sub: binary('sub'),
  Mul: binary('mul'),
  Div: binary('div'),
  Max: many('max'),
  Min: many('min'),
  Sum: many('add'),
  Mean: (n) => n.all().reduce((a, b) => a.add(b)).div(n.count),
  Pow: (n) => {
    const [a, b] = operands(n)
    // The result is of the base's type.
    return isFloat(a.dtype) ? a.pow(b.cast(a.dtype)) : a.pow(b)
  },

  Equal: comparison('equal'),
  Greater: comparison('greater'),
  GreaterOrEqual: comparison('greaterEqual'),
  Less: comparison('less'),
  LessOrEqual: comparison('lessEqual'),
  Not: (n) => n.x(0).equal(0),
  And: (n) => operands(n)[0].select(operands(n)[1], 0),
  Or: (n) => operands(n)[0].select(1, operands(n)[1]),
  Xor: comparison('notEqual'),
  Where: (n) => n.x(0).select(n.x(1), n.x(2)),
  IsNaN: (n) => n.x(0).compare('notEqual', n.x(0)),
  IsInf: (n) => {
    const x = n.x(0)
    const [negative, positive] = [n.int('detect_negative', 1), n.int('detect_positive', 1)]
    const magnitude = negative && positive ? x.abs() : positive ? x : x.neg()
    return negative || positive ? magnitude.equal(Number.POSITIVE_INFINITY) : n.refuse('detect_negative=0 and detect_positive=0')
  },

  Cast: (n) => n.x(0).cast(dtypeOf(onnxType(n.int('to', 0)))),
  CastLike: (n) => n.x(0).cast(n.x(1).dtype),
  Clip: (n) => {
    // Bounds are attributes before opset 11.
    const bound = (i: number, name: string, otherwise: number): number => n.known(i)?.[0] ?? (n.opset < 11 ? n.float(name, otherwise) : otherwise)
    const [min, max] = [bound(1, 'min', Number.NEGATIVE_INFINITY), bound(2, 'max', Number.POSITIVE_INFINITY)]
    const x = n.x(0)
    if (isFloat(x.dtype)) return x.clamp(min, max)
    const above = Number.isFinite(min) ? x.max(min) : x
    return Number.isFinite(max) ? above.min(max) : above
  },
  // Outside training it hands its input on.
  Dropout: (n) => {
    const x = n.x(0)
    const ratio = n.known(1)?.[0] ?? n.float('ratio', 0.5)
    n.int('seed', 0)
    if (n.opset < 7 && n.int('is_test', 0) === 0) return n.refuse('is_test=0')
    if (n.known(2)?.[0] && ratio !== 0) return n.refuse('training_mode')
    return [x, n.constant(tensor(1, [], 'bool')).broadcastTo(x.shape)]
  },

  LeakyRelu: (n) => negativeOr(n.x(0), (x) => x.mul(n.float('alpha', 0.01))),
  PRelu: (n) => {
    const slope = n.x(1)
    // Before opset 7 it is one number a channel.
    const channels = n.opset < 7 && slope.rank === 1 ? slope.reshape([-1, ...n.shape(0).slice(2).map(() => 1)]) : slope
    return negativeOr(n.x(0), (x) => x.mul(channels))
  },
  Elu: (n) => negativeOr(n.x(0), (x) => x.exp().sub(1).mul(n.float('alpha', 1))),
  Selu: (n) => {
    const [alpha, gamma] = [n.float('alpha', 1.6732632423543772), n.float('gamma', 1.0507009873554805)]
    return negativeOr(n.x(0), (x) => x.exp().mul(alpha).sub(alpha)).mul(gamma)
  },
  Celu: (n) => {
    const alpha = n.float('alpha', 1)
    return negativeOr(n.x(0), (x) => x.div(alpha).exp().sub(1).mul(alpha))
  },
  ThresholdedRelu: (n) => n.x(0).greater(n.float('alpha', 1)).select(n.x(0), 0),
  Softplus: (n) => n.x(0).exp().add(1).log(),
  Softsign: (n) => n.x(0).div(n.x(0).abs().add(1)),
  HardSigmoid: (n) => n.x(0).mul(n.float('alpha', 0.2)).add(n.float('beta', 0.5)).clamp(0, 1),
  HardSwish: (n) => n.x(0).mul(n.x(0).mul(1 / 6).add(0.5).clamp(0, 1)),
}
