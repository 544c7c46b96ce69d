"""The names that are served, and a policy that fits the page."""

import base64
import hashlib
import json
import os
import re

from absl.testing import absltest

from ft_tf.browser import exports, packages, site
from tests.browser import small_exports, small_litert


class SiteTest(absltest.TestCase):
  def setUp(self):
    super().setUp()
    folder = os.path.join(self.create_tempdir().full_path, 'export')
    small_exports.write(folder, {'student_int8.tflite': b'model'})
    with small_litert.expected():
      self.site = site.make(exports.read(folder), small_litert.files())
    self.html = self.site.resources['/'].content.decode()

  def test_names_and_types(self):
    resources = self.site.resources
    self.assertEqual(resources['/files/student_int8.tflite'].content, b'model')
    self.assertEqual(
      resources['/litert/core/wasm/litert_wasm_internal.wasm'].media_type,
      'application/wasm',
    )
    self.assertStartsWith(resources['/main.js'].media_type, 'text/javascript')
    self.assertNotIn('/index.html', resources)
    about = json.loads(resources['/student.json'].content)
    self.assertEqual(about['litert'], packages.VERSION)

  def test_policy_allows_the_import_map_and_no_other_script(self):
    policy = dict(
      part.split(' ', 1)
      for part in self.site.headers['Content-Security-Policy'].split('; ')
    )
    self.assertEqual(policy['default-src'], "'none'")
    (inline,) = re.findall(r'<script[^>]*>([^<]+)</script>', self.html)
    digest = base64.b64encode(hashlib.sha256(inline.encode()).digest())
    self.assertEqual(
      policy['script-src'],
      f"'self' 'sha256-{digest.decode()}' 'wasm-unsafe-eval'",
    )
    self.assertNotIn('unsafe-inline', str(policy))
    # These would need it.
    self.assertNotRegex(self.html, r'<style|\sstyle=|\son[a-z]+=')

  def test_everything_that_the_page_names_is_there(self):
    imports = json.loads(re.findall(r'importmap">(.*)</script>', self.html)[0])
    sources = [
      resource.content.decode()
      for path, resource in self.site.resources.items()
      if path.endswith('.js') and not path.startswith('/litert/')
    ]
    modules = re.findall(r"from '(.+?)';", '\n'.join(sources))
    named = [
      *re.findall(r'(?:src|href)="(.+?)"', self.html),
      *imports['imports'].values(),
      *[name for name in modules if name not in imports['imports']],
    ]
    self.assertGreater(len(named), 8)
    self.assertContainsSubset(named, self.site.resources)

  def test_nothing_of_another_host_is_named(self):
    for path, resource in self.site.resources.items():
      if not path.startswith(('/litert/', '/files/')):
        text = resource.content.decode()
        found = re.findall(r'(?:https?:)?//[\w.]+\w', text)
        self.assertEmpty({*found} - {'http://www.w3.org'}, path)

  def test_elements_that_the_scripts_ask_for_are_in_the_page(self):
    for path in ('/main.js', '/show.js'):
      script = self.site.resources[path].content.decode()
      for name in re.findall(r"element\('([\w-]+)'\)", script):
        self.assertIn(f'id="{name}"', self.html)


if __name__ == '__main__':
  absltest.main()
