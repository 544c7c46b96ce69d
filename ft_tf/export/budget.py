"""What a student will weigh and take on a phone, before it is trained.

The files of a network with random weights have the size, the speed and the
memory of the trained one's; only its answers are worth nothing.
"""

import dataclasses
import os
import sys
import tempfile
from collections.abc import Iterable
from typing import Any

import keras
import numpy as np

from ft_tf import errors, specs
from ft_tf.export import device_limits, formats, latency, memory
from ft_tf.models import families, layers, zoo

CALIBRATION = 16  # images


@dataclasses.dataclass(frozen=True)
class Candidate:
  """An untrained network and its files.

  Attributes:
    name: As in `zoo.NAMES`, or a `.keras` file.
    parameters: Number of weights that training moves.
    files: By format: `bytes` of the file; `latency_ms`, the median for one
      image in one thread on this machine; and of .tflite files `arena_bytes`,
      as of `memory.arena_bytes`.
  """

  name: str
  parameters: int
  files: dict[str, dict[str, float]]

  def fits(self, limits: device_limits.Limits) -> bool:
    return all(
      self.files[limit.format][limit.figure] <= limit.most
      for limit in limits.listed()
    )

  def __str__(self) -> str:
    figures = '; '.join(
      f'{name}: {describe(file)}' for name, file in self.files.items()
    )
    return f'{self.name}, {self.parameters:,} parameters; {figures}'


def describe(file: dict[str, float]) -> str:
  """Returns the figures of a candidate's file as text."""
  arena = ''
  if 'arena_bytes' in file:
    arena = f', arena of {file["arena_bytes"]:,} bytes'
  return f'{file["bytes"]:,} bytes, {file["latency_ms"]:.3f} ms{arena}'


def measure(
  name: str,
  spec: layers.Spec,
  images: np.ndarray,
  names: Iterable[str] = (device_limits.USUAL,),
  *,
  label_names: Iterable[str] = (),
  student: keras.Model | None = None,
) -> Candidate:
  """Returns what a network's files take, of random weights if it is built here.

  Args:
    name: As of `zoo.build`.
    spec: The data's shape and statistics.
    images: A few raw images to calibrate on, `[N, H, W, C]` uint8.
    names: The files' formats, as of `formats.FORMATS`.
    label_names: By class; the files hold them.
    student: The network in float32, whose weights may be changed here; None: it
      is built.

  Raises:
    UsageError: there is no such network, or TFLite lacks some of its
      operations, which are named.
  """
  if student is None:
    student = zoo.build(name, dataclasses.replace(spec, precision='float32'))
  _move(student)
  source = formats.Source(
    student, images[:CALIBRATION], label_names=tuple(label_names)
  )
  return Candidate(
    name=name,
    parameters=specs.count_parameters(student),
    files={
      each: _measure_file(formats.FORMATS[each], source, images[0])
      for each in names
    },
  )


def _measure_file(
  form: formats.Format, source: formats.Source, image: np.ndarray
) -> dict[str, float]:
  content = form.make(source)
  with tempfile.TemporaryDirectory() as folder:
    path = os.path.join(folder, form.file)
    with open(path, 'wb') as file:
      file.write(content)
    figures = {
      'bytes': len(content),
      'latency_ms': latency.measure(path, image)['p50'],
    }
    if path.endswith('.tflite'):
      figures['arena_bytes'] = memory.arena_bytes(path)
  return figures


def _move(student: keras.Model) -> None:
  """Gives weights that are still where they began values as after training.

  The converter leaves out what is all zero: the file would be a tenth smaller.
  """
  rng = np.random.default_rng(0)
  for weight in student.weights:
    value = weight.numpy()
    if value.size > 1 and np.ptp(value) == 0:
      weight.assign(value + rng.uniform(0.05, 0.2, value.shape))


def choose(
  names: Iterable[str],
  spec: layers.Spec,
  images: np.ndarray,
  limits: device_limits.Limits,
  *,
  label_names: Iterable[str] = (),
) -> tuple[Candidate, list[Candidate]]:
  """Returns the largest network that fits, and all that were measured.

  Args:
    names: Networks, the smallest first. None is measured behind the first that
      does not fit.
    spec: As of `measure`.
    images: Likewise.
    limits: What it may take.
    label_names: As of `measure`.

  Raises:
    UsageError: none fits.
  """
  label_names = tuple(label_names)
  candidates = []
  for name in names:
    candidates.append(
      measure(name, spec, images, limits.formats(), label_names=label_names)
    )
    print(f'candidate: {candidates[-1]}', file=sys.stderr, flush=True)
    if not candidates[-1].fits(limits):
      break
  fitting = [each for each in candidates if each.fits(limits)]
  if not fitting:
    raised = ' or '.join(f'--{limit.flag}' for limit in limits.listed())
    raise errors.UsageError(
      f'no candidate meets the limits; the smallest is {candidates[0]}: '
      f'raise {raised}, or give a --student of a smaller family'
    )
  return fitting[-1], candidates


def settle(
  name: str,
  spec: layers.Spec,
  images: np.ndarray,
  limits: device_limits.Limits,
  *,
  label_names: Iterable[str] = (),
  known: dict[str, Any] | None = None,
) -> dict[str, Any]:
  """Returns the student of a family that limits leave, as JSON can write it.

  Args:
    name: Of a network of the family, as of `families.family`.
    spec: As of `measure`.
    images: Likewise.
    limits: What it may take.
    label_names: As of `measure`.
    known: What was returned before: it stands if it is of the same family and
      limits, since latencies are never quite the same twice.

  Returns:
    `student`, the largest that fits; `candidates`, all that were measured; and
    what was asked for, `family` and `limits`.

  Raises:
    UsageError: none fits, or the network has no family.
  """
  names = families.family(name)
  asked = {'family': list(names), 'limits': limits.as_json()}
  if (
    known is not None
    and known['student'] in names
    and {k: known.get(k) for k in asked} == asked
  ):
    return known
  best, candidates = choose(
    names, spec, images, limits, label_names=label_names
  )
  return {
    **asked,
    'student': best.name,
    'candidates': [dataclasses.asdict(each) for each in candidates],
  }
