// The executor of whole programs on TensorFlow's native library: a graph becomes one TensorFlow graph, a run one run of its
// session. Only outputs come back to JavaScript.

import { copyHostTensor, GraphError, type HostTensor, type MemoryLedger } from '@dynconv/core'
import { probeQuirks } from '../composed/quirks.ts'
import type { Tf } from '../composed/tf.ts'
import { type Executor, isHost, type Loaded, type Resident, type RunInput } from '../executor.ts'
import { bindingOf, nativeEngineName } from './binding.node.ts'
import { deviceOf } from './device.node.ts'
import { type Forms, tableForms } from './forms.ts'
import { joinsWhenPaid, Member, type Platform } from './group.node.ts'
import { probingForms } from './probe.node.ts'
import { SessionState } from './state.ts'

/** What may be chosen instead of what was measured. */
export interface ProgramChoices {
  /** How dynamic convolutions are computed; what is fastest when tried unless given. */
  readonly forms?: Forms
  /** Whether forms are tried; only the table of forms.ts is asked where not. */
  readonly probe?: boolean
  /** Which programs share a session; see group.node.ts. */
  readonly joins?: Platform['joins']
}

/** One TensorFlow graph for each graph. */
export async function programExecutor(tf: Tf, ledger: MemoryLedger, choices: ProgramChoices = {}): Promise<Executor> {
  const binding = bindingOf(tf)
  const quirks = await probeQuirks(tf, nativeEngineName)
  const device = deviceOf(binding, quirks)
  const version = binding.TF_Version ?? 'of unknown version'
  const forms = choices.forms ?? (choices.probe === false ? tableForms(device) : probingForms({ binding, quirks, device, version }))
  const platform: Platform = { binding, quirks, target: { forms }, ledger, joins: choices.joins ?? joinsWhenPaid }
  return {
    name: 'program',
    capabilities: {
      dtypes: { float32: 'arithmetic', float16: 'storage', int32: 'arithmetic', bool: 'arithmetic' },
      device: `TensorFlow ${version} (${device === 'gpu' ? 'CUDA' : 'its kernels for the processor'}, whole programs) through TensorFlow.js ${tf.version_core}`,
    },
    supports: () => true,
    // Feeds start on the host: TensorFlow brings them to the card itself.
    upload: (value) => new HostResident(copyHostTensor(value)),
    createState: (initial) => new SessionState(initial, ledger),
    load: async (source, state) => {
      if (state && !(state instanceof SessionState)) throw new GraphError("tfjs: the state belongs to another executor; make it with this backend's createState")
      const member = new Member(platform, source, state)
      return {
        notes: member.notes,
        run: async (inputs) => member.run(inputs.map(hostOf)),
        dispose: () => member.dispose(),
      } satisfies Loaded
    },
    dispose: () => undefined,
  }
}

class HostResident implements Resident {
  readonly value: HostTensor
  readonly dtype: HostTensor['dtype']
  readonly shape: HostTensor['shape']

  constructor(value: HostTensor) {
    this.value = value
    this.dtype = value.dtype
    this.shape = value.shape
  }

  read(): HostTensor {
    return copyHostTensor(this.value)
  }

  free(): void {
    // Nothing but memory of JavaScript.
  }
}

function hostOf(input: RunInput): HostTensor {
  if (isHost(input)) return input
  if (input instanceof HostResident) return input.value
  throw new GraphError('tfjs: the tensor belongs to another executor; read it and pass the host tensor')
}
