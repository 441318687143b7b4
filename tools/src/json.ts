// Reading JSON whose shape is not known yet.

/** `value[name]`, or undefined when `value` is not an object or lacks it. */
export function field(value: unknown, name: string): unknown {
  return typeof value === 'object' && value !== null ? Reflect.get(value, name) : undefined
}
