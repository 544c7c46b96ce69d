# Sourced by bin/quickstart and bin/test: makes .venv with what requirements.txt
# pins and the command ft-tf, once, and sets `python` to its interpreter.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
python="$root/.venv/bin/python"
stamp="$root/.venv/installed-requirements"

make_venv() {
  if [[ -x "$python" ]] && cmp -s "$root/requirements.txt" "$stamp"; then
    return
  fi
  local candidate base=''
  for candidate in python3 python3.13 python3.12 python3.11; do
    # TensorFlow has no package for Python 3.14 yet.
    if command -v "$candidate" >/dev/null && "$candidate" -c \
      'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))'; then
      base=$candidate
      break
    fi
  done
  if [[ -z "$base" ]]; then
    echo "needs Python 3.11, 3.12 or 3.13 on PATH" >&2
    exit 2
  fi
  echo "installing requirements.txt into .venv" >&2
  if ! "$base" -m venv "$root/.venv" >&2; then
    echo "cannot make .venv: install Python's venv module (Debian: python3-venv)" >&2
    exit 2
  fi
  # Every file that is installed has a hash in the lock. What has no wheel is
  # built with the setuptools of the lock, not with one that pip chooses.
  install_locked --no-deps --requirement <(
    awk '/^[a-z]/ { builds = /^(setuptools|wheel)==/ } builds' \
      "$root/requirements.txt"
  )
  install_locked --requirement "$root/requirements.txt"
  # The commands ft-tf and, from its files as they are, import ft_tf.
  "$python" -m pip install --quiet --disable-pip-version-check \
    --no-build-isolation --no-deps --editable "$root" >&2
  cp "$root/requirements.txt" "$stamp"
}

install_locked() {
  "$python" -m pip install --quiet --disable-pip-version-check \
    --require-hashes --no-build-isolation "$@" >&2
}

make_venv
