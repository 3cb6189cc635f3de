#!/bin/bash
# Run one theme of command-line tests.
#   tests/cli/run.sh EQAT THEME
# The theme is THEME.sh beside this file, run with lib.sh's functions in a folder of its own. When
# THEME.stdout exists, what the theme prints must equal it. Exit code 77: skipped.
set -u
here=$(cd "$(dirname "$0")" && pwd)
ROOT=$(cd "$here/../.." && pwd)
EQAT=$(realpath "$1")
theme=$2
MODEL=$ROOT/models/smollm2-135m-instruct.gguf
PYTHON=$ROOT/.venv/bin/python
WORK=$(mktemp -d) || exit 1
trap 'rm -rf "$WORK"' EXIT
cd "$WORK" || exit 1
mkdir .theme
. "$here/lib.sh"

if [ ! -f "$here/$theme.stdout" ]; then
    . "$here/$theme.sh"
    finish
fi
(
    . "$here/$theme.sh"
    finish
) >.theme/stdout
code=$?
[ $code -eq 0 ] || exit $code
diff -u "$here/$theme.stdout" .theme/stdout
