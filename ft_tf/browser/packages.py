"""The files of LiteRT.js: fetched once, checked, kept in the user's cache.

LiteRT.js (Apache-2.0) runs .tflite files in web pages. It is two packages of
the npm registry. Tarballs are checked by the SHA-512 that the registry states
for them, files of a folder by their own SHA-256.
"""

import base64
import hashlib
import http.client
import io
import os
import sys
import tarfile
import urllib.request
from collections.abc import Mapping

from ft_tf import errors, storage
from ft_tf.browser import user_files

VERSION = '2.5.3'
_REGISTRY = 'https://registry.npmjs.org/'  # npm's default
_VARIABLE = 'npm_config_registry'  # npm reads it, too
_SECONDS = 60  # without an answer
_MOST_BYTES = 64 * 2**20  # of a tarball; that of core has 12 MB
# SHA-512 of the tarballs, in base64 as npm's `dist.integrity` has it.
_TARBALLS = {
  'core': (
    'PlGmbMOq9WitX7FO0jhbdJw9GthatsyuCQXjTt/wJZo0FLaw48q4tz8IwqgqCIkviYGr9OFDL1'
    'kCnN4nzWoyJQ=='
  ),
  'wasm-utils': (
    '4fJiw6tBQnIs+0jH/OQ16nYOiSl8/+zZnn5h2ul8aTKHi05sVqZW580Tmk78pC2kT39A9OYBVd'
    'FawteZ/sI1kQ=='
  ),
}
# SHA-256 of the files that the page uses.
_FILES = {
  'core/dist/index.js': (
    'e7daccc3a31eef890848a737ccb863ded5f046a6b40c3fdc0556495adeb5d9b3'
  ),
  'core/wasm/litert_wasm_compat_internal.js': (
    '4d8f894b7883654fd6e8439730aa41e79ceaab7d19184fc4f1f0b0f1a2a2c8a5'
  ),
  'core/wasm/litert_wasm_compat_internal.wasm': (
    '5255c8ad06eabdbd2522cdebf6b22fc10faf74625c23a49b9e072570cd1fa41c'
  ),
  'core/wasm/litert_wasm_internal.js': (
    '68efb69f770e3f76aff36a377de629ca496c131b86ac0f0f4b592a1543a898eb'
  ),
  'core/wasm/litert_wasm_internal.wasm': (
    '7280cf4471774867e385e6c3cd53e2b45e2975b80fea338fff4ef359b0865614'
  ),
  'core/wasm/litert_wasm_threaded_internal.js': (
    '92fe7a720c6deedaa1194c011c79a005ea4f6fc98f533b661cf7900760ab4849'
  ),
  'core/wasm/litert_wasm_threaded_internal.wasm': (
    'b5e54eca10f043497edf9a02186332707cae260c550d7ea22b2cae55669596cf'
  ),
  'wasm-utils/dist/index.js': (
    'e0e20bc28ab001ac732cf40d15b6eebd24fb0deaeb95eeba5100f51eebf015f2'
  ),
}


def read(folder: str | None = None) -> dict[str, bytes]:
  """Returns the files that the page uses, by package and path.

  Args:
    folder: Holds the tarballs as `npm pack` names them, or the packages as
      `npm install` unpacks them into node_modules; None: the user's cache,
      which is filled from the registry (environment variable
      npm_config_registry, otherwise npm's own).

  Returns:
    'core/dist/index.js' and so on to the content.

  Raises:
    UsageError: a package is not there, cannot be fetched, or is another than
      the page was written for.
  """
  files: dict[str, bytes] = {}
  for name in _TARBALLS:
    if folder is not None:
      files |= _read_given(folder, name)
    else:
      files |= _unpack(name, _read_cached(name))
  return files


def tarball(name: str) -> str:
  """Returns the name that `npm pack` gives the tarball of a package."""
  return f'litertjs-{name}-{VERSION}.tgz'


def _read_given(folder: str, name: str) -> dict[str, bytes]:
  """Returns the files of one package in the user's folder."""
  path = os.path.join(folder, tarball(name))
  if os.path.isfile(path):
    content = user_files.read(path, _get_it())
    if not _is_tarball(name, content):
      raise errors.UsageError(
        f'{path} is not @litertjs/{name} {VERSION} (its SHA-512 differs): '
        f'{_get_it()}'
      )
    return _unpack(name, content)
  for above in ('', 'node_modules'):
    root = os.path.join(folder, above, '@litertjs', name)
    if os.path.isdir(root):
      return _read_unpacked(root, name)
  raise errors.UsageError(
    f'--litert={folder} has neither {tarball(name)} nor @litertjs/{name}: '
    f'{_get_it()}'
  )


def _read_unpacked(root: str, name: str) -> dict[str, bytes]:
  """Returns the files of a package that npm has unpacked."""
  files = {}
  for path in _files_of(name):
    file = os.path.join(root, path.removeprefix(f'{name}/'))
    files[path] = user_files.read(file, _get_it())
    if hashlib.sha256(files[path]).hexdigest() != _FILES[path]:
      raise errors.UsageError(
        f'{file} is not that of @litertjs/{name} {VERSION} (its SHA-256 '
        f'differs): {_get_it()}'
      )
  return files


def _read_cached(name: str) -> bytes:
  """Returns a tarball from the cache, which it is fetched into if need be."""
  path = os.path.join(_cache(), tarball(name))
  try:
    with open(path, 'rb') as file:
      content = file.read()
    if _is_tarball(name, content):
      return content
  except OSError:
    pass  # It is not there yet.
  content = _fetch(name)
  try:
    os.makedirs(_cache(), exist_ok=True)
    with storage.replacing(path) as scratch:
      with open(scratch, 'wb') as file:
        file.write(content)
  except OSError as error:
    raise errors.UsageError(
      f'cannot write to {_cache()} ({error.strerror}): set XDG_CACHE_HOME to '
      'another folder, or give --litert'
    ) from error
  return content


def _fetch(name: str) -> bytes:
  """Returns a tarball from the registry, checked."""
  registry = os.environ.get(_VARIABLE) or _REGISTRY
  url = f'{registry.rstrip("/")}/@litertjs/{name}/-/{name}-{VERSION}.tgz'
  if not url.lower().startswith(('http://', 'https://')):
    raise errors.UsageError(
      f'{_VARIABLE}={registry} is no address of a registry: give one '
      'that begins with https://'
    )
  print(f'demo: fetching {url}', file=sys.stderr, flush=True)
  try:
    with urllib.request.urlopen(url, timeout=_SECONDS) as answer:
      content = answer.read(_MOST_BYTES)
  except (OSError, ValueError, http.client.HTTPException) as error:
    reason = getattr(error, 'reason', None) or error
    raise errors.UsageError(
      f'cannot fetch {url} ({reason}): connect to a network, name another '
      f'registry in {_VARIABLE}, or give --litert=DIR with what `npm pack '
      f'{_names()}` leaves there'
    ) from error
  if not _is_tarball(name, content):
    raise errors.UsageError(
      f'{url} is not the file that was published (its SHA-512 differs): name '
      f'another registry in {_VARIABLE}, or give --litert'
    )
  return content


def _unpack(name: str, content: bytes) -> dict[str, bytes]:
  """Returns the files of a checked tarball, without writing any."""
  files = {}
  with tarfile.open(fileobj=io.BytesIO(content)) as archive:
    for path in _files_of(name):
      file = archive.extractfile(f'package/{path.removeprefix(f"{name}/")}')
      assert file is not None  # The SHA-512 is that of a tarball that has it.
      files[path] = file.read()
  return files


def _files_of(name: str) -> Mapping[str, str]:
  return {
    path: digest
    for path, digest in _FILES.items()
    if path.startswith(f'{name}/')
  }


def _is_tarball(name: str, content: bytes) -> bool:
  digest = base64.b64encode(hashlib.sha512(content).digest()).decode()
  return digest == _TARBALLS[name]


def _cache() -> str:
  """Returns our folder in the user's cache (XDG Base Directory 0.8)."""
  home = os.environ.get('XDG_CACHE_HOME', '')
  if not os.path.isabs(home):  # The standard says: ignore it.
    home = os.path.join(os.path.expanduser('~'), '.cache')
  return os.path.join(home, 'ft_tf')


def _names() -> str:
  return ' '.join(f'@litertjs/{name}@{VERSION}' for name in _TARBALLS)


def _get_it() -> str:
  return f'run `npm pack {_names()}` in it'
