#!/usr/bin/env bash
# The server behind Debian's nginx and HAProxy with the sample configurations of tuning/proxies, each in turn.
# Runs all of it in a network namespace of its own, so it needs root. proxies.sh
set -uo pipefail
cd "$(dirname "$0")/../.."
PATH=$PATH:/usr/sbin:/sbin

packages=()
command -v nginx >/dev/null || packages+=(nginx)
command -v haproxy >/dev/null || packages+=(haproxy)
if [ ${#packages[@]} -ne 0 ]; then
  apt-get -q update && DEBIAN_FRONTEND=noninteractive apt-get -q install -y --no-install-recommends "${packages[@]}" || exit 1
fi

namespace=longwire-proxies-$$
trap 'ip netns del "$namespace" 2>/dev/null' EXIT
# Clients connect from these addresses; the proxy connects to the server from 127.0.0.1.
ip netns add "$namespace" && ip -n "$namespace" link set lo up &&
  ip -n "$namespace" addr add 203.0.113.7/32 dev lo &&
  ip -n "$namespace" addr add 203.0.113.8/32 dev lo || exit 1

ip netns exec "$namespace" python3 tests/long/proxies.py
