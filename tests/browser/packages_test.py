"""LiteRT.js from a registry, the cache or a folder, and from nowhere else."""

import contextlib
import http.server
import os
import shutil
import threading
from unittest import mock

from absl.testing import absltest

from ft_tf import errors
from ft_tf.browser import packages
from tests.browser import small_litert


class _Registry(http.server.ThreadingHTTPServer):
  """Gives out tarballs, and counts what it is asked for."""

  def __init__(self, tarballs):
    super().__init__(('127.0.0.1', 0), _Handler)
    self.asked = []
    self.contents = {
      f'/npm/@litertjs/{name}/-/{name}-{packages.VERSION}.tgz': content
      for name, content in tarballs.items()
    }


class _Handler(http.server.BaseHTTPRequestHandler):
  server: _Registry

  def do_GET(self):
    self.server.asked.append(self.path)
    content = self.server.contents.get(self.path)
    if content is None:
      self.send_error(404)
      return
    self.send_response(200)
    # A connection that breaks off is shorter than this.
    self.send_header('Content-Length', str(len(content.rstrip(b'!'))))
    self.end_headers()
    self.wfile.write(content.removesuffix(b'!'))

  def log_message(self, format, *args):
    pass


class PackagesTest(absltest.TestCase):
  def setUp(self):
    super().setUp()
    self.enterContext(small_litert.expected())
    self.cache = self.create_tempdir().full_path
    self.folder = self.create_tempdir().full_path

  @contextlib.contextmanager
  def _registry(self, tarballs=None):
    registry = _Registry(tarballs or small_litert.tarballs())
    threading.Thread(target=registry.serve_forever, daemon=True).start()
    with self._environment(f'http://127.0.0.1:{registry.server_port}/npm/'):
      try:
        yield registry
      finally:
        registry.shutdown()
        registry.server_close()

  def _environment(self, registry):
    return mock.patch.dict(
      os.environ,
      {
        'npm_config_registry': registry,
        'no_proxy': '*',
        'XDG_CACHE_HOME': self.cache,
      },
    )

  def _files_of_cache(self):
    return sorted(name for _, _, names in os.walk(self.cache) for name in names)

  def test_fetched_once_and_cached(self):
    with self._registry() as registry:
      self.assertEqual(packages.read(), small_litert.files())
      self.assertEqual(packages.read(), small_litert.files())
      self.assertLen(registry.asked, 2)
    self.assertEqual(
      self._files_of_cache(),
      [f'litertjs-{name}-2.5.3.tgz' for name in ('core', 'wasm-utils')],
    )

  def test_damaged_cache_is_fetched_again(self):
    with self._registry() as registry:
      packages.read()
      with open(f'{self.cache}/ft_tf/{packages.tarball("core")}', 'ab') as file:
        file.write(b'more')
      self.assertEqual(packages.read(), small_litert.files())
      self.assertLen(registry.asked, 3)

  def test_another_content_is_refused_and_not_kept(self):
    others = {name: b'other' for name in small_litert.tarballs()}
    with self._registry(others):
      with self.assertRaisesRegex(errors.UsageError, 'its SHA-512 differs'):
        packages.read()
    self.assertEmpty(self._files_of_cache())

  def test_what_breaks_off_is_refused_and_not_kept(self):
    whole = small_litert.tarballs()
    cut = {name: content[:-9] + b'!' for name, content in whole.items()}
    with self._registry(cut):
      with self.assertRaises(errors.UsageError):
        packages.read()
    self.assertEmpty(self._files_of_cache())

  def test_no_registry(self):
    for registry, reason in {
      'http://127.0.0.1:9/': 'refused',
      'http://no.such.host.invalid/': r'cannot fetch .*\(',
      'file:///': 'begins with https://',
      'http://[': 'cannot fetch|no address',
    }.items():
      with self.subTest(registry), self._environment(registry):
        with self.assertRaisesRegex(errors.UsageError, reason):
          packages.read()
    self.assertEmpty(self._files_of_cache())

  def test_registry_without_the_package(self):
    with self._registry({'core': small_litert.tarballs()['core']}):
      with self.assertRaisesRegex(
        errors.UsageError, 'wasm-utils-2.5.3.tgz .*Not Found.*--litert'
      ):
        packages.read()

  def test_cache_that_cannot_be_written(self):
    self.cache = self.create_tempfile('file').full_path
    with self._registry():
      with self.assertRaisesRegex(errors.UsageError, 'set XDG_CACHE_HOME'):
        packages.read()

  def test_folder_of_tarballs(self):
    for name, content in small_litert.tarballs().items():
      with open(f'{self.folder}/{packages.tarball(name)}', 'wb') as file:
        file.write(content)
    with self._environment('http://127.0.0.1:9/'):
      self.assertEqual(packages.read(self.folder), small_litert.files())
    with open(f'{self.folder}/{packages.tarball("core")}', 'ab') as file:
      file.write(b'more')
    with self.assertRaisesRegex(errors.UsageError, 'core.*SHA-512 differs'):
      packages.read(self.folder)

  def test_folder_of_unpacked_packages(self):
    for above in ('', '/node_modules'):
      for path, content in small_litert.files().items():
        file = f'{self.folder}{above}/@litertjs/{path}'
        os.makedirs(os.path.dirname(file), exist_ok=True)
        with open(file, 'wb') as opened:
          opened.write(content)
      self.assertEqual(packages.read(self.folder), small_litert.files())
      with open(file, 'ab') as opened:
        opened.write(b'more')
      with self.assertRaisesRegex(errors.UsageError, 'its SHA-256 differs'):
        packages.read(self.folder)
      os.remove(file)
      with self.assertRaisesRegex(errors.UsageError, 'cannot read'):
        packages.read(self.folder)
      shutil.rmtree(f'{self.folder}{above}/@litertjs')

  def test_folder_without_them(self):
    for folder in (self.folder, '/no/such', ''):
      with self.assertRaisesRegex(errors.UsageError, '`npm pack @litertjs/c'):
        packages.read(folder)


if __name__ == '__main__':
  absltest.main()
