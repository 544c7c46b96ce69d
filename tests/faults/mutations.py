"""What may have happened to a file, drawn by hypothesis: bytes and meaning.

Bytes are flipped, cut, repeated and spliced. What a format packs, such as the
members of an archive or the values of JSON, is changed inside as well, so that
checksums hold and a reader gets as far as the changed value.
"""

import enum
import io
import json
import struct
import zipfile
from typing import Any

from hypothesis import strategies as st
from tensorboard.compat.tensorflow_stub import pywrap_tensorflow

# What a module of this name would do if a file had Python import it.
EVIL = 'ft_tf_evil_module'
_TEXTS = (
  *(EVIL, f'{EVIL}.Image', 'tensorflow_datasets', 'keras', 'Lambda'),
  *('', ' ', 'x', '\0', '../../escape', '/etc/passwd', '/dev/zero', 'os'),
  *('builtins', '__class__', '<b>', '\u202e', '\ud800', '%s', '{0}', 'nan'),
  'a' * 5000,
)
_NUMBERS = (
  *(0, -1, 1, 2**31, 2**63, -(2**63), 10**30, 1e308, -0.0, 0.5, True),
  *(float('nan'), float('inf')),
)
_DEEP = '[' * 100_000


class Other(enum.Enum):
  """What is in a file's place instead of bytes; the target of a link."""

  FOLDER = 'folder'
  PIPE = 'pipe'
  NOTHING = 'nothing'
  LOOP = ''
  BROKEN = 'nowhere'
  ENDLESS = '/dev/zero'


Placed = bytes | Other

json_values: st.SearchStrategy[Any] = st.recursive(
  st.one_of(
    st.none(),
    st.sampled_from(_NUMBERS),
    st.sampled_from(_TEXTS),
    st.integers(-100, 100),
    st.text(max_size=5),
  ),
  lambda inner: st.one_of(
    st.lists(inner, max_size=3),
    st.dictionaries(st.text(max_size=5), inner, max_size=3),
  ),
  max_leaves=5,
)


@st.composite
def damaged(draw: st.DrawFn, content: bytes) -> bytes:
  """Returns bytes that storage, a copy or a stranger has changed."""
  kind = draw(st.sampled_from(('flip', 'cut', 'empty', 'splice', 'other')))
  places = st.integers(0, max(len(content) - 1, 0))
  if kind == 'other':
    return draw(st.binary(max_size=64))
  if kind == 'empty' or not content:
    return b''
  if kind == 'cut':
    return content[: draw(places)]
  changed = bytearray(content)
  if kind == 'splice':
    first, last = sorted((draw(places), draw(places)))
    at = draw(places)
    changed[at:at] = changed[first : min(last, first + 4096)]
    return bytes(changed)
  for _ in range(draw(st.integers(1, 8))):
    changed[draw(places)] ^= draw(st.integers(1, 255))
  return bytes(changed)


@st.composite
def json_of(draw: st.DrawFn, content: bytes) -> bytes:
  """Returns the text of JSON, one or two of whose values are others."""
  if draw(st.integers(0, 9)) == 0:
    return draw(
      st.sampled_from((b'', b'{}', b'[]', b'null', b'1', b'\xff', b'NaN'))
    )
  if draw(st.integers(0, 49)) == 0:
    return _DEEP.encode()
  value = json.loads(content)
  if isinstance(value, dict) and draw(st.booleans()):
    # What an earlier version wrote has none.
    value.pop('checksum', None)
  for _ in range(draw(st.integers(1, 2))):
    value = _change(draw, value)
  return json.dumps(value).encode()


def _change(draw, value):
  """Returns a JSON value with a change at a random place in it."""
  inner = list(value) if isinstance(value, dict) else None
  if isinstance(value, list):
    inner = list(range(len(value)))
  if not inner or draw(st.integers(0, 5)) == 0:
    return draw(json_values)
  key = draw(st.sampled_from(inner))
  kind = draw(st.sampled_from(('within',) * 6 + ('delete', 'repeat', 'rename')))
  changed = value.copy()
  if kind == 'within':
    changed[key] = _change(draw, value[key])
  elif kind == 'delete':
    del changed[key]
  elif isinstance(value, list):
    changed.insert(key, value[key])
  else:
    new = draw(st.sampled_from(_TEXTS) | st.sampled_from(inner))
    changed[new] = value[key]
  return changed


@st.composite
def rows_of(draw: st.DrawFn, content: bytes) -> bytes:
  """Returns lines of JSON, of which one is changed, gone or doubled."""
  lines = content.splitlines(keepends=True)
  number = draw(st.integers(0, len(lines) - 1))
  kind = draw(st.sampled_from(('change', 'delete', 'repeat', 'swap')))
  if kind == 'change':
    lines[number] = draw(json_of(lines[number])) + b'\n'
  elif kind == 'delete':
    del lines[number]
  elif kind == 'repeat':
    lines.insert(number, lines[number])
  else:
    lines[0], lines[number] = lines[number], lines[0]
  return b''.join(lines)


@st.composite
def npy_of(draw: st.DrawFn, content: bytes) -> bytes:
  """Returns a .npy file whose header, or data, is another."""
  if draw(st.booleans()):
    return draw(damaged(content))
  (length,) = struct.unpack('<H', content[8:10])
  shape = draw(
    st.lists(st.sampled_from((0, 1, 3, 16, -1, 2**31, 2**62)), max_size=5)
  )
  dtype = draw(
    st.sampled_from(
      ('<f4', '<f8', '|O', '<c8', '|b1', '<U5', '|V4', '<i8', 'x')
    )
  )
  header = f"{{'descr': {dtype!r}, 'fortran_order': False, 'shape': "
  header = f'{header}{(*shape,)}, }}\n'.encode().rjust(length)
  start = content[:8] + struct.pack('<H', len(header))
  return start + header + content[10 + length :]


@st.composite
def zip_of(draw: st.DrawFn, content: bytes) -> bytes:
  """Returns an archive with one member changed inside, gone, or another's."""
  if draw(st.integers(0, 3)) == 0:
    return draw(damaged(content))
  written = io.BytesIO()
  with (
    zipfile.ZipFile(io.BytesIO(content)) as old,
    zipfile.ZipFile(written, 'w') as new,
  ):
    names = old.namelist()
    # The configuration is where a model says what it wants.
    chosen = draw(
      st.sampled_from([*names, *(n for n in names if n == 'config.json')])
    )
    kind = draw(st.sampled_from(('inside',) * 5 + ('delete', 'rename', 'add')))
    for name in names:
      member, written_name = old.read(name), name
      if name == chosen:
        if kind == 'inside':
          member = draw(inside(name, member))
        elif kind == 'delete':
          continue
        elif kind == 'rename':
          written_name = draw(st.sampled_from(('../escape', '/escape', 'x')))
      new.writestr(written_name, member)
    if kind == 'add':
      new.writestr('../../escape', b'x')
      new.writestr('assets/x', b'x')
  return written.getvalue()


def inside(name: str, content: bytes) -> st.SearchStrategy[bytes]:
  """Returns the strategy of a file, or of a member, by its name."""
  if name.endswith('.jsonl'):
    return st.one_of(damaged(content), rows_of(content))
  if name.endswith('.json'):
    return st.one_of(*(json_of(content),) * 3, damaged(content))
  if name.endswith('.npy'):
    return npy_of(content)
  if name.endswith(('.keras', '.npz')):
    return zip_of(content)
  if 'tfrecord' in name or 'tfevents' in name:
    return st.one_of(_records_of(content), damaged(content))
  if name.endswith('.safetensors'):
    return st.one_of(_safetensors_of(content), damaged(content))
  return damaged(content)


def placed(name: str, content: bytes) -> st.SearchStrategy[Placed]:
  """Returns the strategy of what may be in a file's place."""
  return st.one_of(*(inside(name, content),) * 4, st.sampled_from(Other))


@st.composite
def _records_of(draw: st.DrawFn, content: bytes) -> bytes:
  """Returns TensorFlow's records, one changed inside, gone or doubled."""
  records = []
  at = 0
  while at < len(content):
    (length,) = struct.unpack('<Q', content[at : at + 8])
    records.append(content[at + 12 : at + 12 + length])
    at += length + 16
  number = draw(st.integers(0, len(records) - 1))
  kind = draw(st.sampled_from(('change',) * 3 + ('delete', 'repeat')))
  if kind == 'change':
    records[number] = draw(damaged(records[number]))
  elif kind == 'delete':
    del records[number]
  else:
    records.insert(number, records[number])
  written = b''
  for record in records:
    length = struct.pack('<Q', len(record))
    written += length + _checksum(length) + record + _checksum(record)
  return written


def _checksum(content: bytes) -> bytes:
  """Returns the checksum of TFRecord files."""
  return struct.pack('<I', pywrap_tensorflow.masked_crc32c(content))


@st.composite
def _safetensors_of(draw: st.DrawFn, content: bytes) -> bytes:
  """Returns a .safetensors file whose header has another value."""
  (length,) = struct.unpack('<Q', content[:8])
  header = draw(json_of(content[8 : 8 + length]))
  return struct.pack('<Q', len(header)) + header + content[8 + length :]
