#!/bin/bash
# The long gate: form, then every build the project promises, each with all its tests.
#   scripts/check.sh [STEP...]      steps: form gcc clang ref sanitize plain; default: all
# A failing step does not stop the others; the exit code is 1 if any failed.
set -u
cd "$(dirname "$0")/.." || exit 1

configured() { # folder, then cmake's options: build it
    local folder=$1
    shift
    cmake -S . -B "$folder" -G Ninja -DCMAKE_BUILD_TYPE=Release "$@" >/dev/null &&
        ninja -C "$folder" --quiet
}

tests() { ctest --test-dir "$1" --output-on-failure --no-label-summary; }

form() {
    find include src tests -name '*.[ch]' -print0 |
        xargs -0 clang-format --dry-run --Werror &&
        scripts/check_layers.py && scripts/figures.py
}

gcc_build() { configured build-gcc -DCMAKE_C_COMPILER=gcc && tests build-gcc; }
clang_build() { configured build-clang -DCMAKE_C_COMPILER=clang && tests build-clang; }
ref() { configured build-gcc -DCMAKE_C_COMPILER=gcc && EQAT_ISA=ref tests build-gcc; }
sanitize() {
    configured build-asan -DCMAKE_C_COMPILER=gcc -DEQAT_SANITIZE=address,undefined &&
        tests build-asan
}
plain() {
    configured build-plain -DCMAKE_C_COMPILER=gcc -DEQAT_ONEDNN=OFF -DEQAT_OPENMP=OFF \
        -DEQAT_EDITLINE=OFF -DEQAT_SERVE=OFF &&
        tests build-plain
}

declare -A steps=([form]=form [gcc]=gcc_build [clang]=clang_build [ref]=ref
    [sanitize]=sanitize [plain]=plain)
[ $# -gt 0 ] || set -- form gcc clang ref sanitize plain
failed=()
for step in "$@"; do
    if [ -z "${steps[$step]:-}" ]; then
        echo "check: no step named $step" >&2
        exit 2
    fi
    echo "== check: $step"
    ${steps[$step]} || failed+=("$step")
done
if [ ${#failed[@]} -gt 0 ]; then
    echo "check: failed: ${failed[*]}"
    exit 1
fi
echo "check: all of $* passed"
