"""What a student will weigh and take on a phone, before it is trained.

The int8 file of a network with random weights has the size and the speed of the
trained one; only its answers are worth nothing.
"""

import dataclasses
import os
import sys
import tempfile
from collections.abc import Iterable
from typing import Any

import keras
import numpy as np

from ft_tf import errors, run_dir, specs
from ft_tf.export import convert, latency
from ft_tf.models import families, layers, zoo

CALIBRATION = 16  # images


@dataclasses.dataclass(frozen=True)
class Limits:
  """What the int8 file of a student may take; None: any.

  Attributes:
    max_bytes: Of the file.
    max_latency_ms: Median for one image in one thread on this machine.
  """

  max_bytes: int | None = None
  max_latency_ms: float | None = None

  def __post_init__(self) -> None:
    for name, value in dataclasses.asdict(self).items():
      if value is not None and not value > 0:
        raise errors.UsageError(f'--{name}={value}: give a number above 0')


@dataclasses.dataclass(frozen=True)
class Candidate:
  """An untrained network and its int8 file.

  Attributes:
    name: As in `zoo.NAMES`, or a `.keras` file.
    parameters: Number of weights that training moves.
    bytes: Of the file.
    latency_ms: Median for one image in one thread on this machine.
  """

  name: str
  parameters: int
  bytes: int
  latency_ms: float

  def fits(self, limits: Limits) -> bool:
    return (limits.max_bytes is None or self.bytes <= limits.max_bytes) and (
      limits.max_latency_ms is None or self.latency_ms <= limits.max_latency_ms
    )


def measure(name: str, spec: layers.Spec, images: np.ndarray) -> Candidate:
  """Returns what a network's int8 file takes, of random weights.

  Args:
    name: As of `zoo.build`.
    spec: The data's shape and statistics.
    images: A few raw images to calibrate on, `[N, H, W, C]` uint8.

  Raises:
    UsageError: there is no such network, or TFLite lacks some of its
      operations, which are named.
  """
  student = zoo.build(name, dataclasses.replace(spec, precision='float32'))
  _move(student)
  content = convert.tflite_int8(
    convert.float32_twin(student, 'float32'), images[:CALIBRATION]
  )
  with tempfile.TemporaryDirectory() as folder:
    path = os.path.join(folder, run_dir.INT8)
    with open(path, 'wb') as file:
      file.write(content)
    taken = latency.measure(path, images[0])
  return Candidate(
    name=name,
    parameters=specs.count_parameters(student),
    bytes=len(content),
    latency_ms=taken['p50'],
  )


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
  names: Iterable[str], spec: layers.Spec, images: np.ndarray, limits: Limits
) -> tuple[Candidate, list[Candidate]]:
  """Returns the largest network that fits, and all that were measured.

  Args:
    names: Networks, the smallest first. None is measured behind the first that
      does not fit.
    spec: As of `measure`.
    images: Likewise.
    limits: What it may take.

  Raises:
    UsageError: none fits.
  """
  candidates = []
  for name in names:
    candidates.append(measure(name, spec, images))
    print(f'candidate: {_line(candidates[-1])}', file=sys.stderr, flush=True)
    if not candidates[-1].fits(limits):
      break
  fitting = [each for each in candidates if each.fits(limits)]
  if not fitting:
    raise errors.UsageError(
      f'no candidate meets the limits; the smallest is {_line(candidates[0])}: '
      'raise --max_bytes or --max_latency_ms, or give a --student of a '
      'smaller family'
    )
  return fitting[-1], candidates


def settle(
  name: str,
  spec: layers.Spec,
  images: np.ndarray,
  limits: Limits,
  *,
  known: dict[str, Any] | None = None,
) -> dict[str, Any]:
  """Returns the student of a family that limits leave, as JSON can write it.

  Args:
    name: Of a network of the family, as of `families.family`.
    spec: As of `measure`.
    images: Likewise.
    limits: What it may take.
    known: What was returned before: it stands if it is of the same family and
      limits, since latencies are never quite the same twice.

  Returns:
    `student`, the largest that fits; `candidates`, all that were measured; and
    what was asked for, `family` and `limits`.

  Raises:
    UsageError: none fits, or the network has no family.
  """
  names = families.family(name)
  asked = {'family': list(names), 'limits': dataclasses.asdict(limits)}
  if known is not None and {k: known.get(k) for k in asked} == asked:
    return known
  best, candidates = choose(names, spec, images, limits)
  return {
    **asked,
    'student': best.name,
    'candidates': [dataclasses.asdict(each) for each in candidates],
  }


def _line(candidate: Candidate) -> str:
  return (
    f'{candidate.name}, {candidate.parameters:,} parameters, '
    f'{candidate.bytes:,} bytes in int8, {candidate.latency_ms:.3f} ms'
  )
