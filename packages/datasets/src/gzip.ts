// Decompression with the platform's own DecompressionStream (browsers and Node), with a limit on what may come out.
// Every fault of the data is a FormatError.

import { FormatError } from '@dynconv/core'
import { concatBytes, hex } from './bytes.ts'

/** Whether `bytes` begins with gzip's magic number. */
export function isGzip(bytes: Uint8Array): boolean {
  return bytes[0] === 0x1f && bytes[1] === 0x8b
}

/** A stream of what `bytes` decompresses to, at most `maxBytes`; its errors are FormatErrors that name `file`. */
export function gunzipStream(bytes: Uint8Array, file: string, maxBytes: number): ReadableStream<Uint8Array> {
  if (!isGzip(bytes)) throw new FormatError(`not gzip data: expected the bytes 1f 8b, got ${hex(bytes.subarray(0, 2))}`, { file, offset: 0 })
  const source = new ReadableStream<Uint8Array<ArrayBuffer>>({
    start(controller) {
      controller.enqueue(isPlain(bytes) ? bytes : new Uint8Array(bytes))
      controller.close()
    },
  })
  const reader = source.pipeThrough(new DecompressionStream('gzip')).getReader()
  let produced = 0
  return new ReadableStream<Uint8Array>({
    async pull(controller) {
      let chunk: Uint8Array | undefined
      try {
        chunk = (await reader.read()).value
      } catch (cause) {
        const why = cause instanceof Error ? cause.message : String(cause)
        controller.error(new FormatError(`gzip data is cut off or damaged after ${produced} decompressed bytes: ${why}`, { file, offset: 0, cause }))
        return
      }
      if (chunk === undefined) {
        controller.close()
        return
      }
      produced += chunk.length
      if (produced > maxBytes) {
        controller.error(new FormatError(`decompresses to more than the ${maxBytes} bytes that are allowed`, { file, offset: 0 }))
        await reader.cancel()
        return
      }
      controller.enqueue(chunk)
    },
    cancel: (reason) => reader.cancel(reason),
  })
}

/** What `bytes` decompresses to, at most `maxBytes`. @throws FormatError */
export async function gunzip(bytes: Uint8Array, file: string, maxBytes: number): Promise<Uint8Array> {
  const reader = gunzipStream(bytes, file, maxBytes).getReader()
  const chunks: Uint8Array[] = []
  for (;;) {
    const { value } = await reader.read()
    if (value === undefined) return concatBytes(chunks)
    chunks.push(value)
  }
}

// Streams refuse bytes in shared memory: those are copied.
function isPlain(bytes: Uint8Array): bytes is Uint8Array<ArrayBuffer> {
  return bytes.buffer instanceof ArrayBuffer
}
