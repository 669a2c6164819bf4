#!/usr/bin/env bash
# A head that comes one byte at a time may cost the parser at most three times the instructions of the same head whole.
set -euo pipefail
cd "$(dirname "$0")/../.."

if ! command -v valgrind >/dev/null; then
  apt-get -q update && DEBIAN_FRONTEND=noninteractive apt-get -q install -y --no-install-recommends valgrind
fi
program=$(cargo bench --locked --bench head --no-run 2>&1 | sed -n 's/.*Executable.*(\(.*\))/\1/p')
rounds=100

# instructions WAY FUNCTION: those executed within one function and what it calls.
instructions() {
  local out=target/head-cost.$1
  valgrind --tool=callgrind --callgrind-out-file="$out" --toggle-collect="*$2*" "$program" "$1" "$rounds" 2>/dev/null
  sed -n 's/^\(summary\|totals\): //p' "$out" | head -n 1
}

whole=$(instructions whole 'head::whole')
loop=$(instructions loop 'head::loop_alone')
bytes=$(($(instructions bytes 'head::by_bytes') - loop))
echo "  instructions per head of 8 KiB: whole $((whole / rounds)), byte by byte $((bytes / rounds))"
awk -v whole="$whole" -v bytes="$bytes" 'BEGIN { printf "  ratio %.2f, allowed 3\n", bytes / whole }'
if [ "$whole" -gt 0 ] && [ "$bytes" -le $((3 * whole)) ]; then
  echo "ok head byte by byte"
else
  echo "FAILED head byte by byte"
  exit 1
fi
