#!/bin/sh
# Programs the tests need and pip cannot bring. Does nothing when they are there already.
set -e
command -v ccx >/dev/null && command -v chromium >/dev/null && command -v pdftotext >/dev/null \
    && ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 && exit 0
if [ "$(id -u)" != 0 ]; then
    echo "Some tests need the Debian packages calculix-ccx, chromium, poppler-utils and postgresql: install them as root." >&2
    exit 0
fi
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
apt-get install -y -qq --no-install-recommends calculix-ccx chromium poppler-utils postgresql >/dev/null
