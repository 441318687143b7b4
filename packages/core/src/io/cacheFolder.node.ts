// Where this project's packages keep what they can make or fetch again.

import { homedir } from 'node:os'
import { isAbsolute, join } from 'node:path'

/**
 * The folder `dynconv` in the user's cache folder, by the XDG base directory specification: in $XDG_CACHE_HOME (a relative path
 * there is ignored), else in ~/.cache. It may not exist yet.
 */
export function userCacheFolder(environment: Readonly<Record<string, string | undefined>> = process.env): string {
  const xdg = environment['XDG_CACHE_HOME']
  return join(xdg !== undefined && isAbsolute(xdg) ? xdg : join(homedir(), '.cache'), 'dynconv')
}

/**
 * Where backends keep what they have measured on this machine: `option` if given (false: nowhere); else the folder that the
 * variable DYNCONV_CACHE names ('off': nowhere), else `userCacheFolder`. Undefined: nowhere.
 */
export function measurementsFolder(option?: string | false, environment: Readonly<Record<string, string | undefined>> = process.env): string | undefined {
  const chosen = option ?? environment['DYNCONV_CACHE']
  if (chosen === false || chosen === 'off') return undefined
  return chosen || userCacheFolder(environment)
}
