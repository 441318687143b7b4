// A folder of one's own images: one folder per class, PNG and JPEG files in it. Decoding and resizing are sharp's
// (libvips), an optional peer that is loaded only here. Pixels may differ in their last bit between versions of it.

import { readdir, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { FormatError, ValueError } from '@dynconv/core'
import { type ChannelStatistics, type ImageDataset, imageDataset } from './dataset.ts'

/** How images are read. */
export interface ImageFolderOptions {
  readonly height: number
  readonly width: number
  /** 3 (RGB, the default) or 1 (grey). */
  readonly channels?: 1 | 3 | undefined
  /** 'cover' (the default): fills the size and cuts off what stands over, centred; 'fill': stretches. */
  readonly fit?: 'cover' | 'fill' | undefined
  /** The classes in label order, to agree with another folder; unless given, the names of the folders, sorted. */
  readonly classes?: readonly string[] | undefined
  /** The training folder's, for a test folder; unless given, these images' own. */
  readonly statistics?: ChannelStatistics | undefined
  /** Called after each image. */
  readonly progress?: ((progress: { readonly done: number; readonly total: number }) => void) | undefined
}

// Decodes a file to interleaved bytes [height, width, channels].
type Decoder = (path: string) => Promise<Uint8Array>

const extensions = /\.(png|jpe?g)$/i
const MAX_CLASSES = 256
const AT_ONCE = 8

/**
 * The images of `root/<class>/**.{png,jpg,jpeg}`, resized, in the order of class and file name. Transparency is laid on
 * black; a camera's rotation mark is followed.
 *
 * @example const train = await imageFolder('flowers/train', { height: 64, width: 64 })
 * @throws ValueError for a folder without classes or a class without images; FormatError for an image that does not decode
 */
export async function imageFolder(root: string, options: ImageFolderOptions): Promise<ImageDataset> {
  const { height, width, channels = 3, statistics } = options
  const files = await listImages(root, options.classes)
  const classes = [...files.keys()]
  const samples = [...files.values()].flatMap((paths, label) => paths.map((path) => ({ path, label })))
  const decode = await sharpDecoder({ ...options, channels })
  const plane = height * width
  const images = new Uint8Array(samples.length * channels * plane)
  let next = 0
  let done = 0
  const work = async (): Promise<void> => {
    for (let i = next++; i < samples.length; i = next++) {
      const { path = '' } = samples[i] ?? {}
      const pixels = await decode(path)
      if (pixels.length !== channels * plane) throw new FormatError(`decoded to ${pixels.length} bytes, expected ${channels * plane}`, { file: path, offset: 0 })
      // [h, w, c] -> [c, h, w]
      for (let c = 0, out = i * channels * plane; c < channels; c++) {
        for (let p = c; p < pixels.length; p += channels) images[out++] = pixels[p] ?? 0
      }
      options.progress?.({ done: ++done, total: samples.length })
    }
  }
  try {
    await Promise.all(Array.from({ length: AT_ONCE }, work))
  } finally {
    // After a failure the other workers stop at their next image.
    next = samples.length
  }
  const labels = Uint8Array.from(samples, (s) => s.label)
  return imageDataset({ name: root, classes, images, labels, channels, height, width, statistics })
}

// Class name -> its files, both in order.
async function listImages(root: string, wanted: readonly string[] | undefined): Promise<ReadonlyMap<string, readonly string[]>> {
  const folders: string[] = []
  for (const name of await readdir(root)) {
    if (!name.startsWith('.') && (await stat(join(root, name))).isDirectory()) folders.push(name)
  }
  const classes = wanted ?? folders.sort()
  if (classes.length === 0) throw new ValueError(`imageFolder: ${root} holds no folder; expected one per class, with .png or .jpg files`)
  if (classes.length > MAX_CLASSES) throw new ValueError(`imageFolder: ${root} has ${classes.length} classes, at most ${MAX_CLASSES} are possible`)
  const unknown = folders.find((name) => !classes.includes(name))
  if (unknown !== undefined) throw new ValueError(`imageFolder: folder ${unknown} of ${root} is not one of the classes ${classes.join(', ')}`)
  const files = new Map<string, readonly string[]>()
  for (const name of classes) {
    const listed = folders.includes(name) ? await readdir(join(root, name), { recursive: true }) : []
    const paths = listed.filter((path) => extensions.test(path)).sort()
    if (paths.length === 0 && wanted === undefined) throw new ValueError(`imageFolder: ${join(root, name)} holds no .png or .jpg file`)
    files.set(name, paths.map((path) => join(root, name, path)))
  }
  return files
}

async function sharpDecoder(size: { readonly height: number; readonly width: number; readonly channels: 1 | 3; readonly fit?: 'cover' | 'fill' | undefined }): Promise<Decoder> {
  const sharp = await import('sharp').then(
    (module) => module.default,
    (cause: unknown) => {
      throw new Error('imageFolder: the package sharp decodes images and could not be loaded; install it: npm install sharp', { cause })
    },
  )
  return async (path) => {
    try {
      return await sharp(path)
        .autoOrient()
        .flatten()
        .resize({ width: size.width, height: size.height, fit: size.fit ?? 'cover' })
        .toColourspace(size.channels === 1 ? 'b-w' : 'srgb')
        .raw({ depth: 'uchar' })
        .toBuffer()
    } catch (cause) {
      throw new FormatError(`cannot be decoded: ${cause instanceof Error ? cause.message : String(cause)}`, { file: path, offset: 0, cause })
    }
  }
}
