// How the native half of tfjs-node and tfjs-node-gpu is built without the download of their installation: TensorFlow's shared
// libraries come out of its Python wheel, the Node addon is compiled from the npm package's own sources. Functions only;
// the command is tfjsNative.ts.

import { spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, readFileSync, realpathSync, renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import { userCacheFolder } from '@dynconv/core/node'
import { field } from './json.ts'

/** The last TensorFlow whose C API is as the addon of TensorFlow.js 4.22 calls it. */
export const tensorflowVersion = '2.15.1'

/** Which build of TensorFlow. `cuda` runs its kernels for the processor where there is no card. */
export type Flavour = 'cpu' | 'cuda'

interface FlavourInfo {
  /** The package in npm that it goes with. */
  readonly npm: string
  /** The wheel on PyPI. */
  readonly wheel: string
  readonly downloadMegabytes: number
}

/** By name. */
export const flavours: { readonly [F in Flavour]: FlavourInfo } = {
  cpu: { npm: '@tensorflow/tfjs-node', wheel: 'tensorflow-cpu', downloadMegabytes: 210 },
  cuda: { npm: '@tensorflow/tfjs-node-gpu', wheel: 'tensorflow', downloadMegabytes: 475 },
}

/** Where TensorFlow is kept between builds. */
export function cacheFolder(flavour: Flavour, environment: Readonly<Record<string, string | undefined>> = process.env): string {
  return path.join(userCacheFolder(environment), `tensorflow-${tensorflowVersion}-${flavour}`)
}

/** The newest N-API that both a package's `binary.napi_versions` and this Node have. @throws Error when there is none */
export function napiVersion(manifest: unknown, supported: number): number {
  const listed = field(field(manifest, 'binary'), 'napi_versions')
  const usable = (Array.isArray(listed) ? listed : []).filter((v): v is number => typeof v === 'number' && v <= supported)
  if (usable.length === 0) throw new Error(`the package lists no N-API version up to ${supported}, which this Node has`)
  return Math.max(...usable)
}

// Out of the wheel: the two libraries and the headers that the addon includes.
const unpack = `
import glob, os, shutil, sys, zipfile
source, target = sys.argv[1], sys.argv[2]
headers = ('tensorflow/include/tensorflow/c/', 'tensorflow/include/tensorflow/core/', 'tensorflow/include/tsl/', 'tensorflow/include/external/local_tsl/')
libraries = ('tensorflow/libtensorflow_cc.so.2', 'tensorflow/libtensorflow_framework.so.2')
found = 0
with zipfile.ZipFile(glob.glob(os.path.join(source, '*.whl'))[0]) as wheel:
    for name in wheel.namelist():
        if name in libraries:
            place = os.path.join(target, 'lib', os.path.basename(name))
            found += 1
        elif name.startswith(headers) and name.endswith('.h'):
            place = os.path.join(target, 'include', name[len('tensorflow/include/'):])
        else:
            continue
        os.makedirs(os.path.dirname(place), exist_ok=True)
        with wheel.open(name) as from_, open(place, 'wb') as to:
            shutil.copyfileobj(from_, to)
if found < len(libraries):
    sys.exit('the wheel does not hold ' + ' and '.join(libraries))
`

/** Runs a program to its end. @throws Error with what it said, or with `hint` when it does not exist */
export function runTool(command: string, args: readonly string[], hint: string): void {
  const { error, status, signal, stderr, stdout } = spawnSync(command, [...args], { encoding: 'utf8', maxBuffer: 2 ** 26 })
  if (error) throw new Error(`cannot run ${command} (${error.message}); ${hint}`)
  if (signal) throw new Error(`${command} was ended by ${signal}`)
  if (status !== 0) throw new Error(`${command} failed (${status}); ${hint}\n${`${stderr}${stdout}`.trim().split('\n').slice(-12).join('\n')}`)
}

/** Downloads TensorFlow into its cache unless it is there, and gives the folder with `lib` and `include`. */
export function fetchTensorflow(flavour: Flavour, report: (line: string) => void): string {
  const folder = cacheFolder(flavour)
  if (existsSync(path.join(folder, 'done'))) return folder
  const { wheel, downloadMegabytes } = flavours[flavour]
  report(`downloading TensorFlow ${tensorflowVersion} (${flavour}, about ${downloadMegabytes} MB) to ${folder}`)
  const partial = `${folder}.tmp-${process.pid}`
  try {
    mkdirSync(partial, { recursive: true })
    const download = path.join(partial, 'wheel')
    runTool(
      'python3',
      ['-m', 'pip', 'download', '--quiet', '--disable-pip-version-check', '--no-deps', '--python-version', '3.11', '--only-binary=:all:', '-d', download, `${wheel}==${tensorflowVersion}`],
      'Python 3 with pip is needed (Debian: apt-get install python3-pip), a connection to PyPI, and 2 GB of disk',
    )
    runTool('python3', ['-c', unpack, download, partial], 'the wheel may be damaged, or the disk full; run the command again')
    rmSync(download, { recursive: true })
    for (const name of ['cc', 'framework']) symlinkSync(`libtensorflow_${name}.so.2`, path.join(partial, 'lib', name === 'cc' ? 'libtensorflow.so' : 'libtensorflow_framework.so'))
    writeFileSync(path.join(partial, 'done'), '')
    // What an older, unfinished download left has no mark.
    rmSync(folder, { recursive: true, force: true })
    renameSync(partial, folder)
  } finally {
    rmSync(partial, { recursive: true, force: true })
  }
  return folder
}

/** The folder of node_api.h: Node's own where it came with headers, or else from the package node-api-headers, kept in the cache. */
export function fetchNapiHeaders(tensorflowFolder: string): string {
  const own = path.resolve(path.dirname(realpathSync(process.execPath)), '../include/node')
  if (existsSync(path.join(own, 'node_api.h'))) return own
  const prefix = path.join(tensorflowFolder, 'napi')
  const kept = path.join(prefix, 'node_modules/node-api-headers/include')
  if (!existsSync(path.join(kept, 'node_api.h'))) {
    runTool('npm', ['install', '--silent', '--no-save', '--no-audit', '--no-fund', '--ignore-scripts', '--prefix', prefix, 'node-api-headers@1'], 'npm and a connection to its registry are needed')
  }
  return kept
}

/** What goes into an addon. */
export interface AddonPlan {
  /** The installed npm package. */
  readonly packageFolder: string
  readonly tensorflowFolder: string
  /** The folder of node_api.h. */
  readonly napiInclude: string
  readonly napi: number
}

/** The place of the addon in its package. */
export function addonFile({ packageFolder, napi }: AddonPlan): string {
  return path.join(packageFolder, 'lib', `napi-v${napi}`, 'tfjs_binding.node')
}

/** The arguments of g++ that write the addon to `output`. */
export function compilerArguments(plan: AddonPlan, output: string): readonly string[] {
  const { packageFolder, tensorflowFolder, napiInclude, napi } = plan
  const includes = [napiInclude, packageFolder, path.join(tensorflowFolder, 'include')].map((folder) => `-I${folder}`)
  const sources = ['tfjs_backend.cc', 'tfjs_binding.cc'].map((file) => path.join(packageFolder, 'binding', file))
  const libraries = path.join(tensorflowFolder, 'lib')
  return ['-std=c++17', '-O2', '-shared', '-fPIC', `-DNAPI_VERSION=${napi}`, ...includes, ...sources, '-o', output, `-L${libraries}`, '-ltensorflow', '-ltensorflow_framework', `-Wl,-rpath,${libraries}`]
}

/** Compiles the addon unless the very same is there; says whether it did. */
export function buildAddon(plan: AddonPlan): boolean {
  const file = addonFile(plan)
  const stamp = `${file}.built-with`
  const recipe = JSON.stringify(plan)
  if (existsSync(file) && existsSync(stamp) && readFileSync(stamp, 'utf8') === recipe) return false
  mkdirSync(path.dirname(file), { recursive: true })
  const partial = `${file}.tmp-${process.pid}`
  try {
    runTool('g++', compilerArguments(plan, partial), 'a C++17 compiler is needed (Debian: apt-get install g++)')
    renameSync(partial, file)
    writeFileSync(stamp, recipe)
  } finally {
    rmSync(partial, { force: true })
  }
  return true
}
