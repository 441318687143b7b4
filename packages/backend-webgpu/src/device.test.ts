import { BackendUnavailableError } from '@dynconv/core'
import { afterEach, expect, test, vi } from 'vitest'
import { webgpu } from './backend.ts'
import { describe, deviceInfo, requestDevice } from './device.ts'
import { Engine, kindOf } from './engine.ts'
import { mockDevice } from './testing/mockDevice.ts'

afterEach(() => void vi.unstubAllGlobals())

// A navigator whose GPU has this adapter.
function stubAdapter(adapter: unknown): void {
  vi.stubGlobal('navigator', { gpu: { requestAdapter: async () => adapter } })
}

test('without an adapter the error says what to install', async () => {
  stubAdapter(null)
  await expect(webgpu()).rejects.toThrow(BackendUnavailableError)
  await expect(webgpu()).rejects.toThrow('webgpu: there is no adapter; install a graphics driver with Vulkan')
})

test('in a browser without WebGPU the error says which flags a headless one needs', async () => {
  vi.stubGlobal('navigator', {})
  vi.stubGlobal('process', { ...process, versions: {} })
  await expect(requestDevice()).rejects.toThrow('webgpu: this browser has no navigator.gpu; take a recent one')
  await expect(requestDevice()).rejects.toThrow('--enable-unsafe-webgpu --use-webgpu-adapter=swiftshader')
})

test('an adapter that gives no device is named, with its reason', async () => {
  stubAdapter({
    info: { vendor: 'acme', architecture: 'one' },
    limits: {},
    features: new Set(),
    requestDevice: () => Promise.reject(new Error('out of devices')),
  })
  await expect(webgpu()).rejects.toThrow("webgpu: the adapter 'acme one' gave no device: out of devices")
})

test('a device is asked for with what the adapter has: its limits, and the features that programs use', async () => {
  const asked = vi.fn<(options: GPUDeviceDescriptor) => Promise<GPUDevice>>(async () => mockDevice({ features: ['shader-f16'] }).device)
  stubAdapter({
    info: { vendor: 'acme' },
    limits: { maxBufferSize: 1, maxStorageBufferBindingSize: 2, maxStorageBuffersPerShaderStage: 10, maxComputeWorkgroupStorageSize: 4, maxComputeInvocationsPerWorkgroup: 5, maxComputeWorkgroupSizeX: 6, maxTextureDimension1D: 7 },
    features: new Set(['shader-f16', 'depth-clip-control']),
    requestDevice: asked,
  })
  const backend = await webgpu()
  expect(backend.capabilities.device).toBe('WebGPU (acme; gpu kernels, float16)')
  expect(asked.mock.calls[0]?.[0]).toEqual({
    label: 'dynconv',
    requiredFeatures: ['shader-f16'],
    requiredLimits: { maxBufferSize: 1, maxStorageBufferBindingSize: 2, maxStorageBuffersPerShaderStage: 10, maxComputeWorkgroupStorageSize: 4, maxComputeInvocationsPerWorkgroup: 5, maxComputeWorkgroupSizeX: 6 },
  })
})

test('what the shading language can is known of a device that is given back as well', async () => {
  const { device } = mockDevice({ features: ['subgroups'] })
  vi.stubGlobal('navigator', { gpu: { requestAdapter: async () => ({ info: {}, limits: {}, features: new Set(), requestDevice: async () => device }), wgslLanguageFeatures: new Set(['subgroup_id']) } })
  const { device: found } = await requestDevice()
  vi.stubGlobal('navigator', {})
  expect(deviceInfo(found).languageFeatures?.has('subgroup_id')).toBe(true)
  expect(new Engine(deviceInfo(found)).target.subgroups).toBe(true)
  expect(new Engine(deviceInfo(mockDevice({ features: ['subgroups'] }).device)).target.subgroups).toBe(false)
})

test('adapters that run on a processor are known by their names', () => {
  expect(kindOf({ vendor: 'google', architecture: 'swiftshader' })).toBe('software')
  expect(kindOf({ description: 'llvmpipe (LLVM 19)' })).toBe('software')
  expect(kindOf({ vendor: 'nvidia', architecture: 'ampere' })).toBe('gpu')
  expect(describe({})).toBe('unknown adapter')
})
