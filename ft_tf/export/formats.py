"""The files that a student is exported to, by the names of `--formats`."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

import keras
import numpy as np

from ft_tf import errors, run_dir
from ft_tf.export import (
  calibration_images,
  convert,
  layer_study,
  onnx_file,
  quantised,
  tflite_file,
  tflite_metadata,
)
from ft_tf.quantisation import twin as twins

DEFAULT = ('fp32', 'fp16', 'int8')
# What tables show of a network that a student is compared with.
COMPARED = ('fp32', 'int8')


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

  @functools.cached_property
  def twin(self) -> twins.Twin:
    """The quantisation twin, with its ranges.

    Raises:
      UsageError: as of `twin.build`, or of `Twin.observe`.
    """
    twin = self._without_ranges()
    if self.ranges is None:
      twin.observe(calibration_images.over_full_range(self.calibration))
    else:
      twin.set_ranges(self.ranges)
    return twin

  def twin_in_float(self, groups: Collection[str]) -> twins.Twin:
    """Returns the same with some groups in float, as of `twin.build`."""
    twin = self._without_ranges(groups)
    twin.set_ranges(self.twin.ranges_by_place())
    return twin

  def _without_ranges(self, in_float: Collection[str] = ()) -> twins.Twin:
    return twins.build(
      self.student, weight_scales=self.weight_scales, in_float=in_float
    )

  @functools.cached_property
  def studied(self) -> dict[str, Any]:
    """Which layers lose most in int8, as of `layer_study.study`."""
    return layer_study.study(
      self.twin, layer_study.choose_images(self.calibration)
    )

  @property
  def is_calibrated(self) -> bool:
    """Whether the converter can take the ranges of calibration images.

    It takes none that were learned, and gives a dense kernel a scale for each
    channel whatever it is asked for.
    """
    return self.ranges is None and self.weight_scales == 'channel'


@dataclasses.dataclass(frozen=True)
class Format:
  """One kind of file.

  Attributes:
    name: As in `--formats`.
    file: Its name in the export folder.
    about: What it is for, in a line.
    quantised: Whether calibration images set the ranges of its maps.
    convert: What `make` calls.
    untrained: What `check_untrained` calls in its place, where the file depends
      on what the student has learned.
    why_needless: Returns why there is no use for the file of a trained student;
      '' if there is one.
  """

  name: str
  file: str
  about: str
  convert: Callable[[Source], bytes] = dataclasses.field(repr=False)
  quantised: bool = False
  untrained: Callable[[Source], Any] | None = dataclasses.field(
    default=None, repr=False
  )
  why_needless: Callable[[Source], str] = dataclasses.field(
    default=lambda source: '', repr=False
  )

  def make(self, source: Source) -> bytes:
    """Returns the file of a student.

    Raises:
      UsageError: the format lacks operations of the student; they are named.
    """
    content = self._call(self.convert, source)
    if not self.file.endswith('.tflite'):
      return content
    return tflite_file.describe(content, source.description)

  def check_untrained(self, source: Source) -> None:
    """Raises what `make` would raise of the trained student."""
    self._call(self.untrained or self.convert, source)

  def _call(self, convert, source):
    try:
      return convert(source)
    except errors.UsageError as error:
      if self.name in DEFAULT:
        raise
      raise errors.UsageError(
        f'{error}; or leave {self.name} out of --formats'
      ) from error


def _int8(outside: str) -> Callable[[Source], bytes]:
  """Returns the conversion to integers of input and output.

  The twin finds the ranges in one pass in float, and its file is held against
  it. The converter runs each image on one thread, many times slower: it is for
  networks whose arithmetic the twin does not know.
  """

  def make(source):
    try:
      return tflite_file.complete(quantised.tflite(source.twin, io=outside))
    except errors.UsageError:
      if not source.is_calibrated:
        raise
    return convert.tflite_int8(
      source.of_reals, source.calibration, outside=outside
    )

  return make


def _mixed(source: Source) -> bytes:
  """Returns int8 with the layers in float32 that repair what int8 loses."""
  reason = _why_not_mixed(source)
  if reason:
    raise errors.UsageError(f'{source.student.name}: {reason}')
  twin = source.twin_in_float(source.studied['repair'])
  return tflite_file.complete(quantised.tflite(twin))


def _why_not_mixed(source):
  repair, layers = source.studied['repair'], source.studied['layers']
  if not repair:
    return 'no layer has to be left in float, int8 keeps the classes'
  if len(repair) == len(layers):
    return 'all layers would have to be left in float, as in fp32'
  return ''


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
      'mixed',
      run_dir.MIXED,
      'int8, but float32 in the layers that lose most in int8, batch 1, uint8 '
      'in and out',
      _mixed,
      quantised=True,
      untrained=lambda source: twins.build(source.student),
      why_needless=_why_not_mixed,
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
