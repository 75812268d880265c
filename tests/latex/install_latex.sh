#!/usr/bin/env bash
# Installs Debian's texlive-latex-base for the tests of the tables in LaTeX, unless pdflatex is there.
set -euo pipefail

refuse() {
  echo "error: $1" >&2
  exit 3
}

command -v pdflatex > /dev/null && exit 0
command -v apt-get > /dev/null || refuse "the LaTeX tests need pdflatex, and there is no apt-get: use a Debian 12 container."
[ "$(id -u)" = 0 ] || refuse "the LaTeX tests need pdflatex: run as root \`apt-get install texlive-latex-base\`."
apt-get update -qq
DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends texlive-latex-base > /dev/null
