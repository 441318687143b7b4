// The public face of @dynconv/backend-tfjs.

export { tfjs, type TfjsOptions } from './backend.ts'
export type { Tf } from './composed/tf.ts'
export { type EngineName, engineNames } from './load.ts'
