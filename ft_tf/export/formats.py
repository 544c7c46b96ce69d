"""The files that a student is exported to, by the names of `--formats`."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterable, Mapping

import keras
import numpy as np

from ft_tf import errors, run_dir
from ft_tf.export import (
  convert,
  onnx_file,
  quantised,
  tflite_file,
  tflite_metadata,
)
from ft_tf.quantisation import twin as twins

DEFAULT = ('fp32', 'fp16', 'int8')


@dataclasses.dataclass
class Source:
  """A student in the forms that it is converted from, each made once.

  Attributes:
    student: From raw images to logits.
    calibration: Raw images of the training split, `[N, H, W, C]` uint8.
    label_names: By class; the .tflite files hold them with their description.
    weight_scales: As of `twin.build`.
    ranges: Those of the maps that quantisation-aware training has learned, by
      place; None: the calibration images set them.
  """

  student: keras.Model
  calibration: np.ndarray
  _: dataclasses.KW_ONLY
  label_names: tuple[str, ...] = ()
  weight_scales: str = 'channel'
  ranges: Mapping[str, tuple[float, float]] | None = None

  @property
  def description(self) -> tflite_metadata.Description:
    """What the .tflite files say of themselves."""
    return tflite_metadata.Description(
      name=self.student.name,
      about=f'Classifies images into {len(self.label_names)} classes.',
      image_shape=self.student.input_shape[1:],
      label_names=self.label_names,
    )

  @functools.cached_property
  def of_bytes(self) -> keras.Model:
    """The float32 twin that takes uint8."""
    return convert.float32_twin(self.student, 'uint8')

  @functools.cached_property
  def of_reals(self) -> keras.Model:
    """The float32 twin that takes float32, of operations that integers have."""
    twin = convert.float32_twin(self.student, 'float32')
    return convert.with_divided_hard_swish(twin)


@dataclasses.dataclass(frozen=True)
class Format:
  """One kind of file.

  Attributes:
    name: As in `--formats`.
    file: Its name in the export folder.
    about: What it is for, in a line.
    quantised: Whether calibration images set the ranges of its maps.
    convert: What `make` calls.
  """

  name: str
  file: str
  about: str
  convert: Callable[[Source], bytes] = dataclasses.field(repr=False)
  quantised: bool = False

  def make(self, source: Source) -> bytes:
    """Returns the file of a student.

    Raises:
      UsageError: the format lacks operations of the student; they are named.
    """
    try:
      content = self.convert(source)
    except errors.UsageError as error:
      if self.name in DEFAULT:
        raise
      raise errors.UsageError(
        f'{error}; or leave {self.name} out of --formats'
      ) from error
    if not self.file.endswith('.tflite'):
      return content
    return tflite_file.describe(content, source.description)


def _int8(outside: str) -> Callable[[Source], bytes]:
  """Returns the conversion to integers of input and output."""

  def make(source):
    if source.ranges is None and source.weight_scales == 'channel':
      return convert.tflite_int8(
        source.of_reals, source.calibration, outside=outside
      )
    # The converter takes no ranges, and gives a dense kernel a scale for each
    # channel whatever it is asked for.
    twin = twins.build(source.student, weight_scales=source.weight_scales)
    if source.ranges is None:
      twin.observe(source.calibration)
    else:
      twin.set_ranges(source.ranges)
    return tflite_file.shorten_names(quantised.tflite(twin, io=outside))

  return make


FORMATS = {
  each.name: each
  for each in (
    Format(
      'fp32',
      run_dir.FLOAT32,
      'float32, batch 1, float32 logits',
      lambda source: convert.tflite_float32(source.of_bytes),
    ),
    Format(
      'fp16',
      run_dir.FLOAT16,
      'weights in float16, batch 1, float32 logits',
      lambda source: convert.tflite_float16(source.of_bytes),
    ),
    Format(
      'int8',
      run_dir.INT8,
      'integers throughout, batch 1, uint8 in and out',
      _int8('uint8'),
      quantised=True,
    ),
    Format(
      'dynamic',
      'student_dynamic.tflite',
      'weights in int8, maps in float32, batch 1, float32 logits',
      lambda source: convert.tflite_dynamic(source.of_bytes),
    ),
    Format(
      'int8_io',
      'student_int8_io.tflite',
      'integers throughout, batch 1, int8 in and out, as Edge TPU and '
      'microcontrollers take it',
      _int8('int8'),
      quantised=True,
    ),
    Format(
      'int16x8',
      'student_int16x8.tflite',
      'weights in int8, maps in int16, batch 1, float32 in and out',
      lambda source: convert.tflite_int16x8(
        source.of_reals, source.calibration
      ),
      quantised=True,
    ),
    Format(
      'onnx',
      run_dir.ONNX,
      'ONNX, float32, batch 1, float32 logits; needs tf2onnx',
      lambda source: onnx_file.onnx_model(source.of_bytes),
    ),
    Format(
      'flexible',
      'student_flexible.tflite',
      'float32, any batch, float32 logits',
      lambda source: convert.tflite_float32(source.of_bytes, batch=None),
    ),
  )
}


def choose(names: Iterable[str]) -> tuple[Format, ...]:
  """Returns the formats of an export: the default ones, and those of names.

  Raises:
    UsageError: there is no such format, or its packages are not installed.
  """
  names = tuple(names)
  if 'onnx' in names:
    onnx_file.check_installed()
  for name in names:
    if name not in FORMATS:
      raise errors.UsageError(
        f'--formats={name}: there is no such format'
        f'{errors.did_you_mean(name, FORMATS)}; give some of '
        f'{", ".join(FORMATS)}'
      )
  return tuple(
    each for each in FORMATS.values() if each.name in (*DEFAULT, *names)
  )
