"""How long a run takes here, and what memory, from a few steps of each part.

Nothing is written to the run's folder.
"""

import dataclasses
import resource
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from ft_tf import arms, findings, recipes, rehearsal, specs, teachers
from ft_tf import workshop as workshops
from ft_tf.data import datasets, memory, sampling, views
from ft_tf.export import forecast, formats
from ft_tf.models import onnx_models
from ft_tf.progress import reporter
from ft_tf.training import precision

# What the speed of the input is measured on, and for how long at most.
_BATCHES = 16
_INPUT_SECONDS = 5.0
_CONVERTED = 64  # training images that an export is timed with


def estimate(
  recipe: recipes.Recipe,
  *,
  devices: tf.distribute.Strategy,
  workshop: workshops.Workshop,
  given: teachers.Teacher | None = None,
  seeds: int = 1,
  baseline: bool = False,
  has_linear_head: bool = False,
  files: int = len(formats.DEFAULT),
  checks: float = 0.0,
) -> Iterator[findings.Finding]:
  """Yields the time of all parts, from a few real steps, and the memory.

  Args:
    recipe: What is to be run.
    devices: Those that are measured.
    workshop: As of `rehearsal.rehearse`.
    given: Likewise.
    seeds: As of `compression.compress`.
    baseline: Likewise.
    has_linear_head: As of `doctor.examine`.
    files: Number of files of `formats.FORMATS` that are exported.
    checks: Seconds that the checks before training take.

  Raises:
    TrainingError: a stage fails.
  """
  methods = [
    recipe.student.method,
    *([recipes.SCRATCH] * baseline),
    *([recipes.LINEAR_HEAD] * has_linear_head),
  ]
  parts = rehearsal.rehearse(
    recipe,
    devices=devices,
    workshop=workshop,
    chosen=arms.make(dict.fromkeys(methods), {}),
    seeds=seeds,
    given=given,
  )
  seconds = 0.0
  for part in parts:
    yield _time_of_stage(part)
    seconds += part['seconds']
    method = part['part']
    if method in (recipe.student.method, recipes.SCRATCH) and recipe.qat.epochs:
      # A step in int8 takes what a step of the student takes.
      qat = recipe.qat.epochs * part['images_per_epoch']
      seconds += qat / part['images_per_second']
  dataset = workshop.open_dataset()
  progress = reporter.Progress(mode=workshop.options.progress)
  # A line now and then: to convert a large network takes long.
  with progress.part('', 'rehearsal of the exports') as running:
    exports = _seconds_of_exports(
      recipe, dataset, given, running, baseline=baseline, files=files
    )
  yield findings.Finding(
    'time of the exports',
    f'about {exports / 60:.1f} minutes: each file is measured on the '
    f'{len(dataset.test):,} test images, and the layers are studied in int8',
    '--formats, --test_split',
  )
  yield findings.Finding(
    'time in all',
    f'about {(seconds + exports + checks) / 60:.1f} minutes on this machine, '
    'if nothing else runs on it',
    '--student_epochs, --seeds',
  )
  yield _measure_input(
    recipe,
    dataset,
    max(part['images_per_second'] for part in parts),
  )
  peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
  yield findings.Finding(
    'memory',
    f'{peak / 2**30:.1f} GiB at most in these steps, of '
    f'{memory.total_bytes() / 2**30:.1f} GiB here',
    '--batch_size',
  )


def _time_of_stage(part: dict[str, Any]) -> findings.Finding:
  """Returns the time of one line of the plan, as of `rehearsal.rehearse`."""
  name = part['part'].partition('/')[0].removesuffix('s')
  stage = name if name in ('teacher', 'paraphraser') else 'student'
  what = {recipes.SCRATCH: ' baseline', recipes.LINEAR_HEAD: "'s linear head"}
  seconds = part['images_per_epoch'] / part['images_per_second']
  return findings.Finding(
    f'time of the {stage}{what.get(name, "")}',
    f'{seconds:.1f} s per epoch at '
    f'{part["images_per_second"]:,.0f} images/s, '
    f'{part["seconds"] / 60:.1f} minutes in all'
    + f', of {part["runs"]} seeds'
    * (part['runs'] > 1),
    f'--{stage}_epochs',
  )


def _seconds_of_exports(
  recipe: recipes.Recipe,
  dataset: datasets.Dataset,
  given: teachers.Teacher | None,
  part: reporter.Running,
  *,
  baseline: bool,
  files: int,
) -> float:
  """Returns what the exports of student, teacher and baseline take."""
  in_float32 = dataclasses.replace(
    precision.settle(recipe), precision='float32'
  )
  seen = specs.student_dataset(recipe, dataset)
  part.announce('a conversion of the student')
  student = forecast.of_student(
    specs.build_student(in_float32, dataset), _sample(seen)
  )
  train, test = len(dataset.train), len(dataset.test)
  seconds = student.seconds(train=train, test=test, files=files)
  if baseline:
    # Its layers are not studied.
    alone = dataclasses.replace(student, switched=0)
    seconds += alone.seconds(
      train=train, test=test, files=len(formats.COMPARED), serves=False
    )
  teacher = teachers.network(in_float32, dataset, given)
  if not onnx_models.holds(teacher):
    part.announce('the teacher on some images')
    compared = forecast.of_compared(teacher, _sample(dataset), student)
    seconds += compared.seconds(
      train=train, test=test, files=len(formats.COMPARED), serves=False
    )
  return seconds


def _sample(dataset: datasets.Dataset) -> np.ndarray:
  return sampling.sample(dataset.train, _CONVERTED).images[:]


def _measure_input(
  recipe: recipes.Recipe, dataset: datasets.Dataset, fastest: float
) -> findings.Finding:
  """Returns how fast images are read and augmented, without any network.

  Args:
    recipe: What is to be run.
    dataset: The images.
    fastest: Images per second of the fastest stage.
  """
  data = recipe.data
  stream = views.stream(
    dataset.every, data, seed=recipe.seed, first_step=0, last_step=_BATCHES
  )
  batches = iter(stream)
  next(batches)  # This makes the graph.
  start, count = time.monotonic(), 0
  for _ in batches:
    count += data.batch_size
    if time.monotonic() - start > _INPUT_SECONDS:
      break
  speed = count / (time.monotonic() - start)
  return findings.Finding(
    'input',
    f'{speed:,.0f} images/s are read and augmented, if nothing else is done; '
    f'the fastest stage takes {fastest:,.0f} images/s, '
    f'{fastest / speed:.0%} of that',
    '--image_size, --resizing',
  )
