// The numbers of WebGPU's usage flags (specification, sections 5.1 and 5.3). Browsers have them as globals; in Node the
// package `webgpu` would have to put them there, which this package does not do.

/** GPUBufferUsage */
export const usage = {
  mapRead: 0x0001,
  copySource: 0x0004,
  copyTarget: 0x0008,
  storage: 0x0080,
  queryResolve: 0x0200,
} as const

/** GPUMapMode.READ */
export const mapModeRead = 0x0001
