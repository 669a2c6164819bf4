#!/usr/bin/env bash
# A client's host vanishes: it answers nothing any more, not even with a reset. How long until the server lets go?
# Runs server and client in network namespaces of their own, so it needs root. vanished_host.sh [BINARY]
set -uo pipefail
cd "$(dirname "$0")/../.."
PATH=$PATH:/usr/sbin:/sbin

binary=${1:-target/release/longwire}
server_ns=longwire-server-$$
client_ns=longwire-client-$$
host=10.77.0.1
port=8000
work=$(mktemp -d)
failed=0
pids=()

stop_all() {
  kill -KILL "${pids[@]}" 2>/dev/null
  wait "${pids[@]}" 2>/dev/null
  pids=()
}

clean_up() {
  stop_all
  ip netns del "$client_ns" 2>/dev/null
  ip netns del "$server_ns" 2>/dev/null
  rm -rf "$work"
}
trap clean_up EXIT

in_server() { ip netns exec "$server_ns" "$@"; }
in_client() { ip netns exec "$client_ns" "$@"; }

make_network() {
  ip netns add "$server_ns" && ip netns add "$client_ns" &&
    ip -n "$server_ns" link add veth0 type veth peer name veth0 netns "$client_ns" &&
    ip -n "$server_ns" addr add "$host/24" dev veth0 &&
    ip -n "$client_ns" addr add 10.77.0.2/24 dev veth0 &&
    ip -n "$server_ns" link set veth0 up && ip -n "$server_ns" link set lo up &&
    ip -n "$client_ns" link set veth0 up
}

# From now on the client's host drops all that comes in and all that would go out.
vanish() {
  in_client nft -f - <<'NFT'
table inet vanished {
  chain in { type filter hook input priority 0; policy drop; }
  chain out { type filter hook output priority 0; policy drop; }
}
NFT
}

reappear() { in_client nft delete table inet vanished; }

# The sum of the samples whose line matches; nothing if the server does not answer.
metric() {
  in_server curl -s "http://$host:$port/metrics" | awk -v line="^$1" '$0 ~ line { sum += $NF } END { if (NR) print sum + 0 }'
}

now_ms() { date +%s%3N; }

publish_every_second() {
  while :; do
    in_server curl -s -o "$work/answer" -H 'X-API-Key: test' -d 'x' "http://$host:$port/channels/demo"
    sleep 1
  done
}

wait_for() {
  local _
  for _ in $(seq 100); do
    "$@" && return
    sleep 0.1
  done
  return 1
}

# case_of NAME LIMIT_MS REASON PUBLISH SETTING...: connects, lets the host vanish, and measures until the server has
# closed the connection. REASON is the one it must be counted as, or empty.
case_of() {
  local name=$1 limit_ms=$2 reason=$3 publish=$4 args=() setting vanished_ms took_ms
  shift 4
  for setting in "$@"; do args+=(--set "$setting"); done
  echo 'api_keys = ["test"]' >"$work/config.toml"

  # Not through a function: $! must be the server itself.
  ip netns exec "$server_ns" "$binary" --config "$work/config.toml" --listen "$host:$port" "${args[@]}" \
    >"$work/out" 2>"$work/log" &
  pids+=($!)
  if ! wait_for grep -q '^listening on' "$work/out"; then
    fail "$name" "the server does not serve: $(tail -n 1 "$work/log")"
    return
  fi
  ip netns exec "$client_ns" python3 tests/long/subscriber.py "$host" "$port" /channels/demo >"$work/client" 2>&1 &
  pids+=($!)
  if ! wait_for grep -q '^open' "$work/client"; then
    fail "$name" "no connection: $(tail -n 1 "$work/client")"
    return
  fi
  if [ "$publish" = publish ]; then
    publish_every_second &
    pids+=($!)
  fi
  # Long enough that pings have come and gone.
  sleep 3

  vanish || { fail "$name" "nft does not drop packets"; return; }
  vanished_ms=$(now_ms)
  while [ "$(metric longwire_subscriptions)" != 0 ] && [ $(($(now_ms) - vanished_ms)) -lt 120000 ]; do
    sleep 0.1
  done
  took_ms=$(($(now_ms) - vanished_ms))
  echo "  $name: gone after $took_ms ms, allowed $limit_ms ms"
  in_server curl -s "http://$host:$port/metrics" | grep '^longwire_closes_total' | grep -v ' 0$' | sed 's/^/  /'

  if [ "$took_ms" -gt "$limit_ms" ]; then
    fail "$name" "$took_ms ms is too long"
  elif [ -n "$reason" ] && [ "$(metric "longwire_closes_total.*reason=\"$reason\"")" != 1 ]; then
    fail "$name" "not counted as $reason"
  else
    echo "ok $name"
  fi
  stop_all
  reappear
}

fail() {
  echo "FAILED $1: $2"
  failed=1
  stop_all
}

if ! make_network; then
  echo "FAILED vanished host: no network namespaces here (root is needed)"
  exit 1
fi

# The wheel alone: ping_interval + max_missed x pong_timeout, one slot of the wheel, and 500 ms to see it.
wheel=(tcp.user_timeout_ms=0 tcp.keepalive_idle_ms=3600000
  heartbeat.ping_interval_ms=4000 heartbeat.pong_timeout_ms=2000 heartbeat.max_missed=2)
wheel_ms=$((4000 + 2 * 2000 + 1000 + 500))
case_of "vanished host, heartbeat alone, idle" $wheel_ms heartbeat_timeout idle "${wheel[@]}"
case_of "vanished host, heartbeat alone, publications flowing" $wheel_ms heartbeat_timeout publish "${wheel[@]}"

# TCP_USER_TIMEOUT alone: counted from the first byte that stays unacknowledged, so from the next publication (1 s), plus
# the first retransmission time-out, up to 1 s; on an idle connection the keepalive probes are such bytes.
user_timeout=(tcp.user_timeout_ms=5000 heartbeat.ping_interval_ms=3600000 heartbeat.pong_timeout_ms=3600000
  outbox.stall_timeout_ms=3600000)
case_of "vanished host, TCP_USER_TIMEOUT alone, publications flowing" $((5000 + 1000 + 1000 + 500)) "" publish \
  "${user_timeout[@]}" tcp.keepalive_idle_ms=3600000
case_of "vanished host, TCP_USER_TIMEOUT alone, idle" $((5000 + 1000 + 1000 + 500)) "" idle \
  "${user_timeout[@]}" tcp.keepalive_idle_ms=2000 tcp.keepalive_interval_ms=1000

exit $failed
