// The public face of @dynconv/backend-onnx.

export { onnx, type OnnxOptions } from './backend.ts'
export { type ExportInfo, exportGraph, exportOnnx, type ExportOptions, moduleToOnnx } from './export.ts'
export type { Optimisation } from './session.ts'
