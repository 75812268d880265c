#!/usr/bin/env bash
# Installs a command that some tests need from Debian's package of it, unless it is there: COMMAND PACKAGE.
set -euo pipefail
command=$1 package=$2

refuse() {
  echo "error: these tests need $command: $1" >&2
  exit 3
}

command -v "$command" > /dev/null && exit 0
command -v apt-get > /dev/null || refuse "there is no apt-get here, use a Debian 12 container."
[ "$(id -u)" = 0 ] || refuse "run as root \`apt-get install $package\`."
apt-get update -qq
DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$package" > /dev/null
