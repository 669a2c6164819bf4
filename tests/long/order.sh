#!/usr/bin/env bash
# 4 shards, 10,000 subscribers, 4 concurrent publishers: everyone gets all messages in one order per channel.
# order.sh [MORE ARGUMENTS OF longwire-loadgen fanout]
set -uo pipefail
cd "$(dirname "$0")/../.."

name="order over 4 shards"
out=$(mktemp)
"${LONGWIRE_BIN:-target/release/longwire}" --listen 127.0.0.1:0 --shards 4 >"$out" &
server=$!
trap 'kill -KILL $server 2>/dev/null; wait $server 2>/dev/null; rm -f "$out"' EXIT

for _ in $(seq 100); do
  addr=$(sed -n 's/^listening on //p' "$out" | head -n 1)
  [ -n "$addr" ] && break
  sleep 0.1
done
if [ -z "$addr" ]; then
  echo "FAILED $name: the server does not serve"
  exit 1
fi

if "${LOADGEN_BIN:-target/release/longwire-loadgen}" fanout --url "ws://$addr/channels/{channel}" \
  --connections 10000 --publishers 4 --messages 1000 "$@"; then
  curl -s "http://$addr/metrics" | grep -E '^longwire_(subscriptions|deliveries_total|coalesced_sends_total)'
  echo "ok $name"
else
  echo "FAILED $name: loadgen says exit $?"
  exit 1
fi
