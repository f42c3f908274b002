#!/usr/bin/env bash
# Set up what is missing, then run the notebooks (default) or the tests. See ./run_all.sh --help
set -euo pipefail
cd "$(dirname "$0")"
say() { printf '%s\n' "$*" >&2; }

python=${PYTHON:-$(command -v python3.11 || command -v python3 || true)}
if [ -z "$python" ] || ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
    say "FAILED: Python 3.11 or newer is needed; install it (apt-get install python3) or name it with PYTHON=…"
    exit 1
fi
case " $* " in
*" --help "* | *" -h "*) exec "$python" -m utils.run --help ;;
esac

venv=${DFS_VENV:-.venv}
make_venv() {
    "$python" -m venv "$venv" 2>/dev/null && return
    # Debian keeps ensurepip in python3-venv. Without root, pip's own wheel from python3-pip-whl does as well.
    say "python3-venv is not installed: fetching pip's wheel with apt-get download"
    rm -rf "$venv"
    "$python" -m venv --without-pip "$venv"
    local lists="$PWD/$venv/apt"
    mkdir -p "$lists/lists/partial" "$lists/cache/archives/partial"
    local apt=(apt-get -qq -o "Dir::State::lists=$lists/lists" -o "Dir::Cache=$lists/cache" -o Debug::NoLocking=1
        -o APT::Sandbox::User= -o APT::Update::Post-Invoke= -o APT::Update::Post-Invoke-Success=)
    if ! { "${apt[@]}" update && (cd "$lists" && "${apt[@]}" download python3-pip-whl) &&
        dpkg-deb -x "$lists"/python3-pip-whl_*.deb "$lists/x"; }; then
        rm -rf "$venv"
        say "FAILED: no virtual environment could be made; install python3-venv (apt-get install python3-venv)"
        exit 1
    fi
    local wheel
    wheel=$(ls "$lists"/x/usr/share/python-wheels/pip-*.whl)
    "$venv/bin/python" "$wheel/pip" install --quiet --no-index "$wheel"
    rm -rf "$lists"
}
wanted=$(sha256sum requirements.txt | cut -d' ' -f1)
if [ "$(cat "$venv/.installed" 2>/dev/null || true)" != "$wanted" ]; then
    say "setting up $venv (once; about 3 minutes and 4 GB) …"
    [ -x "$venv/bin/python" ] && "$venv/bin/python" -m pip --version >/dev/null 2>&1 || make_venv
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check "pip>=25.1"   # 25.1: resumes downloads
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check -r requirements.txt
    # lets notebooks that are opened in Jupyter import utils
    echo "$PWD" > "$("$venv/bin/python" -c 'import site; print(site.getsitepackages()[0])')/project.pth"
    echo "$wanted" > "$venv/.installed"
fi
if ! "$venv/bin/python" -c 'import lightgbm' 2>/dev/null; then
    say "FAILED: LightGBM does not start; it needs OpenMP: apt-get install libgomp1"
    exit 1
fi
export PATH="$PWD/$venv/bin:$PATH" MPLBACKEND=Agg PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}" TOKENIZERS_PARALLELISM=false
if [ "${1:-}" = test ]; then
    shift
    ruff check .
    exec python -m pytest "$@"
fi
exec python -m utils.run "$@"
