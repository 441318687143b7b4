// What all readers share: a file's bytes with its name, the check of labels, and two helpers over byte arrays.

import { FormatError } from '@dynconv/core'

/** The bytes of a file, with the name that errors use. */
export interface SourceFile {
  readonly file: string
  readonly bytes: Uint8Array
}

/** @throws FormatError at the first label that is not below `classes`; `place` tells where label i stands */
export function checkLabels(labels: Uint8Array, classes: number, place: (i: number) => { readonly file: string; readonly offset: number }): void {
  const wrong = labels.findIndex((label) => label >= classes)
  if (wrong >= 0) throw new FormatError(`label ${labels[wrong]} of record ${wrong} must be below ${classes}`, place(wrong))
}

/** All parts in one array; a single part is returned as it is. */
export function concatBytes(parts: readonly Uint8Array[]): Uint8Array {
  const [first] = parts
  if (first !== undefined && parts.length === 1) return first
  const result = new Uint8Array(parts.reduce((n, p) => n + p.length, 0))
  let at = 0
  for (const part of parts) {
    result.set(part, at)
    at += part.length
  }
  return result
}

/** Bytes as text for an error message: `1f 8b`, or `nothing`. */
export function hex(bytes: Uint8Array): string {
  return bytes.length === 0 ? 'nothing' : Array.from(bytes, (b) => b.toString(16).padStart(2, '0')).join(' ')
}
