// Finds a WebGPU device: `navigator.gpu` in browsers, the package `webgpu` (Dawn) in Node. The GPU object of Node stays in
// this module: on `globalThis.navigator` it would keep the process from ever exiting.

import { BackendUnavailableError } from '@dynconv/core'

/** How to find a device. */
export interface DeviceOptions {
  /** Which card, where there are two; the system's choice unless given. */
  readonly powerPreference?: GPUPowerPreference
  /** Node only: flags for Dawn, `['enable-dawn-features=disable_robustness']`. */
  readonly dawnFlags?: readonly string[]
}

/** A device and what is known about it. */
export interface Device {
  readonly device: GPUDevice
  readonly info: GPUAdapterInfo
  /** Features of the shading language beyond those that a device is asked for. */
  readonly languageFeatures?: { has(name: string): boolean } | undefined
}

// What a program may want more of than every adapter has.
const wantedLimits = [
  'maxBufferSize',
  'maxStorageBufferBindingSize',
  'maxStorageBuffersPerShaderStage',
  'maxComputeWorkgroupStorageSize',
  'maxComputeInvocationsPerWorkgroup',
  'maxComputeWorkgroupSizeX',
] as const

const wantedFeatures: readonly GPUFeatureName[] = ['shader-f16', 'subgroups', 'timestamp-query']

const flagsOfHeadlessChromium = '--enable-unsafe-webgpu --use-webgpu-adapter=swiftshader'

/** @throws BackendUnavailableError that says what to install or which flag to set */
export async function requestDevice(options: DeviceOptions = {}): Promise<Device> {
  const gpu = await findGpu(options)
  const adapter = await gpu.requestAdapter(options.powerPreference ? { powerPreference: options.powerPreference } : {})
  if (!adapter) throw new BackendUnavailableError(noAdapter())
  const requiredLimits = Object.fromEntries(wantedLimits.map((name) => [name, adapter.limits[name]]))
  const requiredFeatures = wantedFeatures.filter((name) => adapter.features.has(name))
  try {
    const device = await adapter.requestDevice({ label: 'dynconv', requiredFeatures, requiredLimits })
    origins.set(device, { adapter, languageFeatures: gpu.wgslLanguageFeatures })
    return deviceInfo(device, adapter.info)
  } catch (cause) {
    throw new BackendUnavailableError(`webgpu: the adapter '${describe(adapter.info)}' gave no device: ${messageOf(cause)}`, { cause })
  }
}

/** What is known about a device: more of one from `requestDevice`, or in a browser, than of one that somebody made in Node. */
export function deviceInfo(device: GPUDevice, info: GPUAdapterInfo = device.adapterInfo): Device {
  return { device, info, languageFeatures: origins.get(device)?.languageFeatures ?? (globalThis as Environment).navigator?.gpu?.wgslLanguageFeatures }
}

/** The adapter's name for people. */
export function describe(info: Partial<GPUAdapterInfo>): string {
  return [info.vendor, info.architecture, info.device, info.description].filter((part) => part).join(' ') || 'unknown adapter'
}

// A boundary: neither global is there everywhere, and the types of both differ from one environment to the next.
interface Environment {
  readonly navigator?: { readonly gpu?: GPU }
  readonly process?: { readonly versions?: { readonly node?: string } }
}

function inNode(): boolean {
  return (globalThis as Environment).process?.versions?.node !== undefined
}

async function findGpu({ dawnFlags = [] }: DeviceOptions): Promise<GPU> {
  const gpu = (globalThis as Environment).navigator?.gpu
  if (gpu) return gpu
  if (!inNode()) {
    throw new BackendUnavailableError(
      `webgpu: this browser has no navigator.gpu; take a recent one and a page on https or localhost (headless Chromium: ${flagsOfHeadlessChromium})`,
    )
  }
  const dawn = (await loadDawn()).create([...dawnFlags])
  kept.push(dawn)
  return dawn
}

// Dawn's objects must outlive all that was made from them, or the process crashes when they are collected.
const kept: GPU[] = []
const origins: WeakMap<GPUDevice, { readonly adapter: GPUAdapter; readonly languageFeatures: WGSLLanguageFeatures }> = new WeakMap()

interface Dawn {
  readonly create: (flags: string[]) => GPU
}

async function loadDawn(): Promise<Dawn> {
  // Not a literal, so that bundlers for browsers leave it alone.
  const name = 'webgpu'
  try {
    return (await import(/* @vite-ignore */ /* webpackIgnore: true */ name)) as Dawn
  } catch (cause) {
    const missing = cause instanceof Error && 'code' in cause && cause.code === 'ERR_MODULE_NOT_FOUND'
    const reason = missing ? "the package 'webgpu' is not installed; run: npm install webgpu" : `the package 'webgpu' does not load: ${messageOf(cause)}`
    throw new BackendUnavailableError(`webgpu: ${reason}`, { cause })
  }
}

function noAdapter(): string {
  return inNode()
    ? 'webgpu: there is no adapter; install a graphics driver with Vulkan (Linux: libvulkan1 and the driver of the card, or SwiftShader with VK_ICD_FILENAMES naming its .json), Metal or Direct3D 12'
    : `webgpu: the browser found no adapter; look at chrome://gpu, or start headless Chromium with ${flagsOfHeadlessChromium}`
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error)
}
