"""Stand-ins for the packages of LiteRT.js, small, with hashes to match."""

import base64
import contextlib
import hashlib
import io
import tarfile
from collections.abc import Iterator
from unittest import mock

from ft_tf.browser import packages


def files() -> dict[str, bytes]:
  """Returns all files of both packages, each with another content."""
  return {path: f'// {path}'.encode() for path in packages._FILES}


def tarballs() -> dict[str, bytes]:
  """Returns the tarballs by package."""
  return {name: _pack(name) for name in packages._TARBALLS}


@contextlib.contextmanager
def expected() -> Iterator[None]:
  """Takes these packages for LiteRT.js for a while."""
  digests = {
    path: hashlib.sha256(content).hexdigest()
    for path, content in files().items()
  }
  published = {
    name: base64.b64encode(hashlib.sha512(content).digest()).decode()
    for name, content in tarballs().items()
  }
  with (
    mock.patch.object(packages, '_FILES', digests),
    mock.patch.object(packages, '_TARBALLS', published),
  ):
    yield


def _pack(name):
  content = io.BytesIO()
  with tarfile.open(fileobj=content, mode='w') as archive:
    for path, body in files().items():
      if path.startswith(f'{name}/'):
        member = tarfile.TarInfo(f'package/{path.removeprefix(f"{name}/")}')
        member.size = len(body)
        archive.addfile(member, io.BytesIO(body))
  return content.getvalue()
