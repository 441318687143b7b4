// The public face of @dynconv/backend-webgpu.

/// <reference types="@webgpu/types" preserve="true" />
export { webgpu, type WebGpuOptions } from './backend.ts'
export type { DeviceOptions } from './device.ts'
export type { KernelOptions } from './engine.ts'
export type { Algorithm } from './plan/choose.ts'
export { type KernelTime, profile } from './profile.ts'
