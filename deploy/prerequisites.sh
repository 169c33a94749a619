#!/usr/bin/env bash
# What this machine lacks, named with the exact command. As root, `test` installs it.
#   prerequisites.sh run    what `make run` needs
#   prerequisites.sh test   what `make test` needs beside it
set -euo pipefail

run_packages=()
command -v python3 >/dev/null || run_packages+=(python3)
python3 -c 'import venv, ensurepip' 2>/dev/null || run_packages+=(python3-venv)
command -v make >/dev/null || run_packages+=(make)
command -v gcc >/dev/null || run_packages+=(gcc libc6-dev)

if command -v python3 >/dev/null && ! python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
  echo "vsp: python3 is $(python3 -V | cut -d' ' -f2), 3.11 or newer is needed (Debian 12 has it)" >&2
  exit 2
fi

declare -A test_tools=(
  [/usr/lib/postgresql/15/bin/postgres]=postgresql-15
  [/usr/bin/ffprobe]=ffmpeg
  [/usr/bin/sipp]=sip-tester
  [/usr/bin/tshark]=tshark
  [/usr/bin/gst-launch-1.0]=gstreamer1.0-tools
  [/usr/bin/chromium]=chromium
)
test_packages=()
if [[ ${1:-run} == test ]]; then
  for tool in "${!test_tools[@]}"; do
    [[ -x $tool ]] || test_packages+=("${test_tools[$tool]}")
  done
  plugins=/usr/lib/x86_64-linux-gnu/gstreamer-1.0
  [[ -d $plugins ]] || plugins=$(dirname "$(find /usr/lib -name libgstcoreelements.so -print -quit 2>/dev/null || echo /nowhere/x)")
  [[ -e $plugins/libgstplayback.so ]] || test_packages+=(gstreamer1.0-plugins-base)
  [[ -e $plugins/libgstrtp.so ]] || test_packages+=(gstreamer1.0-plugins-good)
  [[ -e $plugins/libgstmpegpsdemux.so ]] || test_packages+=(gstreamer1.0-plugins-bad)
  [[ -e $plugins/libgstlibav.so ]] || test_packages+=(gstreamer1.0-libav)
  [[ -d /usr/share/fonts/opentype/noto ]] || test_packages+=(fonts-noto-cjk)
fi

missing=("${run_packages[@]}" "${test_packages[@]}")
((${#missing[@]})) || exit 0
if ((EUID != 0)); then
  echo "vsp: missing Debian packages; install them with:" >&2
  echo "  sudo apt-get install --no-install-recommends ${missing[*]}" >&2
  exit 2
fi
echo "· installing Debian packages: ${missing[*]}" >&2
log=$(mktemp)
if ! { apt-get update -q && DEBIAN_FRONTEND=noninteractive \
       apt-get install -y -q --no-install-recommends "${missing[@]}"; } >"$log" 2>&1; then
  tail -20 "$log" >&2
  echo "vsp: apt-get could not install: ${missing[*]}" >&2
  exit 2
fi
rm -f "$log"
