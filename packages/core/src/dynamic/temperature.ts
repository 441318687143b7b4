// Annealing the routing's temperature: high at first, so that all bases learn, then down to 1 (Chen et al. 2020, sec. 3.2:
// from 30 to 1, linearly, over the first ten epochs).

import type { HostTensor } from '../tensor/hostTensor.ts'
import { tensor } from '../tensor/hostTensor.ts'
import type { Module } from '../nn/module.ts'
import { checkTemperature, Routing } from './routing.ts'

/** Every routing of `net`, by path. */
export function routings(net: Module): ReadonlyMap<string, Routing> {
  return new Map([...net.namedModules()].flatMap(([path, module]) => (module instanceof Routing ? [[path, module] as const] : [])))
}

/** The states that set every routing of `net` to `temperature`, by name: for `loadState` or `Training.write`. */
export function temperatureState(net: Module, temperature: number): ReadonlyMap<string, HostTensor> {
  checkTemperature('temperatureState', temperature)
  return new Map([...routings(net).keys()].map((path) => [path ? `${path}.temperature` : 'temperature', tensor(temperature)]))
}

/**
 * Linear from `start` to `end` over `over` steps (or epochs), then `end`.
 *
 * @example const tau = anneal(30, 1, 10); tau(0) // 30; tau(10) // 1
 */
export function anneal(start: number, end: number, over: number): (step: number) => number {
  checkTemperature('anneal', start)
  checkTemperature('anneal', end)
  return (step) => (step >= over || over <= 0 ? end : start + ((end - start) * step) / over)
}
