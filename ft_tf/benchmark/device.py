"""A student on one image and one thread: LiteRT beside other runtimes."""

import statistics
import tempfile
from typing import Any

import keras
import numpy as np

from ft_tf.benchmark import flops, jobs, runtimes, workload
from ft_tf.export import formats, latency, partitions
from ft_tf.models import layers, zoo

_CALIBRATION = 16  # images; ONNX Runtime keeps all their maps at once
_COMPARED = 16  # images whose outputs are compared
# A convolution so large that what stands around it hardly counts.
_MAP_SIZE, _CHANNELS = 32, 128


def measure(job: jobs.Job, rounds: int) -> dict[str, Any]:
  """Measures a student, and one large convolution, in every runtime.

  Args:
    job: Its `student` and `image_size`.
    rounds: Number of measurements, each of 200 runs of fast networks.

  Returns:
    `student`, `image_size`; `gigaoperations` per image, a multiplication and an
    addition being two; `runtimes`, by name `p10_ms` and `p50_ms` of all runs,
    `speed_vs_litert_float32` (the median over rounds of the ratio of speeds,
    by p10), `difference` (mean distance of its outputs to Keras's over their
    standard deviation) and `gigaoperations_per_second`, by p10;
    `xnnpack_parts` by LiteRT's format; and `convolution`, the same figures of
    the convolution.
  """
  spec = layers.Spec(
    (job.image_size, job.image_size, 3),
    workload.CLASSES,
    (0.5,) * 3,
    (0.25,) * 3,
  )
  keras.utils.set_random_seed(0)
  student = workload.randomize_batch_norm(zoo.build(job.student, spec))
  return {
    'student': job.student,
    'image_size': job.image_size,
    **_measure_model(student, rounds),
    'convolution': _measure_model(_convolution(), rounds),
  }


def _convolution() -> keras.Model:
  """Returns a model of one convolution, whose map is averaged."""
  image = keras.Input(
    (_MAP_SIZE, _MAP_SIZE, _CHANNELS), dtype='uint8', name='image'
  )
  x = keras.ops.cast(image, 'float32')
  x = keras.layers.Conv2D(_CHANNELS, 3, padding='same', name='convolution')(x)
  x = keras.layers.GlobalAveragePooling2D()(x)
  return keras.Model(image, x, name='convolution')


def _measure_model(model: keras.Model, rounds: int) -> dict[str, Any]:
  rng = np.random.default_rng(0)
  images = rng.integers(
    256, size=(_CALIBRATION, *model.input_shape[1:]), dtype=np.uint8
  )
  operations = sum(flops.count_by_layer(model)) / 1e9
  expected = model.predict(images[:_COMPARED], verbose=0)
  with tempfile.TemporaryDirectory() as folder:
    runners = list(runtimes.open_all(formats.Source(model, images), folder))
    differences = [
      np.abs(runner.predict(images[:_COMPARED]) - expected).mean()
      / expected.std()
      for runner in runners
    ]
    taken = [
      latency.in_turn([runner.invoke for runner in runners])
      for _ in range(rounds)
    ]
    parts = {
      name: partitions.partitions(
        f'{folder}/{formats.FORMATS[name].file}'
      ).parts
      for name in formats.DEFAULT
    }
  least = [[np.percentile(each, 10) for each in turn] for turn in taken]
  figures = {}
  for number, runner in enumerate(runners):
    seconds = np.concatenate([turn[number] for turn in taken])
    p10, p50 = np.percentile(seconds, [10, 50])
    figures[runner.name] = {
      'p10_ms': round(1000 * float(p10), 4),
      'p50_ms': round(1000 * float(p50), 4),
      'speed_vs_litert_float32': statistics.median(
        float(each[0] / each[number]) for each in least
      ),
      'difference': float(differences[number]),
      'gigaoperations_per_second': operations / float(p10),
    }
  return {
    'gigaoperations': operations,
    'xnnpack_parts': parts,
    'runtimes': figures,
  }


def to_markdown(results: dict[str, Any]) -> str:
  """Returns the figures of `measure` as Markdown."""
  size = results['image_size']
  parts = ', '.join(
    f'{count} in {name}' for name, count in results['xnnpack_parts'].items()
  )
  return '\n\n'.join(
    [
      f'{results["student"]}, {size}x{size}, one image, one thread, '
      f'{results["gigaoperations"]:.3g} G operations; XNNPACK parts: {parts}',
      _table(results),
      f'One convolution of 3x3, {_CHANNELS} channels, {_MAP_SIZE}x{_MAP_SIZE}',
      _table(results['convolution']),
    ]
  )


def _table(figures):
  lines = [
    '| | p10 ms | p50 ms | speed | G operations/s | difference |',
    '|---|---:|---:|---:|---:|---:|',
  ]
  lines += [
    f'| {name} | {each["p10_ms"]:.3f} | {each["p50_ms"]:.3f} '
    f'| {each["speed_vs_litert_float32"]:.2f} '
    f'| {each["gigaoperations_per_second"]:,.0f} '
    f'| {each["difference"]:.2g} |'
    for name, each in figures['runtimes'].items()
  ]
  return '\n'.join(lines)
