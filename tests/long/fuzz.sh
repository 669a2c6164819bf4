#!/usr/bin/env bash
# Every fuzz target of tests/fuzz for so many seconds, with coverage and AddressSanitizer: fuzz.sh [SECONDS]
set -uo pipefail
cd "$(dirname "$0")/../fuzz"

seconds=${1:-600}
command -v cargo-fuzz >/dev/null || cargo install --locked cargo-fuzz --version 0.13.1 || exit 1
# A stable compiler takes the sanitizer's flags with this; a nightly one does not need it.
export RUSTC_BOOTSTRAP=1
cargo run --release --bin seeds || exit 1
failed=0
for target in $(cargo fuzz list --fuzz-dir .); do
  [ "$target" = seeds ] && continue
  if cargo fuzz run --fuzz-dir . "$target" -- -max_total_time="$seconds" -max_len=2048; then
    echo "ok fuzz $target"
  else
    echo "FAILED fuzz $target: see artifacts/$target"
    failed=1
  fi
done
exit $failed
