// The public face of @dynconv/backend-webgpu.

/// <reference types="@webgpu/types" />
export { type DeviceOptions } from './device.ts'
