#!/usr/bin/env bash
# Set up what is missing, then run the notebooks (default), the tests, or what scores recordings. See ./run_all.sh --help
set -euo pipefail
from=$PWD
cd "$(dirname "$0")"
say() { printf '%s\n' "$*" >&2; }

python=${PYTHON:-$(command -v python3.11 || command -v python3 || true)}
if [ -z "$python" ] || ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
    say "FAILED: Python 3.11 or newer is needed; install it (apt-get install python3) or name it with PYTHON=…"
    exit 1
fi
case "${1:-} $* " in
"predict "* | "page "*) ;; # they have a --help of their own
*" --help "* | *" -h "*) exec "$python" -m utils.pipeline.run --help ;;
esac

venv=$(realpath -m "${DFS_VENV:-.venv}")
pins=requirements.txt size="about 4 minutes and 4 GB"
up_to_date() { [ "$(cat "$venv/.installed" 2>/dev/null || true)" = "$(sha256sum "$pins" | cut -d' ' -f1)" ]; }
light= # scoring needs a small environment only; the full one does as well if it is there
case "${1:-} $* " in
"predict "*" --language "*) ;; # Whisper
"predict "* | "page "*)
    light=yes
    if ! up_to_date; then
        venv=$(realpath -m "${DFS_VENV_SCORE:-.venv-score}")
        pins=utils/detector/requirements.txt size="less than a minute and 0.3 GB"
    fi
    ;;
esac
log="$venv/setup.log" # what pip and apt-get print
# logged COMMAND…: run it with its output in the log, which is shown and named if it fails
logged() {
    mkdir -p "$venv"
    "$@" >>"$log" 2>&1 && return
    tail -n 20 "$log" >&2
    say "FAILED: $*"
    say "log: $log"
    return 1
}
# apt_unpack NAME FOLDER: unpack a Debian package there, without root and without installing it
apt_unpack() {
    local state="$venv/apt"
    mkdir -p "$state/lists/partial" "$state/cache/archives/partial"
    local apt=(apt-get -qq -o "Dir::State::lists=$state/lists" -o "Dir::Cache=$state/cache" -o Debug::NoLocking=1
        -o APT::Sandbox::User= -o APT::Update::Post-Invoke= -o APT::Update::Post-Invoke-Success=)
    logged "${apt[@]}" update && (cd "$state" && logged "${apt[@]}" download "$1") &&
        logged dpkg-deb -x "$state/$1"_*.deb "$2" && rm -rf "$state"
}
make_venv() {
    "$python" -m venv "$venv" >>"$log" 2>&1 && return
    # Debian keeps ensurepip in python3-venv. Without root, pip's own wheel from python3-pip-whl does as well.
    say "python3-venv is not installed: fetching pip's wheel with apt-get download"
    find "$venv" -mindepth 1 -maxdepth 1 ! -name setup.log -exec rm -rf {} +
    logged "$python" -m venv --without-pip "$venv"
    if ! apt_unpack python3-pip-whl "$venv/pip-whl"; then
        say "FAILED: no virtual environment could be made; install python3-venv (apt-get install python3-venv)"
        exit 1
    fi
    local wheel
    wheel=$(ls "$venv"/pip-whl/usr/share/python-wheels/pip-*.whl)
    logged "$venv/bin/python" "$wheel/pip" install --no-index "$wheel"
    rm -rf "$venv/pip-whl"
}
if ! up_to_date; then
    say "setting up $venv (once; $size) …"
    mkdir -p "$venv"
    : >"$log"
    if ! "$venv/bin/python" -m pip --version >/dev/null 2>&1; then make_venv; fi
    pip=("$venv/bin/python" -m pip --disable-pip-version-check)
    if [ "$light" ]; then
        logged "${pip[@]}" uninstall --yes setuptools # Python 3.11 brings it; 10 MB
    else
        logged "${pip[@]}" install "pip>=25.1" # 25.1: resumes downloads
    fi
    logged "${pip[@]}" install -r "$pins"
    # lets notebooks that are opened in Jupyter import utils
    echo "$PWD" >"$("$venv/bin/python" -c 'import site; print(site.getsitepackages()[0])')/project.pth"
    sha256sum "$pins" | cut -d' ' -f1 >"$venv/.installed"
fi
# LightGBM's wheel does not bring OpenMP, and a minimal Debian does not have it
openmp="$venv/openmp"
openmp_path() { echo "$(echo "$openmp"/usr/lib/*-linux-gnu)${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"; }
if [ -d "$openmp" ]; then LD_LIBRARY_PATH=$(openmp_path) && export LD_LIBRARY_PATH; fi
if [ ! "$light" ] && ! "$venv/bin/python" -c 'import lightgbm' 2>/dev/null; then
    say "libgomp1 is not installed: fetching it with apt-get download"
    if ! apt_unpack libgomp1 "$openmp"; then
        say "FAILED: LightGBM does not start; it needs OpenMP: apt-get install libgomp1"
        exit 1
    fi
    LD_LIBRARY_PATH=$(openmp_path) && export LD_LIBRARY_PATH
    "$venv/bin/python" -c 'import lightgbm'
fi
export PATH="$venv/bin:$PATH" PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}" TOKENIZERS_PARALLELISM=false
case "${1:-}" in
test) # test [--all] [arguments of pytest]: without --all, what is marked slow is left out
    # with it, two processes share the files of tests, the longest first (tests/conftest.py)
    shift
    ruff check --quiet .
    ruff format --check --quiet .
    which=(-m "not slow")
    arguments=()
    for argument in "$@"; do
        if [ "$argument" = --all ]; then which=(-n 2 --dist loadfile --no-loadscope-reorder); else arguments+=("$argument"); fi
    done
    exec python -m pytest "${which[@]}" "${arguments[@]}"
    ;;
predict)
    cd "$from" # PATHs are meant from there
    exec python -P -m utils.predict "${@:2}" # -P: no module from there
    ;;
page)
    cd "$from"
    exec python -P -m utils.detector.page "${@:2}"
    ;;
esac
exec python -m utils.pipeline.run "$@"
