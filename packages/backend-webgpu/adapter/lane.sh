#!/usr/bin/env bash
# The lane `webgpu` of .ci/run: real adapters, in Node and in headless Chromium, and a page built from the packed packages
# (`pnpm build` comes first). The adapters are SwiftShader, from npm; Chromium also needs two libraries of the system.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

as_root() {
  if ((EUID == 0)); then "$@"; else sudo "$@"; fi
}

if ! ldconfig -p | grep -q libnss3.so || ! ldconfig -p | grep -q libnspr4.so; then
  as_root apt-get install -y --no-install-recommends libnss3 libnspr4 || {
    as_root apt-get update
    as_root apt-get install -y --no-install-recommends libnss3 libnspr4
  }
fi

# Shaders compile on one core, so Node and the browser do not disturb each other much.
log=$(mktemp)
trap 'rm -f "$log"' EXIT
node --import tsx adapter/main.ts browser >"$log" 2>&1 &
browser=$!
status=0
node --import tsx adapter/main.ts node || status=1
wait "$browser" || status=1
cat "$log"
node --import tsx adapter/main.ts packed || status=1
exit "$status"
