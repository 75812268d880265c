#!/usr/bin/env bash
# Installs Debian's Chromium for the tests of the page of results, unless it is there.
set -euo pipefail

refuse() {
  echo "error: $1" >&2
  exit 3
}

command -v chromium > /dev/null && exit 0
command -v apt-get > /dev/null || refuse "the browser tests need chromium, and there is no apt-get: use a Debian 12 container."
[ "$(id -u)" = 0 ] || refuse "the browser tests need chromium: run as root \`apt-get install chromium\`."
apt-get update -qq
DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium > /dev/null
