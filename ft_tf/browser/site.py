"""The names that the page's server knows, each with its content."""

import base64
import dataclasses
import hashlib
import importlib.resources
import os
import re
from collections.abc import Mapping

from ft_tf import json_files
from ft_tf.browser import exports, packages

_TYPES = {
  '.css': 'text/css; charset=utf-8',
  '.html': 'text/html; charset=utf-8',
  '.js': 'text/javascript; charset=utf-8',
  '.json': 'application/json',
  '.svg': 'image/svg+xml',
  '.tflite': 'application/octet-stream',
  '.wasm': 'application/wasm',
}
_INLINE = re.compile(rb'<script type="importmap">(.*?)</script>', re.S)


@dataclasses.dataclass(frozen=True)
class Resource:
  """What a name stands for.

  Attributes:
    media_type: The value of the header Content-Type.
    content: The body.
  """

  media_type: str
  content: bytes


@dataclasses.dataclass(frozen=True)
class Site:
  """All that the server gives out.

  Attributes:
    resources: By path, from '/'.
    headers: Sent with every answer.
  """

  resources: Mapping[str, Resource]
  headers: Mapping[str, str]


def make(export: exports.Export, litert: Mapping[str, bytes]) -> Site:
  """Returns the site of a student.

  Args:
    export: The student.
    litert: The files of LiteRT.js, as `packages.read` returns them.
  """
  page = _read_page()
  about = {**export.about, 'litert': packages.VERSION}
  contents = {
    **{f'/{name}': content for name, content in page.items()},
    '/student.json': json_files.to_json(about).encode(),
    **{f'/files/{name}': content for name, content in export.files.items()},
    **{f'/litert/{path}': content for path, content in litert.items()},
  }
  resources = {
    path: Resource(_TYPES[os.path.splitext(path)[1]], content)
    for path, content in contents.items()
  }
  resources['/'] = resources.pop('/index.html')
  return Site(resources, _headers(page['index.html']))


def _read_page() -> dict[str, bytes]:
  folder = importlib.resources.files('ft_tf.browser') / 'page'
  return {file.name: file.read_bytes() for file in folder.iterdir()}


def _headers(page: bytes) -> dict[str, str]:
  """Returns the headers of every answer.

  The import map is the one script in the page itself. Threads need shared
  memory, which browsers give to isolated pages alone.

  Args:
    page: The HTML.
  """
  (import_map,) = _INLINE.findall(page)
  digest = base64.b64encode(hashlib.sha256(import_map).digest()).decode()
  policy = {
    'default-src': "'none'",
    'script-src': f"'self' 'sha256-{digest}' 'wasm-unsafe-eval'",
    'style-src': "'self'",
    'img-src': "'self'",
    'connect-src': "'self'",
    'worker-src': "'self'",
    'base-uri': "'none'",
    'form-action': "'none'",
    'frame-ancestors': "'none'",
  }
  return {
    'Content-Security-Policy': '; '.join(map(' '.join, policy.items())),
    'Cross-Origin-Opener-Policy': 'same-origin',
    'Cross-Origin-Embedder-Policy': 'require-corp',
    'Cross-Origin-Resource-Policy': 'same-origin',
    'Permissions-Policy': 'camera=(self), geolocation=(), microphone=()',
    'Referrer-Policy': 'no-referrer',
    'X-Content-Type-Options': 'nosniff',
    'Cache-Control': 'no-store',
  }
