// The public face of @dynconv/backend-onnx.

export { onnx, type OnnxOptions } from './backend.ts'
export type { Optimisation } from './session.ts'
