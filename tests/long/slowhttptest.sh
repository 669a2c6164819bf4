#!/usr/bin/env bash
# Debian's slowhttptest against the server, while a healthy client goes on: slow heads, slow bodies, slow readers.
# slowhttptest.sh [--connections N] [--seconds N]
set -uo pipefail
cd "$(dirname "$0")/../.."

if ! command -v slowhttptest >/dev/null; then
  apt-get -q update && DEBIAN_FRONTEND=noninteractive apt-get -q install -y --no-install-recommends slowhttptest || exit 1
fi
ulimit -n "$(ulimit -Hn)"
exec python3 tests/long/slowhttptest.py "$@"
