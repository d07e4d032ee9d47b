#!/bin/sh
# Installs what the build, the tests and the demo need on Debian or Ubuntu and is not there yet:
#   vulkan  a Vulkan driver and loader (Mesa: AMD and Intel GPUs, and a software device for machines without a GPU)
#   data    the official Fashion-MNIST files
#   wasm    Debian's compiler for WebAssembly, where rustup cannot add the target
#   web     Node.js, to build the page
#   browser two browsers, Chromium and Firefox, to test the page ($CHROMIUM and $FIREFOX name others)
#   shaders compilers of the languages that shaders are translated to, to test that they read them
#   mpi     an MPI and what reads its header, to train across processes
#   python  Python with virtual environments, to compare with other projects
# Runs apt-get as root or through sudo; where neither is possible it prints the command and stops.
set -eu

packages=""
want() {
    case " $packages " in *" $1 "*) ;; *) packages="$packages $1" ;; esac
}

for part in "$@"; do
    case "$part" in
    vulkan)
        found=""
        for file in /usr/share/vulkan/icd.d/*.json /etc/vulkan/icd.d/*.json; do
            [ ! -e "$file" ] || found=yes
        done
        [ -n "$found" ] || want mesa-vulkan-drivers
        if ! ldconfig -p 2>/dev/null | grep -q 'libvulkan\.so\.1' && [ "$(uname)" = Linux ]; then
            want libvulkan1
        fi
        ;;
    data) [ -e /usr/share/datasets/fashion-mnist/train-images-idx3-ubyte.gz ] || want dataset-fashion-mnist ;;
    wasm)
        [ -x /usr/bin/wasm-ld ] || want lld
        [ -e /usr/share/doc/rust-web-src ] || packages="$packages rustc-web cargo-web rust-web-src"
        ;;
    web)
        command -v node >/dev/null 2>&1 || want nodejs
        command -v npm >/dev/null 2>&1 || want npm
        ;;
    browser)
        found="${CHROMIUM:-}"
        for name in chromium chromium-browser google-chrome; do
            [ -n "$found" ] || found=$(command -v "$name" || true)
        done
        [ -n "$found" ] || want chromium
        found="${FIREFOX:-}"
        for name in firefox-esr firefox; do
            [ -n "$found" ] || found=$(command -v "$name" || true)
        done
        [ -n "$found" ] || want firefox-esr
        ;;
    shaders)
        command -v glslangValidator >/dev/null 2>&1 || want glslang-tools
        command -v spirv-val >/dev/null 2>&1 || want spirv-tools
        ;;
    mpi)
        command -v mpicc >/dev/null 2>&1 || want libopenmpi-dev
        command -v mpirun >/dev/null 2>&1 || want openmpi-bin
        ldconfig -p 2>/dev/null | grep -q '^[[:space:]]*libclang[-0-9.]*\.so' || want libclang-dev
        ;;
    python)
        command -v python3 >/dev/null 2>&1 || want python3
        python3 -c 'import ensurepip, venv' 2>/dev/null || want python3-venv
        ;;
    *)
        echo "setup.sh: unknown part $part" >&2
        exit 2
        ;;
    esac
done

[ -n "$packages" ] || exit 0
if [ "$(uname)" != Linux ] || ! command -v apt-get >/dev/null 2>&1; then
    echo "setup: please install what corresponds to Debian's packages:$packages" >&2
    exit 1
fi
command="apt-get install -y --no-install-recommends$packages"
if [ "$(id -u)" = 0 ]; then
    sudo=""
elif command -v sudo >/dev/null 2>&1; then
    sudo="sudo"
else
    echo "setup: not root and no sudo; please run as root: $command" >&2
    exit 1
fi
echo "setup: installing$packages"
# A list of packages may be missing or old on a fresh machine; an update that fails still leaves a usable one.
$sudo apt-get update -qq || echo "setup: apt-get update failed; trying with the lists that are there" >&2
# shellcheck disable=SC2086
DEBIAN_FRONTEND=noninteractive $sudo $command >/dev/null
