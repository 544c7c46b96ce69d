"""What a .tflite file says of itself: the metadata that Android's tools read.

The layout is TensorFlow's metadata_schema.fbs, whose Python package does not
install beside this TensorFlow. The numbers below are the fields' places in its
tables. Class names lie in a `labels.txt` that is appended to the file as a ZIP
archive, where MediaPipe and Android Studio look for it.
"""

import dataclasses
import io
import zipfile
from collections.abc import Sequence
from typing import Any

import flatbuffers

NAME = 'TFLITE_METADATA'  # of its entry in the model's own table
LABELS = 'labels.txt'
_IDENTIFIER = b'M001'

_TENSOR_AXIS_LABELS = 2  # of AssociatedFileType
_FEATURES, _IMAGE = 1, 2  # of ContentProperties
_RGB, _GREY = 1, 2  # of ColorSpaceType
_NORMALIZATION = 1  # of ProcessUnitOptions


@dataclasses.dataclass(frozen=True)
class Description:
  """What is said of a classifier.

  Attributes:
    name: The model's.
    about: What it does, in a sentence.
    image_shape: `(H, W, C)` of its images.
    label_names: By class.
  """

  name: str
  about: str
  image_shape: tuple[int, int, int]
  label_names: tuple[str, ...]


def pack(description: Description) -> bytes:
  """Returns the metadata of a model from one image to logits."""
  builder = flatbuffers.Builder(512)
  height, width, channels = description.image_shape
  size = _table(builder, (1, 'uint32', height), (0, 'uint32', width))
  image = _table(
    builder,
    (0, 'int8', _GREY if channels == 1 else _RGB),
    (1, 'offset', size),
  )
  # What takes real numbers takes raw ones: (value - 0) / 1.
  options = _table(
    builder,
    (0, 'offset', _floats(builder, [0.0])),
    (1, 'offset', _floats(builder, [1.0])),
  )
  unit = _table(builder, (0, 'uint8', _NORMALIZATION), (1, 'offset', options))
  inputs = _table(
    builder,
    (0, 'offset', builder.CreateString('image')),
    (1, 'offset', builder.CreateString('Raw image, values 0 to 255.')),
    (3, 'offset', _content(builder, _IMAGE, image)),
    (4, 'offset', _offsets(builder, [unit])),
  )
  labels = _table(
    builder,
    (0, 'offset', builder.CreateString(LABELS)),
    (1, 'offset', builder.CreateString('Class names, a line each.')),
    (2, 'int8', _TENSOR_AXIS_LABELS),
  )
  features = _table(builder)
  outputs = _table(
    builder,
    (0, 'offset', builder.CreateString('logits')),
    (1, 'offset', builder.CreateString('A logit of each class.')),
    (3, 'offset', _content(builder, _FEATURES, features)),
    (6, 'offset', _offsets(builder, [labels])),
  )
  graph = _table(
    builder,
    (2, 'offset', _offsets(builder, [inputs])),
    (3, 'offset', _offsets(builder, [outputs])),
  )
  model = _table(
    builder,
    (0, 'offset', builder.CreateString(description.name)),
    (1, 'offset', builder.CreateString(description.about)),
    (3, 'offset', _offsets(builder, [graph])),
    (7, 'offset', builder.CreateString('1.0.0')),
  )
  builder.Finish(model, _IDENTIFIER)
  return bytes(builder.Output())


def append_labels(content: bytes, label_names: Sequence[str]) -> bytes:
  """Returns a model file with the class names in a ZIP archive at its end."""
  whole = io.BytesIO(content)
  # MediaPipe takes no compressed archive.
  with zipfile.ZipFile(whole, 'a', zipfile.ZIP_STORED) as archive:
    # A date of its own: the same model makes the same bytes.
    entry = zipfile.ZipInfo(LABELS, (1980, 1, 1, 0, 0, 0))
    archive.writestr(entry, ''.join(f'{name}\n' for name in label_names))
  return whole.getvalue()


def _content(builder: flatbuffers.Builder, kind: int, properties: int) -> int:
  return _table(builder, (0, 'uint8', kind), (1, 'offset', properties))


def _table(builder: flatbuffers.Builder, *fields: tuple[int, str, Any]) -> int:
  """Writes a table, and returns its place.

  Args:
    builder: Where to.
    *fields: Place of the field in the table, its type and its value.
  """
  builder.StartObject(max((place for place, _, _ in fields), default=-1) + 1)
  for place, kind, value in fields:
    if kind == 'offset':
      builder.PrependUOffsetTRelativeSlot(place, value, 0)
    else:
      prepend = {
        'int8': builder.PrependInt8Slot,
        'uint8': builder.PrependUint8Slot,
        'uint32': builder.PrependUint32Slot,
      }[kind]
      prepend(place, value, 0)
  return builder.EndObject()


def _offsets(builder: flatbuffers.Builder, places: Sequence[int]) -> int:
  builder.StartVector(4, len(places), 4)
  for place in reversed(places):
    builder.PrependUOffsetTRelative(place)
  return builder.EndVector()


def _floats(builder: flatbuffers.Builder, values: Sequence[float]) -> int:
  builder.StartVector(4, len(values), 4)
  for value in reversed(values):
    builder.PrependFloat32(value)
  return builder.EndVector()
